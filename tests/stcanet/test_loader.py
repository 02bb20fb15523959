"""Batches of crops and clips."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stcanet.config import ClipConfig
from stcanet.data.datasets import Sample
from stcanet.data.frames import FrameFiles
from stcanet.data.loader import BatchLoader, RawBatch, ahead, frame_paths, label_map
from stcanet.data.store import open_frames
from stcanet_runtime.arrays import UInt8Array
from stcanet_runtime.errors import DataError, ImageError

COUNTS = (40, 3, 1, 12)
PLAN = [[0, 1], [3, 2], [0, 0], [0, 3]]


@pytest.fixture
def tracklets(tmp_path: Path) -> list[Sample]:
    """Frame f of tracklet t is all (t, f, 0)."""
    samples = []
    for track, count in enumerate(COUNTS):
        frames = [tmp_path / f"{track}_{frame:03d}.png" for frame in range(count)]
        for frame, path in enumerate(frames):
            Image.new("RGB", (8, 16), (track, frame, 0)).save(path)
        samples.append(Sample(tuple(frames), 10 - track, 0))
    return samples


def loader(samples: list[Sample], clip_length: int | None = 4, cache: str = "memory", **settings: object) -> BatchLoader:
    labels = label_map(samples)
    frames = open_frames(FrameFiles(frame_paths(samples), 16, 8), cache)
    return BatchLoader(samples, [labels[sample.pid] for sample in samples], frames, clip_length, **settings)


def contents(batches: Iterator[RawBatch]) -> list[list[list[tuple[int, int]]]]:
    """(track, frame) of every frame of every clip of every batch."""
    return [[[tuple(frame[0, 0, :2].tolist()) for frame in clip] for clip in batch.crops] for batch in batches]


def test_clips_are_of_their_tracklets(tracklets: list[Sample]) -> None:
    batches = list(loader(tracklets).read(PLAN, 1))
    assert all(batch.crops.shape == (2, 4, 16, 8, 3) and batch.crops.dtype == torch.uint8 for batch in batches)
    assert [batch.labels.tolist() for batch in batches] == [[3, 2], [0, 1], [3, 3], [3, 0]]
    for clips, indices in zip(contents(iter(batches)), PLAN, strict=True):
        for clip, index in zip(clips, indices, strict=True):
            assert {track for track, _ in clip} == {index}
            steps = np.diff([frame for _, frame in clip]).tolist()
            assert steps == [8, 8, 8] if index == 0 else clip[0] != clip[-1] or index in (1, 2)
    assert [frame for _, frame in contents(iter(batches))[0][1]] == [0, 1, 2, 0]


@pytest.mark.parametrize("settings", [{"cache": "none"}, {"cache": "none", "workers": 2}, {"cache": "memory", "workers": 2}])
def test_neither_workers_nor_the_cache_change_a_batch(tracklets: list[Sample], settings: dict[str, object]) -> None:
    expected = contents(loader(tracklets).read(PLAN, 3))
    assert contents(loader(tracklets, **settings).read(PLAN, 3)) == expected


def test_workers_need_no_place_for_shared_memory(tracklets: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers have 64 MiB of it, and where it is full, a tensor that a worker has read never arrives."""
    monkeypatch.setitem(ForkingPickler._extra_reducers, torch.Tensor, lambda _: os.kill(os.getpid(), signal.SIGKILL))
    plan = [[0, 1], [3], [2, 0, 1], *PLAN * 3]  # more than may be on their way, of several sizes
    expected = contents(loader(tracklets).read(plan, 1))
    assert contents(loader(tracklets, cache="none", workers=2).read(plan, 1)) == expected


def test_a_worker_that_is_killed_ends_the_reading(tracklets: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    batches = loader(tracklets, cache="none", workers=1)
    own, read = os.getpid(), FrameFiles.take

    def take(frames: FrameFiles, rows: UInt8Array) -> UInt8Array:
        assert os.getpid() != own
        if 40 in rows:  # the first frame of the second tracklet, in the first batch only
            os.kill(os.getpid(), signal.SIGKILL)
        return read(frames, rows)

    monkeypatch.setattr(FrameFiles, "take", take)
    with pytest.raises(DataError, match="a process that reads images was killed"):
        list(batches.read(PLAN, 1))


def test_a_batch_does_not_depend_on_those_before_it(tracklets: list[Sample]) -> None:
    assert contents(loader(tracklets).read(PLAN[2:], 3)) == contents(loader(tracklets).read(PLAN, 3))[2:]


def test_seed_epoch_and_repetition_change_the_clip(tracklets: list[Sample]) -> None:
    starts = {contents(loader(tracklets, seed=seed).read([[0]], epoch))[0][0][0] for seed in range(4) for epoch in range(4)}
    assert len(starts) > 6
    # A tracklet that stands for four in one batch shows different frames.
    assert len({clip[0] for clip in contents(loader(tracklets).read([[0] * 4], 1))[0]}) > 1


def test_the_strategy_is_passed_on(tracklets: list[Sample]) -> None:
    clips = contents(loader(tracklets, clips=ClipConfig("random")).read([[0]] * 3, 1))
    assert np.diff([frame for _, frame in clips[0][0]]).tolist() != [8, 8, 8]


def test_crops_of_tracklets_are_any_of_their_frames(tracklets: list[Sample]) -> None:
    batches = [batch.crops for epoch in range(60) for batch in loader(tracklets, None).read([[3, 2]], epoch)]
    assert batches[0].shape == (2, 16, 8, 3)
    assert {int(batch[0, 0, 0, 1]) for batch in batches} == set(range(12))


def test_random_numbers_of_the_caller_are_left_alone(tracklets: list[Sample]) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    list(loader(tracklets, cache="none", workers=1).read(PLAN, 1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read(tracklets: list[Sample], workers: int) -> None:
    batches = loader(tracklets, cache="none", workers=workers)
    tracklets[1].frames[0].write_bytes(b"")
    with pytest.raises(ImageError, match=r"1_000\.png"):
        list(batches.read(PLAN, 1))


def test_reading_ahead_keeps_order_and_stops_with_its_user() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    assert list(ahead(iter(range(7)))) == list(range(7))
    assert list(ahead(iter(()))) == []
    taken = ahead(numbers())
    assert [next(taken), next(taken)] == [0, 1]
    taken.close()
    assert len(made) <= 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stcanet-loader")]


def test_labels_follow_the_identities_in_order() -> None:
    assert label_map([Sample((Path("a"),), pid, 0) for pid in (7, 3, 7, 100)]) == {3: 0, 7: 1, 100: 2}
