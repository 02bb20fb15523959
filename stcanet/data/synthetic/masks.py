"""Part masks on disk: an indexed PNG for this project, or the five files of the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PARTS = ("head", "upper_clothes", "lower_clothes", "shoes")
"""Part k of the indexed PNG (k = 1 … 4) is ``PARTS[k - 1]``; 0 is background. Bags are background, as in LIP."""

HEAD, UPPER, LOWER, SHOES = 1, 2, 3, 4

_PALETTE = (0, 0, 0, 230, 80, 70, 70, 150, 230, 90, 190, 100, 240, 200, 70)


def save_indexed(parts: NDArray[np.uint8], path: Path) -> None:
    """Write parts [H, W] as one palette PNG, whose pixel values are the part numbers."""
    image = Image.fromarray(parts).convert("L")
    image.putpalette(_PALETTE)
    image.save(path, format="PNG")


def save_reference(parts: NDArray[np.uint8], folder: Path) -> None:
    """Write parts [H, W] as ``folder/{head,upper_clothes,lower_clothes,shoes,foreground}.png``, 8-bit, 0 or 255."""
    folder.mkdir(parents=True)
    for index, name in enumerate(PARTS, start=1):
        _save_binary(parts == index, folder / f"{name}.png")
    _save_binary(parts > 0, folder / "foreground.png")


def _save_binary(mask: NDArray[np.bool_], path: Path) -> None:
    Image.fromarray(mask.astype(np.uint8) * 255).save(path, format="PNG")
