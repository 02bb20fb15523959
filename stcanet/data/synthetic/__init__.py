"""Synthetic people for person re-identification: a whole dataset with no download.

Articulated figures with clothes, hair, hats and bags walk past cameras that differ in place, light, colour, angle, blur
and noise; poles, boxes and other people stand in the way. Everything follows from the seed, and every image depends on
its own identity, camera and number only. The folder has the Market-1501 layout, with part masks when asked for.
"""

from __future__ import annotations

from stcanet.data.masks.layout import PARTS
from stcanet.data.synthetic.config import MaskLayout, SynthConfig, SynthCounts
from stcanet.data.synthetic.scene import Picture, render
from stcanet.data.synthetic.shot import Shot, Split, count, list_shots
from stcanet.data.synthetic.writer import MARKER, MASK_FOLDER, generate

__all__ = [
    "MARKER",
    "MASK_FOLDER",
    "PARTS",
    "MaskLayout",
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
