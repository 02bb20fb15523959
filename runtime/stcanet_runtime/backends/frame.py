"""A picture of a camera as the backends are given it: checked by `stcanet_runtime.images.frames`, and its pixels as RGB."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stcanet_runtime.arrays import UInt8Array
from stcanet_runtime.backends.gpu_arrays import is_on_gpu

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
