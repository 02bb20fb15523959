"""Which frames a model sees, and how its answers become one row; with a model whose answers are easy to work out."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from PIL import Image

from stcanet_runtime.errors import ImageError, OptionError, ShapeError
from stcanet_runtime.inference.tracklets import Sampling, cut_clips, embed_tracklets
from stcanet_runtime.preprocess import load_image

DIM = 5


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ("a", ["aaaa"]),
        ("abc", ["abca"]),
        ("abcd", ["abcd"]),
        ("abcde", ["abcd", "eabc"]),
        ("abcdefgh", ["abcd", "efgh"]),
    ],
)
def test_all_frames_in_consecutive_clips_filled_by_the_first_frames(frames: str, expected: list[str]) -> None:
    assert ["".join(frames[index] for index in clip) for clip in cut_clips(len(frames), 4)] == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, [0, 0, 0, 0]),
        (3, [0, 1, 2, 0]),
        (4, [0, 1, 2, 3]),
        (6, [0, 1, 2, 3]),
        (7, [0, 2, 4, 6]),
        (13, [0, 4, 8, 12]),
        (24, [0, 4, 8, 12]),
        (25, [0, 8, 16, 24]),
        (900, [0, 8, 16, 24]),
    ],
)
def test_quick_takes_the_first_frames_at_the_largest_stride_that_fits(count: int, expected: list[int]) -> None:
    assert cut_clips(count, 4, "quick").tolist() == [expected]


def test_a_model_of_single_images_sees_each_frame_once() -> None:
    assert cut_clips(3, 1).tolist() == [[0], [1], [2]]
    assert cut_clips(3, 1, "quick").tolist() == [[0]]


@pytest.mark.parametrize("changes", [{"frames": "some"}, {"clip_length": 0}])
def test_options_out_of_range(changes: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        Sampling(**changes)  # type: ignore[arg-type]


def test_the_length_of_a_clip() -> None:
    assert Sampling().length(4) == 4
    assert Sampling(clip_length=6).length(4) == 6
    assert Sampling().length(None) == 1
    assert Sampling(clip_length=4).length(4, dynamic=False) == 4
    with pytest.raises(OptionError, match="single images"):
        Sampling(clip_length=4).length(None)
    with pytest.raises(OptionError, match="exactly"):
        Sampling(clip_length=6).length(4, dynamic=False)


class Model:
    """Its feature of a clip is a fixed projection of the mean frame, squared, so that the mean does not pass through it."""

    def __init__(self) -> None:
        self.weights = np.random.default_rng(0).standard_normal((12, DIM))
        self.batches: list[tuple[int, ...]] = []
        self.reads = 0
        self.lock = threading.Lock()

    def read(self, image: object) -> NDArray[np.uint8]:
        with self.lock:
            self.reads += 1
        if image == "broken":
            raise ImageError("broken.jpg", "no image")
        return np.random.default_rng(int(str(image))).integers(0, 256, (2, 2, 3), dtype=np.uint8)

    def features(self, clips: NDArray[np.uint8]) -> NDArray[np.float64]:
        values = clips.astype(np.float64).mean(axis=1).reshape(len(clips), -1) / 255
        projected: NDArray[np.float64] = (values - 0.5) @ self.weights
        return projected * np.abs(projected)

    def embed(self, clips: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.batches.append(clips.shape)
        features = self.features(clips)
        norms = np.linalg.norm(features, axis=1)
        return (features / norms[:, None]).astype(np.float32), norms.astype(np.float32)

    def run(self, lengths: list[int], sampling: Sampling, batch_size: int = 8) -> NDArray[np.float32]:
        starts = np.cumsum([0, *lengths])
        tracklets = [list(map(str, range(start, start + length))) for start, length in zip(starts, lengths, strict=False)]
        return embed_tracklets(tracklets, self.read, self.embed, DIM, sampling, batch_size)


LENGTHS = [1, 4, 5, 30, 3, 12, 7]


def by_hand(lengths: list[int], length: int, flip: bool = False) -> NDArray[np.float64]:
    """The published procedure, one tracklet at a time."""
    model, rows, start = Model(), [], 0
    for count in lengths:
        frames = np.stack([model.read(str(start + index)) for index in range(count)])
        padded = np.concatenate([frames] * length)[: -(-count // length) * length]
        views = [padded, padded[:, :, ::-1]] if flip else [padded]
        means = [
            np.mean([model.features(view[i : i + length][None])[0] for i in range(0, len(view), length)], axis=0)
            for view in views
        ]
        row = sum(mean / np.linalg.norm(mean) for mean in means)
        rows.append(row / np.linalg.norm(row))
        start += count
    return np.stack(rows)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("length", [1, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 8, 12, 1000])
def test_every_batch_size_gives_the_published_mean(length: int, batch_size: int, flip: bool) -> None:
    rows = Model().run(LENGTHS, Sampling("all", length, flip), batch_size)
    assert rows.dtype == np.float32
    assert_allclose(rows, by_hand(LENGTHS, length, flip), atol=2e-6)


def test_without_norms_unit_embeddings_are_averaged() -> None:
    model = Model()
    expected = np.mean([model.embed(model.read(str(frame))[None, None])[0][0] for frame in range(3)], axis=0)
    rows = embed_tracklets(
        [["0", "1", "2"]], model.read, lambda clips: (model.embed(clips)[0], None), DIM, Sampling("all", 1), 2
    )
    assert_allclose(rows[0], expected / np.linalg.norm(expected), atol=1e-6)


def test_batches_keep_to_the_budget_and_mix_tracklets() -> None:
    model = Model()
    model.run(LENGTHS, Sampling("all", 4), batch_size=15)
    clips = sum(-(-length // 4) for length in LENGTHS)
    assert [shape[:2] for shape in model.batches] == [(3, 4)] * (clips // 3) + [(clips % 3, 4)] * (clips % 3 > 0)


def test_a_frame_that_is_repeated_in_a_batch_is_read_once() -> None:
    model = Model()
    model.run([1, 1, 1], Sampling("all", 4), batch_size=100)
    assert model.reads == 3


def test_progress_counts_clips() -> None:
    model, steps = Model(), []
    tracklets = [["0"] * 9, ["1"]]
    embed_tracklets(tracklets, model.read, model.embed, DIM, Sampling("all", 4), 8, lambda *step: steps.append(step))
    assert steps == [(2, 4), (4, 4)]


def test_nothing_gives_no_rows() -> None:
    assert Model().run([], Sampling("all", 4)).shape == (0, DIM)


def test_a_frame_that_cannot_be_read_is_named() -> None:
    model = Model()
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        embed_tracklets([["0", "broken"], ["1"]], model.read, model.embed, DIM, Sampling("all", 2), 2)
    with pytest.raises(OptionError, match="batch_size"):
        model.run([1], Sampling("all", 2), batch_size=0)


def test_a_frame_without_a_name_is_told_by_its_place(tmp_path: Path) -> None:
    model, good, grey = Model(), np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-500])
    read = partial(load_image, color="rgb")
    with pytest.raises(ShapeError, match=r"^tracklets\[1\]\[2\]: an image array must be"):
        embed_tracklets([[good], [good, good, grey]], read, model.embed, DIM, Sampling("all", 1), 2)
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(ImageError, match=r"image tracklets\[0\]\[1\], given as a PIL"):
        embed_tracklets([[good, cut]], read, model.embed, DIM, Sampling("all", 1), 2)
