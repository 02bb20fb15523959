"""Frames of every layout and boxes in them, drawn at random."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.images.frames import Frame, as_frame

UInt8Array = NDArray[np.uint8]


def noise(rng: np.random.Generator, *shape: int) -> UInt8Array:
    """Bytes whose rows lie apart, some of them from below."""
    wide = rng.integers(0, 256, (shape[0] + 1, shape[1] + int(rng.integers(0, 5)), *shape[2:]), dtype=np.uint8)
    rows = wide[:-1] if rng.random() < 0.5 else wide[:0:-1]
    return rows[:, : shape[1]]


def random_frame(rng: np.random.Generator, format: str, height: int, width: int) -> Frame:
    half = ((height + 1) // 2, (width + 1) // 2)
    if format in ("rgb", "bgr"):
        return as_frame(noise(rng, height, width, 3), format)
    if format == "nv12":
        return as_frame([noise(rng, height, width), noise(rng, *half, 2)], format)
    return as_frame([noise(rng, height, width), noise(rng, *half), noise(rng, *half)], format)


def random_boxes(rng: np.random.Generator, count: int, height: int, width: int) -> NDArray[np.int64]:
    x1, y1 = rng.integers(0, width, count), rng.integers(0, height, count)
    return np.stack([x1, y1, rng.integers(x1 + 1, width + 1), rng.integers(y1 + 1, height + 1)], axis=1)
