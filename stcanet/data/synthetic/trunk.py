"""The trunk of a figure: the outline of the upper garment, its pattern, and what hangs on it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from stcanet.data.masks.layout import LOWER, UPPER
from stcanet.data.synthetic.canvas import Canvas, Colour, Point, shade
from stcanet.data.synthetic.person import Build, Person
from stcanet.data.synthetic.pose import Pose
from stcanet.data.synthetic.viewpoint import Viewpoint

_FLAT = 0.62  # a trunk is this deep for its width


class Trunk:
    """Draws on the surface of the trunk, an elliptical cylinder whose half width changes with the height.

    Places on it are an azimuth (degrees, 0 in the middle of the chest, 180 in the middle of the back) and a level
    (0 at the hips, 1 at the shoulders).
    """

    def __init__(self, canvas: Canvas, view: Viewpoint, build: Build, pose: Pose) -> None:
        self._canvas, self._view = canvas, view
        self._bottom, self._top = build.hip_height + pose.lift, build.shoulder_height + pose.lift
        chest, waist, hip = build.shoulder_width, build.waist_width, build.hip_width * (0.9 + 0.1 * build.girth)
        self._levels = (-1.2, 0.0, 0.4, 0.72, 0.9, 0.98, 1.04, 1.12)
        self._widths = (hip * 1.12, hip * 1.08, waist, *(chest * share for share in (0.88, 1.0, 0.84, 0.52, 0.3)))

    def half_width(self, level: float) -> float:
        """Half width of the silhouette at a level."""
        lateral = float(np.interp(level, self._levels, self._widths))
        return self._view.half_width(lateral, lateral * _FLAT)

    def height(self, level: float) -> float:
        """Height in the plane of the figure."""
        return self._view.project((0.0, self._bottom + level * (self._top - self._bottom), 0.0))[1]

    def patch(
        self, azimuths: tuple[float, float], levels: tuple[float, float], colour: Colour, part: int, flare: float = 0.0
    ) -> None:
        """Paint the visible share of a patch of the surface; ``flare`` widens it downwards, for skirts and coats."""
        left, right = self._visible(azimuths)
        if right - left < 2:
            return
        low, high = levels
        stops = [low, *(level for level in self._levels if low < level < high), high]
        edge = [(self.half_width(level) * (1 + flare * (high - level)), self.height(level)) for level in stops]
        outline: list[Point] = [(width * math.sin(math.radians(left)), v) for width, v in edge]
        outline += [(width * math.sin(math.radians(right)), v) for width, v in reversed(edge)]
        self._canvas.polygon(outline, colour, part)

    def _visible(self, azimuths: tuple[float, float]) -> tuple[float, float]:
        # Turn the patch so that 0 faces the camera, then cut it at the silhouette. The full circle stays whole.
        if azimuths[1] - azimuths[0] >= 360:
            return -90.0, 90.0
        turn = math.degrees(self._view.yaw)
        middle = (sum(azimuths) / 2 + turn + 180) % 360 - 180
        half = (azimuths[1] - azimuths[0]) / 2
        return max(-90.0, middle - half), min(90.0, middle + half)


ROUND = (-180.0, 180.0)


def draw_upper(trunk: Trunk, person: Person) -> None:
    """Paint the upper garment with its pattern."""
    clothes = person.clothes
    low = {"coat": -0.95, "jacket": -0.12}.get(clothes.upper, -0.05)
    trunk.patch(ROUND, (low, 1.12), clothes.upper_colour, UPPER, flare=0.06)
    if (painter := _PATTERNS.get(clothes.pattern)) is not None:
        painter(trunk, clothes.accent, low)
    if clothes.upper in ("jacket", "coat"):
        inner = (226, 226, 222) if sum(clothes.upper_colour) < 380 else (52, 54, 62)
        trunk.patch((-14, 14), (max(low, -0.05), 1.07), inner, UPPER)
    else:
        trunk.patch((-16, 16), (0.99, 1.12), person.skin, UPPER)  # the neckline


def draw_skirt(trunk: Trunk, person: Person) -> None:
    """Paint a skirt, when one is worn."""
    length = {"skirt": -0.68, "long_skirt": -1.15}.get(person.clothes.lower)
    if length is None:
        return
    colour = person.clothes.lower_colour
    trunk.patch(ROUND, (length, 0.12), colour, LOWER, flare=0.32)
    for azimuth in range(-150, 180, 60):
        trunk.patch((azimuth - 5, azimuth + 5), (length, 0.0), shade(colour, 0.82), LOWER, flare=0.32)


def draw_straps(trunk: Trunk, person: Person) -> None:
    """Paint what a bag shows on the trunk: straps on the chest, or one across it."""
    clothes = person.clothes
    if clothes.bag == "backpack":
        for azimuth in (-42, 42):
            trunk.patch((azimuth - 8, azimuth + 8), (0.35, 1.02), clothes.bag_colour, 0)
    elif clothes.bag == "shoulder":
        for step in range(10):
            level = 0.95 - 0.1 * step
            azimuth = clothes.bag_side * (-40 + 9 * step)
            for middle in (azimuth, 180 - azimuth):
                trunk.patch((middle - 8, middle + 8), (level - 0.1, level), clothes.bag_colour, 0)


def _hoops(trunk: Trunk, accent: Colour, low: float) -> None:
    for step in range(4):
        level = 0.08 + 0.24 * step
        trunk.patch(ROUND, (max(low, level), level + 0.11), accent, UPPER)


def _pinstripes(trunk: Trunk, accent: Colour, low: float) -> None:
    for azimuth in range(-165, 180, 36):
        trunk.patch((azimuth - 7, azimuth + 7), (low, 1.0), accent, UPPER)


def _logo(trunk: Trunk, accent: Colour, low: float) -> None:
    del low
    trunk.patch((-36, 36), (0.45, 0.82), accent, UPPER)
    trunk.patch((150, 210), (0.5, 0.85), accent, UPPER)


def _block(trunk: Trunk, accent: Colour, low: float) -> None:
    trunk.patch(ROUND, (low, 0.36), accent, UPPER)


def _yoke(trunk: Trunk, accent: Colour, low: float) -> None:
    del low
    trunk.patch(ROUND, (0.66, 1.12), accent, UPPER)


_PATTERNS: dict[str, Callable[[Trunk, Colour, float], None]] = {
    "hoops": _hoops,
    "pinstripes": _pinstripes,
    "logo": _logo,
    "block": _block,
    "yoke": _yoke,
}
