"""A growing track has, after every crop, the embedding that its crops have as a finished tracklet."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from stcanet_runtime import Encoder, ImageError, OptionError, PackageError, ShapeError, TrackletBuffer

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


def test_an_answer_makes_no_more_clips_than_a_run_takes(
    clip_package: Path, frames: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.load(clip_package, "cpu", threads=1, batch_sizes=(1, 3))
    buffer, made, runs = TrackletBuffer(encoder, ready_after=1), [0], list[tuple[int, int]]()
    fill_up, embed_clips = buffer._fill_up, encoder.embed_clips

    def count(track: Any) -> NDArray[np.uint8]:
        made[0] += 1
        return fill_up(track)

    def embed(clips: NDArray[np.uint8]) -> Any:
        runs.append((made[0], len(clips)))
        return embed_clips(clips)

    monkeypatch.setattr(buffer, "_fill_up", count)
    monkeypatch.setattr(encoder, "embed_clips", embed)
    for name, frame in enumerate(frames[:8]):
        buffer.add(name, frame, "rgb")
    found = buffer.embeddings()
    assert runs == [(3, 3), (6, 3), (8, 2)]
    assert_allclose(list(found.values()), encoder.encode_tracklets([[one] for one in frames[:8]], "rgb"), atol=TOLERANCE)


def test_boxes_of_a_frame(encoder: Encoder, make_crop: MakeCrop) -> None:
    frame, boxes = make_crop(height=60, width=80), [[0, 0, 20, 40], [90, 0, 99, 9], [30, 5, 60, 60]]
    buffer = TrackletBuffer(encoder, ready_after=1)
    assert buffer.add_boxes(frame, boxes, "rgb", tracks=["a", "b", "c"]).tolist() == [True, False, True]
    assert buffer.tracks == ["a", "c"]
    expected = encoder.encode_tracklets([[frame[:40, :20]], [frame[5:60, 30:60]]], "rgb")
    assert_allclose(list(buffer.embeddings().values()), expected, atol=TOLERANCE)
    with pytest.raises(ShapeError, match="tracks must be as many as boxes, 3; got 2"):
        buffer.add_boxes(frame, boxes, "rgb", tracks=["a", "b"])


class Tensor:
    """As one of PyTorch: its elements are objects of their own each time, and equal as keys to nothing."""

    def __init__(self, values: list[float]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> Tensor:
        return Tensor([self._values[index]])

    def tolist(self) -> list[float]:
        return self._values


def test_track_ids_in_a_tensor_count_by_value(encoder: Encoder, make_crop: MakeCrop) -> None:
    buffer = TrackletBuffer(encoder)
    for _ in range(2):  # as the ids of Ultralytics' tracker come
        buffer.add_boxes(make_crop(), [[0, 0, 9, 9], [5, 5, 20, 40]], "bgr", tracks=Tensor([7.0, 9.0]))  # type: ignore[arg-type]
    assert buffer.tracks == [7, 9]


def test_forgotten_tracks_begin_anew(encoder: Encoder, frames: list[NDArray[np.uint8]]) -> None:
    buffer = TrackletBuffer(encoder, ready_after=1)
    for frame in frames[:5]:
        buffer.add(1, frame, "rgb")
        buffer.add(2, frame, "rgb")
    buffer.forget(1)
    assert_allclose(buffer.embeddings()[2], encoder.encode_tracklets([frames[:5]], "rgb")[0], atol=TOLERANCE)
    buffer.forget(2)
    buffer.forget("unknown")
    assert buffer.tracks == []
    assert buffer.embeddings() == {}
    buffer.add(1, frames[7], "rgb")
    assert_allclose(buffer.embeddings()[1], encoder.encode_tracklets([[frames[7]]], "rgb")[0], atol=TOLERANCE)


def test_a_crop_does_not_keep_those_beside_it(encoder: Encoder, make_crop: MakeCrop, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer, given, right = TrackletBuffer(encoder), list[weakref.ref[NDArray[np.uint8]]](), encoder.crop_boxes

    def crop_boxes(*options: Any) -> Any:
        crops, valid = right(*options)
        given.append(weakref.ref(crops))
        return crops, valid

    monkeypatch.setattr(encoder, "crop_boxes", crop_boxes)
    buffer.add_boxes(make_crop(), [[0, 0, 9, 9], [5, 5, 20, 40]], "bgr", tracks=[7, 9])
    assert given[0]() is None


class Refusing:
    """An encoder whose model gives no numbers for crops that are all white, as half precision may."""

    def __init__(self, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
        self._right = encoder.embed_batch
        monkeypatch.setattr(encoder, "embed_batch", self.embed_batch)

    def embed_batch(self, batch: NDArray[np.uint8]) -> Any:
        if (batch.reshape(-1, *batch.shape[-3:]) == 255).all(axis=(1, 2, 3)).any():
            raise PackageError("the model gave embeddings that are not finite")
        return self._right(batch)


WHITE = np.full((40, 20, 3), 255, np.uint8)


@pytest.mark.parametrize("bad", range(6))
def test_a_clip_that_cannot_be_embedded_is_left_out(
    encoder: Encoder, frames: list[NDArray[np.uint8]], bad: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Refusing(encoder, monkeypatch)
    buffer, length = TrackletBuffer(encoder, ready_after=1), encoder.manifest.input.clip_length or 1
    crops = [*frames[:bad], WHITE, *frames[bad + 1 :]]
    said = []
    for crop in crops:
        for name, one in ((1, frames[0]), ("bad", crop), (2, frames[3])):
            try:
                buffer.add(name, one, "rgb")
            except PackageError as error:
                said.append(str(error))
    assert len(buffer._full) < 3
    try:
        found = buffer.embeddings()
    except PackageError as error:
        said.append(str(error))
        found = buffer.embeddings()
    assert said == ["a clip is left out, of the track 'bad': the model gave embeddings that are not finite"]
    start = bad // length * length
    expected = [frames[:1] * 11, crops[:start] + crops[start + length :], frames[3:4] * 11]
    assert_allclose([found[name] for name in (1, "bad", 2)], encoder.encode_tracklets(expected, "rgb"), atol=TOLERANCE)


def test_a_track_that_is_forgotten_has_no_faults(
    encoder: Encoder, frames: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    Refusing(encoder, monkeypatch)
    buffer, length = TrackletBuffer(encoder), encoder.manifest.input.clip_length or 1
    for _ in range(length):
        buffer.add("bad", WHITE, "rgb")
        buffer.add("good", frames[0], "rgb")
    buffer.forget("bad")
    assert list(buffer.embeddings()) == ["good"]


def test_the_first_crops_are_those_of_a_clip_that_was_embedded(
    clip_package: Path, frames: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.load(clip_package, "cpu", threads=1, batch_sizes=(1, 8))
    Refusing(encoder, monkeypatch)
    buffer = TrackletBuffer(encoder)
    for crop in (WHITE, *frames[:9]):  # of two clips that are full the first cannot be
        buffer.add(1, crop, "rgb")
    with pytest.raises(PackageError, match="of the track 1: "):
        buffer.embeddings()
    assert_allclose(buffer.embeddings()[1], encoder.encode_tracklets([frames[3:9]], "rgb")[0], atol=TOLERANCE)


def test_a_frame_is_added_whole_where_a_clip_cannot_be_embedded(
    package: Path, make_crop: MakeCrop, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.load(package, "cpu", threads=1, batch_sizes=(1, 2))
    Refusing(encoder, monkeypatch)
    frame, boxes = make_crop(height=60, width=80), [[20 * i, 0, 20 * i + 20, 40] for i in range(4)]
    frame[:40, 20:40] = 255
    buffer = TrackletBuffer(encoder)
    with pytest.raises(PackageError, match="of the track 'b': "):
        buffer.add_boxes(frame, boxes, "rgb", tracks=["a", "b", "c", "d"])
    expected = encoder.encode_tracklets([[frame[:40, left : left + 20]] for left in (0, 40, 60)], "rgb")
    found = buffer.embeddings()
    assert list(found) == ["a", "c", "d"]
    assert_allclose(list(found.values()), expected, atol=TOLERANCE)


def test_a_clip_that_grows_is_tried_again(
    clip_package: Path, frames: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.load(clip_package, "cpu", threads=1)
    Refusing(encoder, monkeypatch)
    buffer = TrackletBuffer(encoder, ready_after=1)
    buffer.add("good", frames[0], "rgb")
    buffer.add("bad", WHITE, "rgb")
    with pytest.raises(PackageError, match="of the track 'bad': "):
        buffer.embeddings()
    assert list(buffer.embeddings()) == ["good"]  # nothing is new: nothing is said
    for frame in frames[:3]:  # the clip is full, and over
        buffer.add("bad", frame, "rgb")
    buffer.add("bad", frames[5], "rgb")
    with pytest.raises(PackageError, match="of the track 'bad': "):
        buffer.embeddings()
    assert_allclose(buffer.embeddings()["bad"], encoder.encode_tracklets([[frames[5]]], "rgb")[0], atol=TOLERANCE)


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
