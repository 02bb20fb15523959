"""Boxes of a detector or tracker: what of them lies in the frame, and the crops that a model is given."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stcanet_runtime.arrays import Float64Array, UInt8Array, as_array, check_count
from stcanet_runtime.backends import get_backend
from stcanet_runtime.errors import ShapeError
from stcanet_runtime.images.frames import FrameSource, as_frame


class BoxCrops(NamedTuple):
    """The crops of the boxes that show something, and which boxes these are."""

    crops: UInt8Array
    """RGB, ``[V, height, width, 3]``, V of the N boxes, in their order; CuPy's where the frame is on a GPU."""
    valid: NDArray[np.bool_]
    """``[N]``, V times True."""


def clip_boxes(xyxy: ArrayLike, height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Whole pixels of boxes in a frame.

    Edges are cut at those of the frame, then rounded to the nearest integer, halves up. What is left without a pixel is not
    valid: a box outside of the frame, of no or negative width or height, or with an edge that is NaN or infinite.

    Args:
        xyxy: ``[N, 4]`` numbers: left, upper, right and lower edge, in pixels.
        height: Of the frame.
        width: Of the frame.

    Returns:
        Boxes ``[N, 4]``, right and lower edge excluded, zeros where not valid; and which are valid, ``[N]``.

    Raises:
        ShapeError: Not real numbers ``[N, 4]``, or some are masked.
    """
    edges = _edges(xyxy)
    edges = np.where(np.isfinite(edges).all(axis=1, keepdims=True), edges, 0).clip(0, [width, height, width, height])
    boxes = np.floor(edges + 0.5).astype(np.int64)
    valid = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
    boxes[~valid] = 0
    return boxes, valid


def _edges(xyxy: ArrayLike) -> Float64Array:
    """Boxes [N, 4] as they are given; raises as `clip_boxes`."""
    try:
        array = as_array(xyxy, "boxes [N, 4]")
        if array.dtype.kind == "O":  # some columns of a table of numbers and names; None becomes NaN
            array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:  # what lies on a GPU; no numbers; integers that no float holds
        raise ShapeError(f"boxes must be numbers [N, 4]: x1, y1, x2, y2; {error}") from None
    if array.size == 0:
        return np.zeros((0, 4))  # an empty list has no second axis
    if array.dtype.kind not in "fiu":
        raise ShapeError(f"boxes must be real numbers [N, 4]: x1, y1, x2, y2; got dtype {array.dtype}")
    if array.ndim != 2 or array.shape[1] != 4:
        raise ShapeError(f"boxes must be [N, 4]: x1, y1, x2, y2; got {list(array.shape)}")
    return array.astype(np.float64, copy=False)


def crop_boxes(
    frame: FrameSource,
    xyxy: ArrayLike,
    format: str,
    height: int,
    width: int,
    threads: int | None = None,
) -> BoxCrops:
    """Cut boxes out of a frame and resize them, as :func:`stcanet_runtime.preprocess.resize` does, bit for bit.

    Args:
        frame: See :func:`stcanet_runtime.images.frames.as_frame`. One that is on a GPU is cut there, whatever the backend.
        xyxy: ``[N, 4]``; see :func:`clip_boxes`.
        format: "rgb", "bgr", "nv12" or "i420".
        height: Rows of a crop.
        width: Columns of a crop.
        threads: Of the C++ kernels; None takes ``STCANET_NUM_THREADS``, else all processors that it may use, within its quota.

    Raises:
        OptionError: An unknown format, or a height or width that is no integer of at least 1.
        ShapeError: The frame or the boxes have an unexpected shape or type.
        BackendError: The frame is on a GPU, and CuPy cannot be used here.
    """
    height, width = check_count(height, "height"), check_count(width, "width")
    picture = as_frame(frame, format)
    boxes, valid = clip_boxes(xyxy, *picture.size)
    backend = get_backend("gpu") if picture.on_gpu else get_backend()
    return BoxCrops(backend.resize_boxes(picture, boxes[valid], height, width, threads=threads), valid)
