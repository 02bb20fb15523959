"""Where the joints of a walking person are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stcanet.data.synthetic.person import Build
from stcanet.data.synthetic.viewpoint import Point3

ANKLE_HEIGHT = 0.035
_SIDES = (-1, 1)


@dataclass(frozen=True)
class Gait:
    """The moment of a step: angles in radians."""

    phase: float
    stride: float
    knee_flex: float
    arm_swing: float
    elbow_flex: float
    arm_spread: float

    @staticmethod
    def sample(rng: np.random.Generator) -> Gait:
        """A random moment of walking, now and then of standing."""
        pace = 0.15 if rng.random() < 0.15 else 1.0
        return Gait(
            phase=rng.uniform(0, 2 * math.pi),
            stride=pace * rng.uniform(0.25, 0.5),
            knee_flex=pace * rng.uniform(0.3, 0.8),
            arm_swing=pace * rng.uniform(0.15, 0.5),
            elbow_flex=rng.uniform(0.1, 0.6),
            arm_spread=rng.uniform(0.06, 0.2),
        )


@dataclass(frozen=True)
class Limb:
    """Three joints from the trunk outwards: hip, knee, ankle or shoulder, elbow, wrist."""

    side: int
    root: Point3
    middle: Point3
    end: Point3


@dataclass(frozen=True)
class Pose:
    """The limbs of a person at one moment, and how far the trunk is lifted by the step."""

    legs: tuple[Limb, Limb]
    arms: tuple[Limb, Limb]
    lift: float

    @staticmethod
    def walking(build: Build, gait: Gait) -> Pose:
        """The pose of a body at a moment of its step, with the lower foot on the ground."""
        left, right = (_leg(build, gait, side) for side in _SIDES)
        lift = ANKLE_HEIGHT - min(left.end[1], right.end[1])
        arms = tuple(_arm(build, gait, side, lift) for side in _SIDES)
        return Pose((_raised(left, lift), _raised(right, lift)), (arms[0], arms[1]), lift)


def _leg(build: Build, gait: Gait, side: int) -> Limb:
    phase = gait.phase + (math.pi if side > 0 else 0)
    thigh_angle = gait.stride * math.sin(phase)
    shin_angle = thigh_angle - gait.knee_flex * max(0.0, math.cos(phase))  # the leg that swings forward is bent
    half = (build.hip_height - ANKLE_HEIGHT) / 2
    x = side * build.hip_width * 0.52
    hip = (x, build.hip_height, 0.0)
    knee = _along(hip, half, thigh_angle)
    return Limb(side, hip, knee, _along(knee, half, shin_angle))


def _arm(build: Build, gait: Gait, side: int, lift: float) -> Limb:
    phase = gait.phase + (0 if side > 0 else math.pi)  # opposite to the leg of the same side
    angle = gait.arm_swing * math.sin(phase)
    shoulder = (side * build.shoulder_width * 0.88, build.shoulder_height + lift - 0.036, 0.0)
    elbow = _along(shoulder, 0.165, angle, side * gait.arm_spread)
    return Limb(side, shoulder, elbow, _along(elbow, 0.15, angle + gait.elbow_flex, side * gait.arm_spread * 0.4))


def _along(start: Point3, length: float, forward: float, outward: float = 0.0) -> Point3:
    x, y, z = start
    down = length * math.cos(forward) * math.cos(outward)
    return x + length * math.sin(outward), y - down, z + length * math.sin(forward)


def _raised(limb: Limb, lift: float) -> Limb:
    root, middle, end = ((x, y + lift, z) for x, y, z in (limb.root, limb.middle, limb.end))
    return Limb(limb.side, root, middle, end)
