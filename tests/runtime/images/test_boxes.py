"""Boxes of frames in every layout become crops: the kernels give Pillow's bits, and no box does harm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image
from random_frames import random_boxes, random_frame

from stcanet_runtime import OptionError, ShapeError, backends, resize
from stcanet_runtime.images.boxes import clip_boxes, crop_boxes
from stcanet_runtime.images.frames import FORMATS, as_frame

UInt8Array = NDArray[np.uint8]


def resize_boxes(implementation: Any, *args: Any) -> UInt8Array:
    crops: UInt8Array = implementation.bind("resize_boxes")(*args)
    return crops


@pytest.mark.parametrize("format", FORMATS)
def test_every_backend_gives_the_bits_of_pillow(implementation: Any, format: str) -> None:
    rng = np.random.default_rng(FORMATS.index(format))
    for _ in range(12):
        height, width = (int(n) for n in rng.integers(1, 150, 2))
        frame, boxes = random_frame(rng, format, height, width), random_boxes(rng, 8, height, width)
        size = tuple(int(n) for n in rng.integers(1, 80, 2))
        crops = resize_boxes(implementation, frame, boxes, *size)
        expected = [resize(np.ascontiguousarray(frame.crop(*box)), *size) for box in boxes.tolist()]
        assert_array_equal(crops, expected)


@settings(max_examples=150)
@given(*(st.integers(1, 90) for _ in range(4)), st.integers(0, 2**32))
def test_kernel_is_pillow_over_sizes(compiled: Any, height: int, width: int, rows: int, columns: int, seed: int) -> None:
    frame = as_frame(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8), "rgb")
    crop = compiled.resize_boxes(frame, np.array([[0, 0, width, height]]), rows, columns)[0]
    assert_array_equal(crop, resize(frame.planes[0], rows, columns))


def test_values_that_overshoot_are_clipped(implementation: Any) -> None:
    board = (np.indices((40, 40)) // 4).sum(axis=0) % 2 * np.uint8(255)
    image = np.repeat(board[:, :, None], 3, axis=2).astype(np.uint8)
    crop = resize_boxes(implementation, as_frame(image, "rgb"), np.array([[0, 0, 40, 40]]), 67, 53)[0]
    assert_array_equal(crop, resize(image, 67, 53))
    assert crop.min() == 0
    assert crop.max() == 255


def test_threads_share_the_boxes(implementation: Any) -> None:
    rng = np.random.default_rng(0)
    frame, boxes = random_frame(rng, "bgr", 90, 120), random_boxes(rng, 33, 90, 120)
    one = implementation.bind("resize_boxes", threads=1)(frame, boxes, 32, 16)
    assert_array_equal(implementation.bind("resize_boxes", threads=3)(frame, boxes, 32, 16), one)


@pytest.mark.parametrize("format", ["nv12", "i420"])
def test_stacked_planes_are_the_planes(format: str) -> None:
    stacked = np.random.default_rng(1).integers(0, 256, (30, 12), dtype=np.uint8)  # H = 20: 10 rows of chroma
    luma, chroma = stacked[:20], stacked[20:]
    planes = [luma, chroma] if format == "nv12" else [luma, *chroma.reshape(2, 10, 6)]
    whole = (0, 0, 12, 20)
    assert_array_equal(as_frame(stacked, format).crop(*whole), as_frame(planes, format).crop(*whole))
    padded = np.zeros((30, 20), np.uint8)
    padded[:, :12] = stacked
    assert_array_equal(as_frame(padded[:, :12], format).crop(*whole), as_frame(stacked, format).crop(*whole))


def test_studio_range_of_bt601() -> None:
    """Black, white and the primaries; from the standard, not from the code."""
    levels = {(16, 128, 128): (0, 0, 0), (235, 128, 128): (255, 255, 255), (81, 90, 240): (254, 0, 0)}
    levels |= {(145, 54, 34): (0, 255, 1), (41, 240, 110): (0, 0, 255), (0, 128, 128): (0, 0, 0)}
    for (y, u, v), expected in levels.items():
        planes = [np.full(shape, value, np.uint8) for shape, value in (((2, 2), y), ((1, 1), u), ((1, 1), v))]
        assert np.abs(as_frame(planes, "i420").crop(0, 0, 2, 2).astype(int) - expected).max() <= 1


def test_bytes_that_lie_apart_are_copied() -> None:
    rgbx = np.random.default_rng(2).integers(0, 256, (20, 12, 4), dtype=np.uint8)
    frame = as_frame(rgbx[:, :, :3], "rgb")
    assert_array_equal(frame.planes[0], rgbx[:, :, :3])
    assert frame.planes[0].flags.c_contiguous
    rows = rgbx.reshape(20, 48)[:, :36].reshape(20, 12, 3)
    assert as_frame(rows, "rgb").planes[0] is rows


NO_PIXEL = [[np.nan] * 4, [0, 0, np.inf, 5], [5, 5, 5, 9], [9, 9, 3, 3], [-9, -9, -1, -1], [40, 0, 60, 9], [0, 30, 9, 40]]


@pytest.mark.parametrize("bad", NO_PIXEL)
def test_boxes_without_a_pixel_are_not_valid(bad: list[float]) -> None:
    boxes, valid = clip_boxes([[1, 2, 3, 4], bad], 30, 40)
    assert valid.tolist() == [True, False]
    assert boxes.tolist() == [[1, 2, 3, 4], [0, 0, 0, 0]]


def test_boxes_are_cut_and_rounded() -> None:
    boxes, valid = clip_boxes([[-5, -5, 1e30, 1e30], [1.4, 1.5, 3.4, 3.5], [9.4, 0, 10, 1]], 30, 40)
    assert boxes.tolist() == [[0, 0, 40, 30], [1, 2, 3, 4], [9, 0, 10, 1]]
    assert valid.all()
    table = np.array([["anna", 1, 2.5, 3, None], ["ben", *range(1, 5)]], dtype=object)
    assert clip_boxes(table[:, 1:], 30, 40)[1].tolist() == [False, True]
    assert clip_boxes(np.zeros((0, 4)), 30, 40)[0].shape == clip_boxes([], 30, 40)[0].shape == (0, 4)


NO_BOXES = [
    [1, 2, 3, 4],
    [[1, 2, 3]],
    [[*"abcd"]],
    [[*"1234"]],
    [[1, 2, 3, 4], [1, 2]],
    np.zeros((2, 2, 4)),
    [[0, 0, 10**400, 5]],
    [[0.5, 0, 10**400, 5]],
    np.array([[0, 0, 5 + 1j, 5]]),
    np.array([[0, 0, 5 + 1j, 5]], dtype=object),
    np.array([["anna", 0, 5, 5]], dtype=object),
    np.ma.masked_greater([[0, 0, 5, 5]], 4),
]


@pytest.mark.parametrize("boxes", NO_BOXES)
def test_what_is_no_list_of_boxes(boxes: Any) -> None:
    with pytest.raises(ShapeError, match=r"boxes.* must .*"):
        clip_boxes(boxes, 30, 40)


def test_crops_of_valid_boxes_in_order() -> None:
    frame = np.random.default_rng(3).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    crops, valid = crop_boxes(frame, [[0, 0, 10, 20], [50, 50, 60, 60], [5, 5, 99, 99]], "bgr", 16, 8)
    assert valid.tolist() == [True, False, True]
    for crop, (x1, y1, x2, y2) in zip(crops, [(0, 0, 10, 20), (5, 5, 40, 30)], strict=True):
        expected = Image.fromarray(frame[y1:y2, x1:x2, ::-1]).crop((0, 0, x2 - x1, y2 - y1))
        assert_array_equal(crop, resize(np.asarray(expected), 16, 8))
    assert crop_boxes(frame, [], "rgb", 16, 8).crops.shape == (0, 16, 8, 3)
    for boxes in ([], [[0, 0, 10, 20]]):
        for size, wrong in (((0, 8), "height"), ((-1, 8), "height"), ((16, 2.5), "width"), ((16, None), "width")):
            with pytest.raises(OptionError, match=f"{wrong} must be an integer of at least 1"):
                crop_boxes(frame, boxes, "rgb", *size)


@pytest.mark.parametrize(
    ("shape", "format"),
    [
        ((30, 40), "rgb"),
        ((30, 40, 4), "bgr"),
        ((0, 40, 3), "rgb"),
        ((30, 0, 3), "rgb"),
        ((31, 40), "nv12"),
        ((30, 41), "nv12"),
        ((30, 40, 3), "i420"),
        ((0, 40), "i420"),
        ((0, 40), "nv12"),
        ((30, 0), "nv12"),
    ],
)
def test_frames_of_another_shape(shape: tuple[int, ...], format: str) -> None:
    with pytest.raises(ShapeError, match=f"a frame of format '{format}' must be"):
        as_frame(np.zeros(shape, np.uint8), format)


def test_frames_of_other_types_and_formats() -> None:
    with pytest.raises(OptionError, match="format must be 'rgb', 'bgr', 'nv12' or 'i420', got 'yuv'"):
        as_frame(np.zeros((4, 4, 3), np.uint8), "yuv")
    with pytest.raises(ShapeError, match="a frame must be uint8, got float32"):
        as_frame(np.zeros((4, 4, 3), np.float32), "rgb")
    with pytest.raises(ShapeError, match="must be"):
        as_frame([np.zeros((4, 4), np.uint8), np.zeros((2, 3), np.uint8), np.zeros((2, 2), np.uint8)], "i420")
    for format in FORMATS:
        with pytest.raises(ShapeError, match="must be"):
            as_frame([], format)
        for nothing in (None, 7, "frame"):
            with pytest.raises(ShapeError, match=f"must be an array of NumPy or of a GPU, .* got {type(nothing).__name__}$"):
                as_frame(nothing, format)  # type: ignore[arg-type]


def test_kernels_refuse_boxes_outside_and_planes_that_do_not_fit() -> None:
    kernels = pytest.importorskip("stcanet_runtime._kernels")
    plane = np.zeros((4, 4, 3), np.uint8)
    for box in ([0, 0, 5, 4], [-1, 0, 2, 2], [2, 2, 2, 3]):
        with pytest.raises(ValueError, match="not inside the frame"):
            kernels.resize_boxes([plane], "rgb", np.array([box]), 8, 8)
    for planes, format in (([plane, plane], "rgb"), ([plane[:, :, 0].copy(), plane[:2, :2, 0].copy()], "nv12"), ([], "rgb")):
        with pytest.raises(ValueError, match=r"plane|layout"):
            kernels.resize_boxes(planes, format, np.array([[0, 0, 2, 2]]), 8, 8)
    with pytest.raises(ValueError, match="layout"):
        kernels.resize_boxes([np.zeros((4, 4, 6), np.uint8)[:, :, ::2]], "rgb", np.array([[0, 0, 2, 2]]), 8, 8)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        kernels.resize_boxes([plane.astype(np.float64)], "rgb", np.array([[0, 0, 2, 2]]), 8, 8)


def test_without_kernels_pillow_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = np.random.default_rng(4).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    expected = crop_boxes(frame, [[3, 4, 20, 29]], "rgb", 16, 8).crops
    with backends.use_backend("numpy"):
        assert_array_equal(crop_boxes(frame, [[3, 4, 20, 29]], "rgb", 16, 8).crops, expected)
