"""The picture of what the attention blocks look at: part maps over a few crops, before and after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stcanet.data.masks import COLORS, MaskFolder
from stcanet.data.masks.picture import TITLES, overlay, sheet, tint
from stcanet_runtime.arrays import UInt8Array
from stcanet_runtime.preprocess import load_image, resize

Blocks = Sequence[NDArray[np.float32]]
"""``[n, N, h, w]`` probabilities of each attention block over n crops."""

_CROP_HEIGHT, _CROP_WIDTH = 160, 80


def draw_part_maps(
    images: Sequence[Path], stages: Sequence[int], maps: Mapping[str, Blocks], masks: MaskFolder | None = None
) -> Image.Image:
    """Crops as rows, parts and blocks as columns; the stronger the colour, the surer the network is of the part.

    Args:
        images: n crops.
        stages: The stage after which each block sits, for the headings.
        maps: Blocks by when they were taken ("before", "after"): a row for each crop and each of these.
        masks: Where there are masks, they are shown too.
    """
    crops = [resize(load_image(image), _CROP_HEIGHT, _CROP_WIDTH) for image in images]
    moments = list(maps)
    truth = (
        [overlay(crop, masks.read(image, _CROP_HEIGHT, _CROP_WIDTH)) for crop, image in zip(crops, images, strict=True)]
        if masks
        else None
    )
    rows: list[list[UInt8Array | None]] = []
    for index, crop in enumerate(crops):
        for moment in moments:
            first = moment == moments[0]
            head: list[UInt8Array | None] = [crop if first else None]
            head += [truth[index] if first else None] if truth else []
            rows.append(
                [
                    *head,
                    *(tint(crop, block[index, part], _color(part)) for block in maps[moment] for part in range(block.shape[1])),
                ]
            )
    parts = maps[moments[0]][0].shape[1]
    headings = [f"stage {stage}\n{_title(part)}" for stage in stages for part in range(parts)]
    columns = ["crop", *(["mask"] if truth else []), *headings]
    return sheet(rows, columns, moments * len(crops) if len(moments) > 1 else [""] * len(rows))


def _color(part: int) -> tuple[int, int, int]:
    return COLORS[1 + part % (len(COLORS) - 1)]


def _title(part: int) -> str:
    return TITLES[part] if part < len(TITLES) else f"part {part + 1}"
