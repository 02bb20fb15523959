"""Things around the person in a box: a pole, a box or somebody in front, and people further back."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from stcanet.data.synthetic.canvas import Canvas, Colour, shade
from stcanet.data.synthetic.figure import draw_figure
from stcanet.data.synthetic.person import sample_person
from stcanet.data.synthetic.pose import Gait, Pose
from stcanet.data.synthetic.viewpoint import Viewpoint

_THINGS: tuple[Colour, ...] = ((70, 74, 78), (150, 152, 150), (120, 88, 60), (54, 92, 66), (190, 60, 50))


def draw_occluder(canvas: Canvas, view: Viewpoint, width: int, rng: np.random.Generator) -> None:
    """Draw something in front of the person.

    Args:
        canvas: What the person is drawn on.
        view: How the person is seen.
        width: Width of the image in pixels.
        rng: Decides what, where and how large.
    """
    kind = rng.random()
    colour = _THINGS[int(rng.integers(len(_THINGS)))]
    overlay = canvas.overlay(replace(view, tilt=0.0))
    if kind < 0.35:
        middle, half = rng.uniform(-0.2, 0.2), rng.uniform(0.012, 0.035)
        _slab(overlay, (middle - half, middle + half), (-0.3, 1.3), colour)
    elif kind < 0.7:
        left, top = rng.uniform(-0.35, 0.1), rng.uniform(0.15, 0.38)
        _slab(overlay, (left, left + rng.uniform(0.2, 0.5)), (-0.3, top), colour)
    else:
        side = 1 if rng.random() < 0.5 else -1
        _draw_stranger(canvas, view, side * width * rng.uniform(0.34, 0.48), rng.uniform(0.95, 1.1), rng)


def draw_bystander(canvas: Canvas, view: Viewpoint, width: int, rng: np.random.Generator) -> None:
    """Draw somebody further back; call it before the person is drawn."""
    side = 1 if rng.random() < 0.5 else -1
    _draw_stranger(canvas, view, side * width * rng.uniform(0.25, 0.5), rng.uniform(0.5, 0.85), rng)


def _draw_stranger(canvas: Canvas, view: Viewpoint, shift: float, size: float, rng: np.random.Generator) -> None:
    x, y = view.centre
    where = replace(view, yaw=rng.uniform(0, 2 * math.pi), scale=view.scale * size, centre=(x + shift, y))
    stranger = sample_person(rng)
    pose = Pose.walking(stranger.build, Gait.sample(rng))
    draw_figure(canvas.overlay(where), where, stranger, pose)


def _slab(canvas: Canvas, across: tuple[float, float], upwards: tuple[float, float], colour: Colour) -> None:
    (left, right), (low, high) = across, upwards
    canvas.polygon([(left, low), (right, low), (right, high), (left, high)], colour)
    edge = left + 0.25 * (right - left)
    canvas.polygon([(left, low), (edge, low), (edge, high), (left, high)], shade(colour, 0.75))
