"""Draws a person in a pose, as seen from a viewpoint: limbs, trunk, head and bag from back to front."""

from __future__ import annotations

import math

from stcanet.data.masks.layout import LOWER, SHOES, UPPER
from stcanet.data.synthetic.canvas import Canvas, Colour, shade
from stcanet.data.synthetic.head import Head
from stcanet.data.synthetic.person import Person
from stcanet.data.synthetic.pose import Limb, Pose
from stcanet.data.synthetic.trunk import Trunk, draw_skirt, draw_straps, draw_upper
from stcanet.data.synthetic.viewpoint import Point3, Viewpoint

_FAR_SHADE = 0.84  # a limb on the far side is a little darker, so that it stands out from the near one


def draw_figure(canvas: Canvas, view: Viewpoint, person: Person, pose: Pose) -> None:
    """Draw a whole person.

    Args:
        canvas: Where to.
        view: From where it is seen; the same viewpoint as the canvas has.
        person: Who.
        pose: In which pose.
    """
    _Figure(canvas, view, person, pose).draw()


class _Figure:
    def __init__(self, canvas: Canvas, view: Viewpoint, person: Person, pose: Pose) -> None:
        self._canvas, self._view, self._person, self._pose = canvas, view, person, pose
        self._clothes = person.clothes
        self._trunk = Trunk(canvas, view, person.build, pose)
        self._head = Head(canvas, view, person, pose)

    def draw(self) -> None:
        away = math.cos(self._view.yaw) < 0
        far_arm, near_arm = sorted(self._pose.arms, key=self._depth)
        self._head.draw_behind()
        if not away:
            self._draw_backpack()
        self._draw_arm(far_arm, _FAR_SHADE)
        far_leg, near_leg = sorted(self._pose.legs, key=self._depth)
        self._draw_leg(far_leg, _FAR_SHADE)
        self._draw_leg(near_leg, 1.0)
        draw_skirt(self._trunk, self._person)
        self._head.draw_neck()
        draw_upper(self._trunk, self._person)
        draw_straps(self._trunk, self._person)
        if abs(math.cos(self._view.yaw)) > 0.45:  # nearly from the front or the back both arms are in front
            self._draw_arm(far_arm, 0.94)
        self._draw_arm(near_arm, 0.96)
        self._draw_bag()
        if away:
            self._draw_backpack()
        self._head.draw_front()

    def _draw_leg(self, limb: Limb, light: float) -> None:
        clothes, girth = self._clothes, 0.5 + 0.5 * self._person.build.girth
        cloth, skin = shade(clothes.lower_colour, light), shade(self._person.skin, light)
        thigh, knee, ankle = 0.052 * girth, 0.038 * girth, 0.026 * girth
        self._draw_shoe(limb, light)
        if clothes.lower == "trousers":
            self._segment(limb.middle, limb.end, (knee, ankle * 1.1), cloth, LOWER)
        else:
            self._segment(limb.middle, limb.end, (knee * 0.84, ankle * 0.8), skin, LOWER)
        if clothes.boots:
            shaft = _between(limb.middle, limb.end, 0.5)
            self._segment(shaft, limb.end, (knee * 0.95, ankle * 1.15), shade(clothes.shoe_colour, light), SHOES)
        if clothes.lower in ("trousers", "shorts"):
            hem = knee if clothes.lower == "trousers" else knee * 1.2
            self._segment(limb.root, limb.middle, (thigh, hem), cloth, LOWER)
        else:
            self._segment(limb.root, limb.middle, (thigh * 0.9, knee * 0.9), skin, LOWER)

    def _draw_shoe(self, limb: Limb, light: float) -> None:
        x, y, z = limb.end
        heel, toe = (x, y - 0.012, z - 0.008), (x + limb.side * 0.012, max(0.008, y - 0.024), z + 0.062)
        self._segment(heel, toe, (0.026, 0.019), shade(self._clothes.shoe_colour, light), SHOES)

    def _draw_arm(self, limb: Limb, light: float) -> None:
        clothes, girth = self._clothes, 0.5 + 0.5 * self._person.build.girth
        fabric = clothes.accent if clothes.pattern == "sleeves" else clothes.upper_colour
        sleeve, skin = shade(fabric, light), shade(self._person.skin, light)
        upper, elbow, wrist = 0.036 * girth, 0.029 * girth, 0.022 * girth
        x, y, z = limb.end
        self._segment(limb.end, (x, y - 0.028, z + 0.006), (0.02, 0.017), skin, UPPER)
        if clothes.upper == "tshirt":
            self._segment(limb.middle, limb.end, (elbow * 0.85, wrist * 0.85), skin, UPPER)
            self._segment(limb.root, limb.middle, (upper * 0.85, elbow * 0.85), skin, UPPER)
            self._segment(limb.root, _between(limb.root, limb.middle, 0.62), (upper, elbow * 1.2), sleeve, UPPER)
        else:
            self._segment(limb.middle, limb.end, (elbow, wrist), sleeve, UPPER)
            self._segment(limb.root, limb.middle, (upper, elbow), sleeve, UPPER)

    def _draw_backpack(self) -> None:
        clothes, build = self._clothes, self._person.build
        if clothes.bag != "backpack":
            return
        middle = (build.hip_height + build.shoulder_height) / 2 + 0.03 + self._pose.lift
        u, v, _ = self._view.project((0.0, middle, -build.shoulder_width * 0.62 - 0.045))
        width = self._view.half_width(build.shoulder_width * 0.85, 0.058)
        self._box((u, v), (width, 0.135), clothes.bag_colour)
        self._box((u, v - 0.05), (width * 0.7, 0.055), shade(clothes.bag_colour, 0.75))

    def _draw_bag(self) -> None:
        clothes, build = self._clothes, self._person.build
        if clothes.bag == "shoulder":
            place = (clothes.bag_side * (build.hip_width + 0.03), build.hip_height - 0.02 + self._pose.lift, 0.0)
            size = (self._view.half_width(0.03, 0.085), 0.065)
        elif clothes.bag == "hand":
            x, y, z = self._pose.arms[0 if clothes.bag_side < 0 else 1].end
            place, size = (x, y - 0.11, z), (self._view.half_width(0.03, 0.075), 0.07)
        else:
            return
        u, v, depth = self._view.project(place)
        if depth > -0.06:  # else the body hides it
            self._box((u, v), size, clothes.bag_colour)
            self._box((u, v + size[1] * 0.55), (size[0], size[1] * 0.2), shade(clothes.bag_colour, 0.72))

    def _box(self, centre: tuple[float, float], half: tuple[float, float], colour: Colour) -> None:
        (u, v), (a, b) = centre, half
        cut = min(a, b) * 0.35
        upper = [(-a, b - cut), (-a + cut, b), (a - cut, b), (a, b - cut)]
        lower = [(du, -dv) for du, dv in reversed(upper)]
        self._canvas.polygon([(u + du, v + dv) for du, dv in upper + lower], colour)

    def _segment(self, start: Point3, end: Point3, radii: tuple[float, float], colour: Colour, part: int) -> None:
        (u0, v0, _), (u1, v1, _) = self._view.project(start), self._view.project(end)
        self._canvas.capsule((u0, v0), (u1, v1), radii, colour, part)

    def _depth(self, limb: Limb) -> float:
        return sum(self._view.project(joint)[2] for joint in (limb.root, limb.middle, limb.end))


def _between(start: Point3, end: Point3, share: float) -> Point3:
    x, y, z = (a + (b - a) * share for a, b in zip(start, end, strict=True))
    return x, y, z
