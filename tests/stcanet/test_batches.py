"""The batches of an epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from stcanet.config import TrainConfig, make_config
from stcanet.data.datasets import load_dataset
from stcanet.data.masks import save_indexed
from stcanet.engine.batches import Batch, TrainBatches

SMALL = {"preset": "stcanet-tiny", "model": {"height": 64, "width": 32}, "identities": 4, "instances": 2}


def first_batch(config: TrainConfig, epoch: int) -> Batch:
    batches = TrainBatches(load_dataset(config.data).train, config, torch.device("cpu"))
    return next(batches.read(batches.plan(epoch), epoch))


def test_the_first_epochs_are_of_half_the_size(people: Path) -> None:
    augment = {"flip": 0.0, "pad": 0, "erase": 0.0}
    half, whole = (make_config({"data": str(people), **SMALL, "augment": augment, "half_size_epochs": n}) for n in (1, 0))
    expected = torch.nn.functional.avg_pool2d(first_batch(whole, 1).images, 2)
    torch.testing.assert_close(first_batch(half, 1).images, expected)
    assert first_batch(half, 2).images.shape == (8, 3, 64, 32)


def test_masks_are_erased_where_the_settings_say_so(people: Path, tmp_path: Path) -> None:
    for sample in load_dataset(people).train:
        save_indexed(np.full((64, 32), 2, np.uint8), tmp_path / f"{sample.path.stem}.png")
    for erased in (False, True):
        augment = {"pad": 0, "erase": 1.0, "erase_masks": erased}
        batch = first_batch(make_config({"data": str(people), **SMALL, "masks": str(tmp_path), "augment": augment}), 1)
        gone = (batch.images == 0).all(dim=1)
        assert gone.any()
        assert torch.equal(batch.masks == 0, gone & erased)


def test_what_follows_skipped_batches_is_the_same(people: Path) -> None:
    config = make_config({"data": str(people), **SMALL})
    batches = TrainBatches(load_dataset(people).train, config, torch.device("cpu"))
    plan = batches.plan(2)
    whole, rest = list(batches.read(plan, 2)), list(batches.read(plan, 2, skip=3))
    assert len(plan) == len(whole) == len(rest) + 3 > 5
    for expected, batch in zip(whole[3:], rest, strict=True):
        assert torch.equal(expected.images, batch.images)
        assert torch.equal(expected.labels, batch.labels)
    assert not torch.equal(next(batches.read(batches.plan(3), 3)).images, whole[0].images)
