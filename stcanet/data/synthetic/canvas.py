"""An indexed canvas: every pixel says which material is seen there, and a material knows its colour and its part.

Colour picture and part masks come from the same map, so they cannot disagree.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stcanet.config import PARTS
from stcanet.data.synthetic.viewpoint import Viewpoint

Point = tuple[float, float]
Colour = tuple[int, int, int]

_CIRCLE = [(math.cos(2 * math.pi * k / 20), math.sin(2 * math.pi * k / 20)) for k in range(20)]
_MAX_MATERIALS = 256


class Canvas:
    """Draws shapes in the plane of a figure onto a supersampled map of materials.

    Args:
        height: Height H of the finished image in pixels.
        width: Width W of the finished image in pixels.
        supersample: S, the map is [S·H, S·W].
        viewpoint: Maps the plane of the figure (units of body height) to the finished image.
    """

    def __init__(self, height: int, width: int, supersample: int, viewpoint: Viewpoint) -> None:
        self._supersample = supersample
        self._viewpoint = viewpoint
        self._map = Image.new("L", (width * supersample, height * supersample), 0)
        self._draw = ImageDraw.Draw(self._map)
        self._materials: dict[tuple[Colour, int], int] = {((0, 0, 0), -1): 0}  # index 0: nothing drawn
        self._labelled = True

    def overlay(self, viewpoint: Viewpoint) -> Canvas:
        """The same canvas from another viewpoint, for things that belong to no part: what they cover is background."""
        other = copy.copy(self)
        other._viewpoint, other._labelled = viewpoint, False  # noqa: SLF001, a copy of itself
        return other

    def polygon(self, points: Sequence[Point], colour: Colour, part: int = 0) -> None:
        """Fill a polygon of points (u, v) in the plane of the figure."""
        self._draw.polygon(self._viewpoint.to_pixels(points, self._supersample), fill=self._material(colour, part))

    def ellipse(self, centre: Point, radii: Point, colour: Colour, part: int = 0) -> None:
        """Fill an axis-aligned ellipse."""
        (u, v), (a, b) = centre, radii
        self.polygon([(u + a * c, v + b * s) for c, s in _CIRCLE], colour, part)

    def capsule(self, start: Point, end: Point, radii: Point, colour: Colour, part: int = 0) -> None:
        """Fill a limb: the hull of a circle at ``start`` and one at ``end``."""
        (u0, v0), (u1, v1), (r0, r1) = start, end, radii
        length = math.hypot(u1 - u0, v1 - v0)
        if length > 1e-6:
            nu, nv = (v0 - v1) / length, (u1 - u0) / length
            quad = [(u0 + nu * r0, v0 + nv * r0), (u1 + nu * r1, v1 + nv * r1)]
            quad += [(u1 - nu * r1, v1 - nv * r1), (u0 - nu * r0, v0 - nv * r0)]
            self.polygon(quad, colour, part)
        self.ellipse(start, (r0, r0), colour, part)
        self.ellipse(end, (r1, r1), colour, part)

    def colours(self) -> Image.Image:
        """The picture [H, W] RGB, black where nothing was drawn (that is, premultiplied by :meth:`coverage`)."""
        palette = np.zeros((_MAX_MATERIALS, 3), np.uint8)
        for (colour, _), index in self._materials.items():
            palette[index] = colour
        indexed = self._map.copy()
        indexed.putpalette(palette.tobytes())
        return indexed.convert("RGB").reduce(self._supersample)

    def coverage(self) -> Image.Image:
        """How much of each pixel is drawn, [H, W] 'L', 255 for all of it."""
        return self._map.point([0] + [255] * (_MAX_MATERIALS - 1)).reduce(self._supersample)

    def parts(self) -> NDArray[np.uint8]:
        """The part that covers most of each pixel, [H, W]: 0 background, then the parts of :data:`PARTS`."""
        shares = []
        for part in range(len(PARTS) + 1):
            table = [255 if part == 0 else 0] * _MAX_MATERIALS
            for (_, of_part), index in self._materials.items():
                table[index] = 255 if max(of_part, 0) == part else 0
            shares.append(np.asarray(self._map.point(table).reduce(self._supersample)))
        parts: NDArray[np.uint8] = np.stack(shares).argmax(axis=0).astype(np.uint8)
        return parts

    def _material(self, colour: Colour, part: int) -> int:
        key = (colour, part if self._labelled else 0)
        if key not in self._materials and len(self._materials) == _MAX_MATERIALS:
            raise AssertionError("a scene has at most 255 materials")
        return self._materials.setdefault(key, len(self._materials))


def shade(colour: Colour, factor: float) -> Colour:
    """A colour made darker (factor below 1) or lighter."""
    red, green, blue = (min(255, max(0, round(value * factor))) for value in colour)
    return red, green, blue
