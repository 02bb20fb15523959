"""From the body of a person to the pixels of a crop: orthographic, with tilt, taper and a box that is a little off."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

Point3 = tuple[float, float, float]
"""x to the person's side, y up from the ground, z where the person walks to; units of body height."""


@dataclass(frozen=True)
class Viewpoint:
    """How one image looks at a person."""

    yaw: float
    """Radians from the camera to where the person faces: 0 towards the camera, π away from it."""
    elevation: float
    """Radians by which the camera looks down."""
    scale: float
    """Pixels per body height, vertically."""
    stretch: float
    """Horizontal over vertical scale."""
    taper: float
    """How much wider the head appears than the feet: the perspective of a high camera."""
    tilt: float
    """Roll of the camera in radians."""
    centre: tuple[float, float]
    """Pixel (x, y) of the point half a body height above the ground."""

    def project(self, point: Point3) -> tuple[float, float, float]:
        """A point of the body as (u, v, depth) in the plane of the figure; a larger depth is nearer to the camera."""
        x, y, z = point
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        u, depth = x * cos + z * sin, z * cos - x * sin
        return u, y * math.cos(self.elevation) - depth * math.sin(self.elevation), depth

    def half_width(self, lateral: float, sagittal: float) -> float:
        """Half width of the silhouette of an upright elliptical cylinder with these half axes."""
        return math.hypot(lateral * math.cos(self.yaw), sagittal * math.sin(self.yaw))

    def to_pixels(self, points: Iterable[tuple[float, float]], factor: int = 1) -> list[tuple[float, float]]:
        """Points (u, v) of the plane as pixels (x, y), y downwards, of an image magnified by ``factor``."""
        scale = self.scale * factor
        x, y = self.centre[0] * factor, self.centre[1] * factor
        cos, sin = math.cos(self.tilt) * scale, math.sin(self.tilt) * scale
        pixels = []
        for u, v in points:
            up = v - 0.5
            across = u * self.stretch * (1 + self.taper * up)
            pixels.append((x + across * cos - up * sin, y - up * cos - across * sin))
        return pixels
