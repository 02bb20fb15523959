"""The place that a camera looks at: one wide picture per camera, of which every image shows a piece."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from stcanet.data.synthetic.canvas import Colour, shade

_WIDE, _TALL = 480, 180  # own units: 120 of them are the height of an image
_HORIZON = 95


def paint_backdrop(kind: int, rng: np.random.Generator, height: int) -> Image.Image:
    """Paint a place.

    Args:
        kind: Which sort of place; any integer, the sorts repeat.
        rng: Decides colours and details.
        height: Height of the images that will be cut from it, in pixels.

    Returns:
        RGB, 1.5 times as high as an image and 4 times as wide as it is high.
    """
    picture = Image.new("RGB", (_WIDE, _TALL))
    _PLACES[kind % len(_PLACES)](ImageDraw.Draw(picture), rng)
    scale = height / 120
    picture = picture.resize((round(_WIDE * scale), round(_TALL * scale)), Image.Resampling.BICUBIC)
    return _textured(picture.filter(ImageFilter.GaussianBlur(0.5 * scale)), rng)


def cut(backdrop: Image.Image, height: int, width: int, rng: np.random.Generator) -> Image.Image:
    """Cut a random piece [height, width] out of a backdrop, at a random zoom."""
    zoom = rng.uniform(0.8, 1.2)
    piece_width, piece_height = min(width * zoom, backdrop.width), min(height * zoom, backdrop.height)
    left = rng.uniform(0, backdrop.width - piece_width)
    top = rng.uniform(0, backdrop.height - piece_height)
    box = (left, top, left + piece_width, top + piece_height)
    return backdrop.resize((width, height), Image.Resampling.BILINEAR, box=box)


def _textured(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    grain = rng.normal(0, 5, (picture.height, picture.width, 1)).astype(np.float32)
    pixels = np.asarray(picture, np.float32) + grain + _clouds(rng, picture.height, picture.width)[..., None] * 14
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _clouds(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    coarse = Image.fromarray(rng.normal(0, 1, (9, 24)).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)


def _street(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    asphalt = _grey(rng, 96, 140)
    draw.rectangle((0, 0, _WIDE, _HORIZON), fill=(156, 170, 184))
    for left in range(0, _WIDE, 60):
        front = _tint(rng, 90, 190)
        draw.rectangle((left, 0, left + 59, _HORIZON), fill=front)
        for x in range(left + 6, left + 52, 16):
            for y in range(4, _HORIZON - 12, 24):
                draw.rectangle((x, y, x + 9, y + 14), fill=shade(front, 0.55))
    draw.rectangle((0, _HORIZON, _WIDE, _TALL), fill=asphalt)
    draw.rectangle((0, _HORIZON, _WIDE, _HORIZON + 8), fill=shade(asphalt, 1.35))
    for left in range(0, _WIDE, 48):
        draw.rectangle((left, 138, left + 26, 143), fill=(220, 220, 210))
    for left in range(20, _WIDE, 130):  # parked cars
        paint = _tint(rng, 40, 210)
        draw.rounded_rectangle((left, 78, left + 74, 112), 8, fill=paint)
        draw.rounded_rectangle((left + 14, 62, left + 58, 84), 8, fill=shade(paint, 0.6))
        for wheel in (left + 14, left + 56):
            draw.ellipse((wheel - 8, 104, wheel + 8, 120), fill=(24, 24, 26))


def _brick_wall(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    brick = ((150, 92, 70), (176, 150, 118), (128, 118, 112))[int(rng.integers(3))]
    draw.rectangle((0, 0, _WIDE, _TALL), fill=shade(brick, 0.78))
    for row, top in enumerate(range(0, 125, 8)):
        for left in range(-(row % 2) * 10, _WIDE, 20):
            draw.rectangle((left, top, left + 18, top + 6), fill=shade(brick, rng.uniform(0.88, 1.12)))
    pavement = _grey(rng, 140, 180)
    draw.rectangle((0, 125, _WIDE, _TALL), fill=pavement)
    for left in range(-60, _WIDE, 30):
        draw.line((left + 40, 125, left, _TALL), fill=shade(pavement, 0.8))
    draw.line((0, 148, _WIDE, 148), fill=shade(pavement, 0.8))


def _park(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    draw.rectangle((0, 0, _WIDE, _TALL), fill=(150, 186, 214))
    for _ in range(60):
        x, y, radius = rng.uniform(0, _WIDE), rng.uniform(5, 75), rng.uniform(12, 32)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade((64, 104, 52), rng.uniform(0.6, 1.3)))
    for left in range(15, _WIDE, 70):
        draw.rectangle((left, 40, left + 7, 100), fill=(84, 64, 48))
    draw.rectangle((0, 90, _WIDE, _TALL), fill=(106, 142, 66))
    for _ in range(700):
        x, y = rng.uniform(0, _WIDE), rng.uniform(90, _TALL)
        draw.line((x, y, x + 2, y - 5), fill=shade((106, 142, 66), rng.uniform(0.75, 1.25)))
    draw.polygon([(0, 150), (_WIDE, 128), (_WIDE, 152), (0, 174)], fill=(190, 172, 140))


def _hall(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    wall, tile = _tint(rng, 190, 235), _grey(rng, 170, 210)
    draw.rectangle((0, 0, _WIDE, _TALL), fill=wall)
    for left in range(10, _WIDE, 96):
        draw.rectangle((left, 20, left + 36, 112), fill=shade(wall, 0.66))
        draw.rectangle((left + 4, 24, left + 32, 112), fill=shade(wall, 0.78))
        draw.rectangle((left + 52, 30, left + 84, 66), fill=_tint(rng, 60, 220))
    draw.rectangle((0, 106, _WIDE, 113), fill=shade(wall, 0.5))
    draw.rectangle((0, 113, _WIDE, _TALL), fill=tile)
    for row, top in enumerate((113, 122, 136, 156)):
        for column, left in enumerate(range(0, _WIDE, 24)):
            if (row + column) % 2:
                draw.rectangle((left, top, left + 23, top + (9, 14, 20, 24)[row]), fill=shade(tile, 0.82))


def _shop(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    frame = _tint(rng, 30, 90)
    draw.rectangle((0, 0, _WIDE, _TALL), fill=frame)
    for left in range(6, _WIDE, 80):
        draw.rectangle((left, 24, left + 70, 116), fill=_tint(rng, 120, 220))
        for _ in range(9):
            x, y = rng.uniform(left, left + 54), rng.uniform(36, 92)
            draw.rectangle((x, y, x + rng.uniform(6, 16), y + rng.uniform(10, 24)), fill=_tint(rng, 30, 230))
        draw.polygon([(left, 24), (left + 30, 24), (left + 12, 116), (left, 116)], fill=(206, 216, 224))
    draw.rectangle((0, 4, _WIDE, 20), fill=_tint(rng, 80, 220))
    paving = _grey(rng, 110, 150)
    draw.rectangle((0, 122, _WIDE, _TALL), fill=paving)
    for top in (130, 142, 160):
        draw.line((0, top, _WIDE, top), fill=shade(paving, 0.75))


def _square(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    ground = _tint(rng, 120, 190)
    for top in range(_TALL):  # seen from above: ground everywhere
        draw.line((0, top, _WIDE, top), fill=shade(ground, 0.85 + 0.3 * top / _TALL))
    for ring in range(8, 300, 16):
        draw.arc((240 - 2 * ring, 200 - ring, 240 + 2 * ring, 200 + ring), 180, 360, fill=shade(ground, 0.78), width=2)
    for step in range(24):
        angle = math.pi * step / 24
        draw.line((240, 200, 240 + 600 * math.cos(angle), 200 - 300 * math.sin(angle)), fill=shade(ground, 0.85))


def _grey(rng: np.random.Generator, low: int, high: int) -> Colour:
    value = int(rng.integers(low, high))
    return value, value, value + int(rng.integers(-6, 7))


def _tint(rng: np.random.Generator, low: int, high: int) -> Colour:
    red, green, blue = rng.integers(low, high, 3).tolist()
    grey = (red + green + blue) // 3 * 2  # two thirds of the way to grey: places are duller than clothes
    return (red + grey) // 3, (green + grey) // 3, (blue + grey) // 3


_PLACES: tuple[Callable[[ImageDraw.ImageDraw, np.random.Generator], None], ...] = (
    _street,
    _brick_wall,
    _park,
    _hall,
    _shop,
    _square,
)
