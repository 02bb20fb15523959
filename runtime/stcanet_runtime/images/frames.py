"""Pictures as cameras and decoders give them: packed RGB or BGR, or Y, U and V apart. Nothing is converted beforehand.

Pictures that decoders leave on a GPU stay there: arrays of CuPy, PyTorch and others with ``__cuda_array_interface__``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from stcanet_runtime.arrays import UInt8Array
from stcanet_runtime.backends import get_backend, gpu_arrays, gpu_device
from stcanet_runtime.backends.frame import Frame
from stcanet_runtime.backends.gpu_arrays import is_on_gpu
from stcanet_runtime.errors import OptionError, ShapeError, quote_choices

FrameSource = UInt8Array | Sequence[UInt8Array]
"""An array, or the planes of a picture one by one; of NumPy, or of a GPU."""

FORMATS = ("rgb", "bgr", "nv12", "i420")
"""Layouts of a frame. None can be told from the values, so it is stated, never guessed."""


def as_frame(source: FrameSource, format: str) -> Frame:
    """A picture from what a decoder gives.

    Rows may lie apart (views of a larger picture, padded rows, rows from below). Other gaps are closed by a copy.

    Args:
        source: For "rgb" and "bgr" uint8 ``[H, W, 3]``. For "nv12" and "i420" uint8 ``[H * 3/2, W]`` with H and W even, as
            OpenCV and PyAV give it; or the planes: Y ``[H, W]`` and UV ``[H/2, W]`` or ``[H/2, W/2, 2]``, or Y, U and V.
        format: "rgb", "bgr", "nv12" or "i420".

    Raises:
        OptionError: An unknown format.
        ShapeError: The arrays are not uint8 of these shapes, or hold no pixel; or some are of a GPU and some are not.
        BackendError: They are of a GPU, and CuPy cannot be used here.
    """
    if format not in FORMATS:
        raise OptionError("format", format, quote_choices(FORMATS))
    planes = [_of_cupy(plane) for plane in cast("Sequence[UInt8Array]", source if isinstance(source, Sequence) else [source])]
    if not planes:
        raise _unfit(planes, format)
    if len({is_on_gpu(plane) for plane in planes}) > 1:
        raise ShapeError("the planes of a frame must all be in the memory of the same device")
    if others := [type(plane).__name__ for plane in planes if not (isinstance(plane, np.ndarray) or is_on_gpu(plane))]:
        raise ShapeError(f"a frame must be an array of NumPy or of a GPU, or its planes, got {others[0]}")
    if any(plane.dtype != np.uint8 for plane in planes):
        raise ShapeError(f"a frame must be uint8, got {', '.join(str(plane.dtype) for plane in planes)}")
    if format in ("rgb", "bgr"):
        shapes_fit = len(planes) == 1 and planes[0].ndim == 3 and planes[0].shape[2] == 3
    else:
        planes = _apart(planes[0], format) if len(planes) == 1 else planes
        if format == "nv12" and len(planes) == 2 and planes[1].ndim == 2 and planes[1].shape[1] % 2 == 0:
            planes[1] = planes[1].reshape(len(planes[1]), planes[1].shape[1] // 2, 2)
        shapes_fit = [plane.shape for plane in planes] == _yuv_shapes(planes[0].shape, format)
    if not shapes_fit or planes[0].size == 0:
        raise _unfit(planes, format)
    return Frame(format, tuple(_rows_only(plane) for plane in planes))


def _of_cupy(plane: UInt8Array) -> UInt8Array:
    """An array of a GPU as one of CuPy, which reads the same memory."""
    if not is_on_gpu(plane):
        return plane
    get_backend("gpu")  # or why not
    return cast("UInt8Array", gpu_arrays.adopt(gpu_device.device(), plane))


def _apart(stacked: UInt8Array, format: str) -> list[UInt8Array]:
    """The planes of a picture ``[H * 3/2, W]``."""
    if stacked.ndim != 2 or len(stacked) % 3 or stacked.shape[1] % 2:
        raise _unfit([stacked], format)
    height, width = len(stacked) // 3 * 2, stacked.shape[1]
    luma, chroma = stacked[:height], stacked[height:]
    if format == "nv12":
        return [luma, chroma]
    # A row of the array holds two rows of U or V.
    u, v = chroma.reshape(2, height // 2, width // 2)
    return [luma, u, v]


def _yuv_shapes(luma: tuple[int, ...], format: str) -> list[tuple[int, ...]]:
    half = tuple((length + 1) // 2 for length in luma[:2])
    return [luma[:2], (*half, 2)] if format == "nv12" else [luma[:2], half, half]


def _rows_only(plane: UInt8Array) -> UInt8Array:
    """`plane`, or a copy of it if its bytes lie apart inside of a row."""
    row = plane[0]
    return plane if row.flags.c_contiguous else plane.copy()


def _unfit(planes: Sequence[UInt8Array], format: str) -> ShapeError:
    expected = {
        "nv12": "[H * 3/2, W] with H and W even, or Y [H, W] and UV [H/2, W/2, 2]",
        "i420": "[H * 3/2, W] with H and W even, or Y [H, W] and U and V [H/2, W/2]",
    }.get(format, "[H, W, 3] with at least one pixel")
    return ShapeError(f"a frame of format '{format}' must be {expected}, got {', '.join(str(list(p.shape)) for p in planes)}")
