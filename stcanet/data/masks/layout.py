"""Part maps: which parts there are, their colours, and how one is written as one indexed PNG or as the reference's five."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stcanet.config import PARTS
from stcanet_runtime.errors import ShapeError

HEAD, UPPER, LOWER, SHOES = 1, 2, 3, 4

FOREGROUND = "foreground"
"""Fifth file of the reference's layout: all of the person. It is asked for and never used, as in the reference."""

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


def save_reference(parts: NDArray[np.uint8], folder: Path) -> None:
    """Write parts [H, W] as ``folder/{head,upper_clothes,lower_clothes,shoes,foreground}.png``, 8-bit, 0 or 255."""
    folder.mkdir(parents=True)
    for index, name in enumerate(PARTS, start=1):
        _save_binary(parts == index, folder / f"{name}.png")
    _save_binary(parts > 0, folder / f"{FOREGROUND}.png")


def _save_binary(mask: NDArray[np.bool_], path: Path) -> None:
    Image.fromarray(mask.astype(np.uint8) * 255).save(path, format="PNG")
