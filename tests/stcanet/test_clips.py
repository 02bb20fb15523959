"""Which frames make a clip."""

from __future__ import annotations

import numpy as np
import pytest

from stcanet.config import ClipConfig
from stcanet.data.clips import clip_frames
from stcanet_runtime.errors import OptionError


def draws(count: int, length: int = 4, times: int = 400, **settings: object) -> list[list[int]]:
    return [clip_frames(count, length, ClipConfig(**settings), (seed,)).tolist() for seed in range(times)]


@pytest.mark.parametrize("count", [32, 33, 100])
def test_long_tracklets_give_every_eighth_frame_from_any_start(count: int) -> None:
    clips = draws(count, times=2000)
    assert all(np.diff(clip).tolist() == [8, 8, 8] for clip in clips)
    assert {clip[0] for clip in clips} == set(range(count - 24))


@pytest.mark.parametrize("count", [5, 25, 31])
def test_shorter_ones_give_distinct_frames_in_order(count: int) -> None:
    clips = draws(count)
    assert all(clip == sorted(set(clip)) and clip[0] >= 0 and clip[-1] < count for clip in clips)
    assert {frame for clip in clips for frame in clip} == set(range(count))


def test_random_sampling_does_so_however_long_they_are() -> None:
    clips = draws(100, sampling="random")
    assert all(clip == sorted(set(clip)) for clip in clips)
    assert {frame for clip in clips for frame in clip} == set(range(100))


@pytest.mark.parametrize("sampling", ["stride", "random"])
def test_the_shortest_are_cycled(sampling: str) -> None:
    for count, expected in ((1, [0, 0, 0, 0]), (2, [0, 1, 0, 1]), (3, [0, 1, 2, 0]), (4, [0, 1, 2, 3])):
        assert draws(count, times=3, sampling=sampling) == [expected] * 3


def test_another_length_and_stride() -> None:
    assert all(np.diff(clip).tolist() == [3] * 5 for clip in draws(18, 6, stride=3))
    assert all(len(set(clip)) == 1 for clip in draws(9, 1))


def test_the_seed_decides() -> None:
    assert draws(50) == draws(50)
    assert len({tuple(clip) for clip in draws(50)}) > 10


@pytest.mark.parametrize("settings", [{"sampling": "dense"}, {"stride": 0}])
def test_settings_out_of_range(settings: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=next(iter(settings))):
        ClipConfig(**settings)
