"""The head of a figure: neck, face, hair and hat."""

from __future__ import annotations

import math

from stcanet.data.masks.layout import HEAD
from stcanet.data.synthetic.canvas import Canvas, shade
from stcanet.data.synthetic.person import Person
from stcanet.data.synthetic.pose import Pose
from stcanet.data.synthetic.viewpoint import Point3, Viewpoint

_WIDTH, _LENGTH, _HEIGHT = 0.046, 0.056, 0.068  # half axes of a skull: across, front to back, upwards


class Head:
    """Draws a head in two layers: what lies behind the trunk or the face, and what lies in front."""

    def __init__(self, canvas: Canvas, view: Viewpoint, person: Person, pose: Pose) -> None:
        self._canvas, self._view, self._person = canvas, view, person
        self._size = person.build.head
        self._middle = 1.0 - _HEIGHT * self._size + pose.lift
        self._base = person.build.shoulder_height + pose.lift
        self._facing = math.cos(view.yaw)  # 1 towards the camera, -1 away from it
        self._width = view.half_width(_WIDTH, _LENGTH) * self._size

    def draw_behind(self) -> None:
        """Draw before the trunk: hair that hangs behind it."""
        if self._facing > 0:
            self._draw_hanging()

    def draw_neck(self) -> None:
        """Draw the neck."""
        bottom, top = self._plane((0, self._base - 0.005, 0)), self._plane((0, self._middle, 0.005))
        self._canvas.capsule(bottom, top, (0.031, 0.027), shade(self._person.skin, 0.86), HEAD)

    def draw_front(self) -> None:
        """Draw after the trunk: skull, face, hat, and hair that hangs in front of the trunk."""
        self._draw_skull()
        if self._facing <= 0:
            self._draw_hanging()
        self._draw_hat()

    def _draw_skull(self) -> None:
        person, canvas = self._person, self._canvas
        bald = person.hair == "bald"
        skull = shade(person.skin, 0.97) if bald else person.hair_colour
        canvas.ellipse(self._at(0, 0), (self._width * 1.06, _HEIGHT * self._size * 1.03), skull, HEAD)
        visible = min(1.0, (self._facing + 0.75) / 1.2)  # how much of the face is seen
        if visible > 0.15:
            radii = (self._width * (0.35 + 0.5 * visible), _HEIGHT * self._size * 0.8)
            canvas.ellipse(self._at(0.024, -0.016), radii, person.skin, HEAD)
        if visible > 0.6:
            brow = shade(person.skin, 0.62)
            for side in (-0.017, 0.017):
                canvas.ellipse(self._plane((side, self._middle - 0.008, 0.04)), (0.0085, 0.005), brow, HEAD)

    def _draw_hanging(self) -> None:
        colour = self._person.hair_colour
        if self._person.hair == "long":
            radii = (self._width * 1.08, 0.046)
            self._canvas.capsule(self._at(-0.018, 0), self._at(-0.034, -0.115), radii, colour, HEAD)
        elif self._person.hair == "ponytail":
            self._canvas.capsule(self._at(-0.06, 0.01), self._at(-0.075, -0.115), (0.022, 0.012), colour, HEAD)
        elif self._person.hair == "bun":
            self._canvas.ellipse(self._at(-0.052, 0.05), (0.03, 0.028), shade(colour, 0.9), HEAD)

    def _draw_hat(self) -> None:
        person = self._person
        if person.hat == "none":
            return
        knit = person.hat == "beanie"
        low, high = (0.004, 0.092) if knit else (0.018, 0.078)
        crown = [
            (self._width * 1.16 * math.cos(angle), (low + (high - low) * math.sin(angle)) * self._size)
            for angle in (math.pi * step / 10 for step in range(11))
        ]
        u, v = self._at(-0.004, 0)
        self._canvas.polygon([(u + du, v + dv) for du, dv in crown], person.hat_colour, HEAD)
        if not knit and self._facing > -0.6:
            tip = self._at(0.085, 0.012)
            self._canvas.capsule(self._at(0.03, 0.022), tip, (0.02, 0.012), shade(person.hat_colour, 0.75), HEAD)

    def _at(self, forward: float, upward: float) -> tuple[float, float]:
        """A point of the head in the plane of the figure."""
        return self._plane((0.0, self._middle + upward * self._size, forward * self._size))

    def _plane(self, point: Point3) -> tuple[float, float]:
        u, v, _ = self._view.project(point)
        return u, v
