"""Frames as the network takes them: decoded and resized by the runtime's own code, so that training sees what deployment sees.

No torch and no randomness here: which frames are taken, and how they are varied, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stcanet.data.masks import MaskFolder
from stcanet_runtime.arrays import UInt8Array
from stcanet_runtime.preprocess import load_image, resize
from stcanet_runtime.progress import Progress

_READERS = 8  # decoding leaves the interpreter's lock, the rest of a read does not: more do not help


class Frames(Protocol):
    """N frames of one size, by number."""

    where: str
    """Where they come from, for people."""

    def take(self, rows: NDArray[np.int64]) -> UInt8Array:
        """Frames ``[…, H, W, C]`` for numbers ``[…]``, the caller's own copy."""


class FrameFiles:
    """Frames that are read from their files every time.

    Args:
        paths: N image files.
        height: H in pixels.
        width: W in pixels.
        masks: Where their part maps are; then C is 4 and the last channel holds part numbers, or else C is 3.

    Raises:
        DataError: A frame has no part map.
    """

    where = "files"

    def __init__(self, paths: Sequence[Path], height: int, width: int, masks: MaskFolder | None = None) -> None:
        if masks:
            masks.check(paths)
        self.paths, self.masks = paths, masks
        self.shape = (len(paths), height, width, 4 if masks else 3)

    @property
    def nbytes(self) -> int:
        """Of all frames, decoded."""
        return int(np.prod(self.shape, dtype=np.int64))

    def take(self, rows: NDArray[np.int64]) -> UInt8Array:
        """See :meth:`Frames.take`.

        Raises:
            ImageError: A frame cannot be read.
            DataError: A part map cannot.
        """
        frames = np.empty((rows.size, *self.shape[1:]), np.uint8)
        for frame, row in zip(frames, rows.flat, strict=True):
            self._read(frame, int(row))
        return frames.reshape(*rows.shape, *self.shape[1:])

    def read_all(self, out: UInt8Array, progress: Progress | None = None) -> None:
        """Read every frame into `out` ``[N, H, W, C]``; raises what :meth:`take` raises."""
        _for_each(lambda row: self._read(out[row], row), len(out), progress)

    def _read(self, out: UInt8Array, row: int) -> None:
        height, width = self.shape[1:3]
        out[:, :, :3] = resize(load_image(self.paths[row]), height, width)
        if self.masks:
            out[:, :, 3] = self.masks.read(self.paths[row], height, width)


def check_readable(paths: Sequence[Path], progress: Progress | None = None) -> None:
    """Decode images and keep nothing.

    Raises:
        ImageError: One cannot be read.
    """

    def decode(row: int) -> None:
        load_image(paths[row])

    _for_each(decode, len(paths), progress)


def _for_each(read: Callable[[int], object], count: int, progress: Progress | None) -> None:
    """Call `read` with 0 to `count` − 1, several at a time."""
    with ThreadPoolExecutor(_READERS, "stcanet-reader") as pool:
        try:
            for done, _ in enumerate(pool.map(read, range(count)), start=1):
                if progress:
                    progress(done, count)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # one that cannot be read: do not read the others first
            raise
