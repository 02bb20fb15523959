"""Crops with their parts in colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stcanet.config import PARTS
from stcanet.data.masks.layout import COLORS
from stcanet_runtime.arrays import UInt8Array
from stcanet_runtime.pictures.drawing import FAINT, INK, font

TITLES = tuple(name.removesuffix("_clothes").replace("upper", "upper body").replace("lower", "lower body") for name in PARTS)
"""The parts as people call them."""

_STRENGTH = 0.65  # of the colour where the probability is 1: the picture below stays to be seen
_MARGIN, _GAP, _TEXT = 16, 6, 14


def tint(crop: UInt8Array, probability: NDArray[np.float32], color: Sequence[int]) -> UInt8Array:
    """A crop in grey, with a colour over it as strong as the probability.

    Args:
        crop: RGB ``[H, W, 3]``.
        probability: ``[h, w]`` in 0..1, of any size: it is stretched (bilinear), as the maps of a network are coarse.
        color: RGB.
    """
    height, width = crop.shape[:2]
    weight = Image.fromarray(probability.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    alpha = _STRENGTH * np.asarray(weight)[:, :, None]
    grey = crop.mean(axis=2, keepdims=True)
    return np.asarray((grey * (1 - alpha) + np.array(color) * alpha).round().clip(0, 255), np.uint8)


def overlay(crop: UInt8Array, parts: NDArray[np.uint8]) -> UInt8Array:
    """A crop ``[H, W, 3]`` with the colours of its part map ``[H, W]``; background as it is."""
    colors = np.array(COLORS, np.float32)[parts]
    alpha = _STRENGTH * (parts > 0)[:, :, None]
    return (crop * (1 - alpha) + colors * alpha).round().astype(np.uint8)


def sheet(
    rows: Sequence[Sequence[UInt8Array | None]],
    columns: Sequence[str],
    labels: Sequence[str],
    legend: bool = False,
) -> Image.Image:
    """Pictures in rows and columns.

    Args:
        rows: RGB pictures, all of the same size; None leaves a place empty.
        columns: A heading for each column; a line feed makes a second line.
        labels: A text for each row, before it; empty texts take no room.
        legend: Whether a line below them says which part has which colour.
    """
    height, width = next(picture.shape[:2] for row in rows for picture in row if picture is not None)
    letters = font(_TEXT)
    left = _MARGIN + max((letters.getlength(label) + 12 for label in labels if label), default=0)
    top = _MARGIN + 18 * (1 + max(column.count("\n") for column in columns)) + 4
    right = left + max(len(columns) * (width + _GAP) - _GAP, _legend_width() if legend else 0)
    size = (
        round(right + _MARGIN),
        round(top + len(rows) * (height + _GAP) - _GAP + _MARGIN + legend * 2 * _TEXT),
    )
    image = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(image)
    for column, title in enumerate(columns):
        draw.multiline_text(
            (left + column * (width + _GAP) + width / 2, _MARGIN), title, INK, letters, anchor="ma", align="center"
        )
    for index, (row, label) in enumerate(zip(rows, labels, strict=True)):
        y = round(top + index * (height + _GAP))
        draw.text((_MARGIN, y + height / 2), label, FAINT, letters, anchor="lm")
        for column, picture in enumerate(row):
            if picture is not None:
                image.paste(Image.fromarray(picture), (round(left + column * (width + _GAP)), y))
    if legend:
        _draw_legend(draw, left, size[1] - _MARGIN - _TEXT)
    return image


def _entry_width(title: str) -> float:
    return _TEXT + _GAP + font(_TEXT).getlength(title)


def _legend_width() -> float:
    return sum(_entry_width(title) + _MARGIN for title in TITLES) - _MARGIN


def _draw_legend(draw: ImageDraw.ImageDraw, left: float, top: float) -> None:
    for title, color in zip(TITLES, COLORS[1:], strict=True):
        draw.rectangle((left, top, left + _TEXT, top + _TEXT), color)
        draw.text((left + _TEXT + _GAP, top + _TEXT / 2), title, INK, font(_TEXT), anchor="lm")
        left += _entry_width(title) + _MARGIN
