"""Synthetic people for person re-identification: a whole dataset with no download.

Articulated figures with clothes, hair, hats and bags walk past cameras that differ in place, light, colour, angle, blur
and noise; poles, boxes and other people stand in the way. Everything follows from the seed, and every image depends on
its own identity, camera and number only. The folder has the Market-1501 layout, with part masks when asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stcanet_runtime.lazy import lazy_names

if TYPE_CHECKING:
    from stcanet.data.synthetic.config import SynthConfig, SynthCounts
    from stcanet.data.synthetic.scene import Picture, render
    from stcanet.data.synthetic.shot import Shot, Split, count, list_shots
    from stcanet.data.synthetic.writer import MARKER, MASK_FOLDER, generate

_LAZY = {  # the command line has its defaults from `config`, and draws nobody when it starts
    "config": ("SynthConfig", "SynthCounts"),
    "scene": ("Picture", "render"),
    "shot": ("Shot", "Split", "count", "list_shots"),
    "writer": ("MARKER", "MASK_FOLDER", "generate"),
}

__all__ = [
    "MARKER",
    "MASK_FOLDER",
    "Picture",
    "Shot",
    "Split",
    "SynthConfig",
    "SynthCounts",
    "count",
    "generate",
    "list_shots",
    "render",
]

if not TYPE_CHECKING:  # else every misspelt name would be an object to mypy
    __getattr__, __dir__ = lazy_names(__name__, _LAZY)
