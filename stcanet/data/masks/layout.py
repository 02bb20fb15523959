"""Part maps: which parts there are, their colours, and how one is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stcanet.config import PARTS
from stcanet_runtime.errors import ShapeError

HEAD, UPPER, LOWER, SHOES = 1, 2, 3, 4

COLORS = ((0, 0, 0), (230, 80, 70), (70, 150, 230), (90, 190, 100), (240, 200, 70))
"""RGB of background and of each part, in the palette of indexed PNGs and in pictures."""


def save_indexed(parts: NDArray[np.uint8], path: Path) -> None:
    """Write parts [H, W] as one palette PNG, whose pixel values are the part numbers.

    Raises:
        ShapeError: A value is no part number: Pillow writes as few bits as the palette needs, and would cut it off.
    """
    if parts.max() > len(PARTS):
        raise ShapeError(f"a part map has values from 0 to {len(PARTS)}, got {parts.max()}")
    image = Image.fromarray(parts).convert("L")
    image.putpalette([value for color in COLORS for value in color])
    image.save(path, format="PNG")
