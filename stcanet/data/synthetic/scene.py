"""Draws one image: place, people, light, camera."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from stcanet.data.synthetic.backdrop import cut
from stcanet.data.synthetic.camera import Camera, camera
from stcanet.data.synthetic.canvas import Canvas
from stcanet.data.synthetic.config import SynthConfig
from stcanet.data.synthetic.figure import draw_figure
from stcanet.data.synthetic.occluder import draw_bystander, draw_occluder
from stcanet.data.synthetic.person import Person, identity, sample_person
from stcanet.data.synthetic.pose import Gait, Pose
from stcanet.data.synthetic.seeding import Stream, generator
from stcanet.data.synthetic.shot import Shot
from stcanet.data.synthetic.viewpoint import Viewpoint
from stcanet_runtime.retrieval.evaluate import DISTRACTOR_PID, JUNK_PID

_BYSTANDER_SHARE = 0.12
_FALSE_DETECTION_SHARE = 0.4
_JUNK_SLOPPINESS = 6.0
_DRAWN_HEIGHT = 384  # rows of the supersampled drawing: fewer show steps, more cost time


@dataclass(frozen=True)
class Picture:
    """One finished image."""

    image: Image.Image
    """RGB."""
    jpeg: bytes
    """The same image as the camera encodes it."""
    parts: NDArray[np.uint8] | None
    """[H, W], 0 background, 1 head, 2 upper clothes, 3 lower clothes, 4 shoes; None unless asked for."""


def render(config: SynthConfig, shot: Shot, with_parts: bool = False) -> Picture:
    """Draw one image of a dataset.

    Args:
        config: The dataset.
        shot: Which image of it.
        with_parts: Whether to work out the part masks as well.

    Returns:
        The image; it depends on nothing but the arguments.
    """
    source = camera(config.seed, shot.camera, config.height)
    rng = generator(config.seed, Stream.IMAGE, shot.pid, shot.camera, shot.index)
    person = _subject(config.seed, shot)
    sloppiness = _JUNK_SLOPPINESS if shot.pid == JUNK_PID else 1.0
    view = source.viewpoint(_direction(config, shot, source, rng), config.height, config.width, rng, sloppiness)
    canvas = Canvas(config.height, config.width, max(2, math.ceil(_DRAWN_HEIGHT / config.height)), view)
    _draw_people(canvas, view, person, source, config.width, rng)
    place = cut(source.backdrop, config.height, config.width, rng)
    image = source.expose(_composed(place, canvas, rng), rng)
    return Picture(image, source.encode(image), canvas.parts() if with_parts else None)


def _subject(seed: int, shot: Shot) -> Person | None:
    if shot.pid != DISTRACTOR_PID:
        return identity(seed, shot.subject)
    rng = generator(seed, Stream.STRANGER, shot.camera, shot.index)
    return None if rng.random() < _FALSE_DETECTION_SHARE else sample_person(rng)


def _direction(config: SynthConfig, shot: Shot, source: Camera, rng: np.random.Generator) -> float:
    # The images of one person by one camera are one walk: the same direction, give or take.
    walk = generator(config.seed, Stream.TRACK, shot.subject, shot.camera)
    turned = math.pi if walk.random() < 0.3 else 0.0
    return source.yaw + turned + walk.normal(0, 0.35) + rng.normal(0, 0.25)


def _draw_people(
    canvas: Canvas, view: Viewpoint, person: Person | None, source: Camera, width: int, rng: np.random.Generator
) -> None:
    if rng.random() < _BYSTANDER_SHARE:
        draw_bystander(canvas, view, width, rng)
    if person is not None:
        draw_figure(canvas, view, person, Pose.walking(person.build, Gait.sample(rng)))
    if rng.random() < source.occlusion:
        draw_occluder(canvas, view, width, rng)


def _composed(place: Image.Image, canvas: Canvas, rng: np.random.Generator) -> Image.Image:
    """The drawn people, lit from one side, over the place."""
    coverage = canvas.coverage()
    alpha = np.asarray(coverage, np.float32)[..., None] / 255
    people = np.asarray(canvas.colours(), np.float32) * _lighting(coverage, rng)
    return Image.fromarray(np.clip(people + np.asarray(place, np.float32) * (1 - alpha), 0, 255).astype(np.uint8))


def _lighting(coverage: Image.Image, rng: np.random.Generator) -> NDArray[np.float32]:
    """Brightness [H, W, 1] that makes flat shapes round: one edge lit, the other in shade, and folds in the cloth."""
    height, width = coverage.height, coverage.width
    soft = np.asarray(coverage.filter(ImageFilter.GaussianBlur(height * 0.02)), np.float32) / 255
    reach = max(1, round(height * 0.025))
    slope = np.roll(soft, -reach, axis=1) - np.roll(soft, reach, axis=1)
    coarse = Image.fromarray(rng.standard_normal((14, 7), dtype=np.float32))
    folds = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    light = 1 + rng.uniform(-0.45, 0.45) * slope + 0.07 * folds + 0.12 * (soft - 0.8)
    return np.asarray(light, np.float32)[..., None]
