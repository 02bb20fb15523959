"""A growing track has, after every crop, the embedding that its crops have as a finished tracklet."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from stcanet_runtime import Encoder, ImageError, OptionError, ShapeError, TrackletBuffer

MakeCrop = Callable[..., NDArray[np.uint8]]
TOLERANCE = 1e-6


@pytest.fixture(params=["package", "clip_package"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    package: Path = request.getfixturevalue(request.param)
    return Encoder.load(package, "cpu", threads=1, batch_sizes=(1, 3))


@pytest.fixture
def frames(make_crop: MakeCrop) -> list[NDArray[np.uint8]]:
    """Eleven crops whose features have different lengths."""
    return [make_crop(seed) // (1 + seed % 4) for seed in range(11)]


@pytest.mark.parametrize("every", [1, 3])
def test_after_every_crop_as_encode_tracklets(encoder: Encoder, frames: list[NDArray[np.uint8]], every: int) -> None:
    buffer = TrackletBuffer(encoder, every=every, ready_after=1)
    for count, frame in enumerate(frames, 1):
        buffer.add("a", frame, "rgb")
        expected = encoder.encode_tracklets([frames[:count:every]], "rgb")[0]
        for _ in range(2):  # the second answer is a stored one
            assert_allclose(buffer.embeddings()["a"], expected, atol=TOLERANCE)


def test_tracks_do_not_mix(encoder: Encoder, frames: list[NDArray[np.uint8]]) -> None:
    buffer = TrackletBuffer(encoder, ready_after=1)
    tracks = {name: frames[name:] for name in range(5)}
    for step in range(len(frames)):
        for name, crops in tracks.items():
            if step < len(crops):
                buffer.add(name, crops[step], "rgb")
    expected = encoder.encode_tracklets(list(tracks.values()), "rgb")
    found = buffer.embeddings()
    assert_allclose([found[name] for name in tracks], expected, atol=TOLERANCE)
    assert_array_equal(buffer.embeddings([3, "unknown"])[3], found[3])


def test_ready_after_a_clip(encoder: Encoder, frames: list[NDArray[np.uint8]]) -> None:
    buffer, length = TrackletBuffer(encoder), encoder.manifest.input.clip_length or 1
    for count in range(1, 6):
        buffer.add(1, frames[count], "rgb")
        assert list(buffer.embeddings()) == ([1] if count >= length else [])


def test_memory_of_a_long_track_is_two_clips(encoder: Encoder, frames: list[NDArray[np.uint8]]) -> None:
    buffer, length = TrackletBuffer(encoder), encoder.manifest.input.clip_length or 1
    for number in range(60):
        buffer.add(1, frames[number % 11], "rgb")
        track = buffer._tracks[1]
        assert len(track.first) + len(track.last) < 2 * length + 1
        assert len(buffer._full) < 3
    assert track.kept == 60


def test_boxes_of_a_frame(encoder: Encoder, make_crop: MakeCrop) -> None:
    frame, boxes = make_crop(height=60, width=80), [[0, 0, 20, 40], [90, 0, 99, 9], [30, 5, 60, 60]]
    buffer = TrackletBuffer(encoder, ready_after=1)
    assert buffer.add_boxes(frame, boxes, "rgb", tracks=["a", "b", "c"]).tolist() == [True, False, True]
    assert buffer.tracks == ["a", "c"]
    expected = encoder.encode_tracklets([[frame[:40, :20]], [frame[5:60, 30:60]]], "rgb")
    assert_allclose(list(buffer.embeddings().values()), expected, atol=TOLERANCE)
    with pytest.raises(ShapeError, match="tracks must be as many as boxes, 3; got 2"):
        buffer.add_boxes(frame, boxes, "rgb", tracks=["a", "b"])


def test_forgotten_tracks_begin_anew(encoder: Encoder, frames: list[NDArray[np.uint8]]) -> None:
    buffer = TrackletBuffer(encoder, ready_after=1)
    for frame in frames[:5]:
        buffer.add(1, frame, "rgb")
    buffer.forget(1)
    buffer.forget("unknown")
    assert buffer.tracks == []
    assert buffer.embeddings() == {}
    buffer.add(1, frames[7], "rgb")
    assert_allclose(buffer.embeddings()[1], encoder.encode_tracklets([[frames[7]]], "rgb")[0], atol=TOLERANCE)


def test_several_threads(encoder: Encoder, frames: list[NDArray[np.uint8]]) -> None:
    buffer = TrackletBuffer(encoder, ready_after=1)

    def follow(name: int) -> None:
        for frame in frames:
            buffer.add(name, frame, "rgb")
            assert name in buffer.embeddings([name])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(follow, range(6)))
    expected = encoder.encode_tracklets([frames], "rgb")[0]
    assert_allclose(list(buffer.embeddings().values()), [expected] * 6, atol=TOLERANCE)


def test_what_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    for options, name in (({"every": 0}, "every"), ({"ready_after": 0}, "ready_after")):
        with pytest.raises(OptionError, match=f"{name} must be at least 1"):
            TrackletBuffer(encoder, **options)
    buffer = TrackletBuffer(encoder)
    with pytest.raises(ImageError):
        buffer.add(1, tmp_path / "none.png")
    assert buffer.tracks == []
