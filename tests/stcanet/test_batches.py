"""The batches of an epoch."""

from __future__ import annotations

from pathlib import Path

import torch

from stcanet.config import make_config
from stcanet.data.datasets import load_dataset
from stcanet.engine.batches import TrainBatches


def test_what_follows_skipped_batches_is_the_same(people: Path) -> None:
    config = make_config(
        {"data": str(people), "preset": "stcanet-tiny", "model": {"height": 64, "width": 32}, "identities": 4, "instances": 2}
    )
    batches = TrainBatches(load_dataset(people).train, config, torch.device("cpu"))
    plan = batches.plan(2)
    whole, rest = list(batches.read(plan, 2)), list(batches.read(plan, 2, skip=3))
    assert len(plan) == len(whole) == len(rest) + 3 > 5
    for expected, batch in zip(whole[3:], rest, strict=True):
        assert torch.equal(expected.images, batch.images)
        assert torch.equal(expected.labels, batch.labels)
    assert not torch.equal(next(batches.read(batches.plan(3), 3)).images, whole[0].images)
