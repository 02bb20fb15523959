"""Pictures as cameras and decoders give them: packed RGB or BGR, or Y, U and V apart. Nothing is converted beforehand.

Pictures that decoders leave on a GPU stay there: arrays of CuPy, PyTorch and others with ``__cuda_array_interface__``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from stcanet_runtime.arrays import UInt8Array
from stcanet_runtime.backends import get_backend, gpu_device
from stcanet_runtime.backends.gpu_device import is_on_gpu
from stcanet_runtime.errors import OptionError, ShapeError, quote_choices

FrameSource = UInt8Array | Sequence[UInt8Array]
"""An array, or the planes of a picture one by one; of NumPy, or of a GPU."""

FORMATS = ("rgb", "bgr", "nv12", "i420")
"""Layouts of a frame. None can be told from the values, so it is stated, never guessed."""

_YUV_BITS = 20
_FROM_Y, _FROM_U, _FROM_V = 1220542, (0, -409993, 2116026), (1673527, -852492, 0)
"""ITU-R BT.601, studio range, 20 fractional bits: ``1.164 (Y - 16)``; ``-0.391 U``, ``2.018 U``; ``1.596 V``, ``-0.813 V``."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture. The planes are those of the caller: they must not change while it is in use."""

    format: str
    planes: tuple[UInt8Array, ...]
    """``[H, W, 3]``; or Y ``[H, W]`` and UV ``[H/2, W/2, 2]``; or Y, U and V. Halves are rounded up."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.planes[0].shape[:2]
        return height, width

    @property
    def on_gpu(self) -> bool:
        """Whether the planes are arrays of a GPU."""
        return is_on_gpu(self.planes[0])

    def crop(self, x1: int, y1: int, x2: int, y2: int) -> UInt8Array:
        """The pixels of a box inside the frame as RGB, ``[y2 - y1, x2 - x1, 3]``.

        YUV is converted by ITU-R BT.601 (studio range: black is 16, white 235), a chroma sample counting for its 2×2 pixels,
        in integers that are rounded once: what OpenCV's ``cvtColor`` gives.
        """
        if len(self.planes) == 1:
            crop = self.planes[0][y1:y2, x1:x2]
            return crop if self.format == "rgb" else crop[:, :, ::-1]
        rows, columns = np.arange(y1, y2), np.arange(x1, x2)
        u, v = (plane[np.ix_(rows // 2, columns // 2)].astype(np.int32) - 128 for plane in self._chroma())
        y = np.maximum(self.planes[0][y1:y2, x1:x2].astype(np.int32) - 16, 0) * _FROM_Y + (1 << (_YUV_BITS - 1))
        colors = [(y + by_u * u + by_v * v) >> _YUV_BITS for by_u, by_v in zip(_FROM_U, _FROM_V, strict=True)]
        return np.stack(colors, axis=2).clip(0, 255).astype(np.uint8)

    def _chroma(self) -> tuple[UInt8Array, UInt8Array]:
        if self.format == "nv12":
            return self.planes[1][..., 0], self.planes[1][..., 1]
        return self.planes[1], self.planes[2]


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
    return cast("UInt8Array", gpu_device.adopt(gpu_device.device(), plane))


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
