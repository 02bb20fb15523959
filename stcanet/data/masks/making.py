"""Makes a mask folder from label maps or images, one file after the other, going on where it was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stcanet.data.masks.folder import read_indexed
from stcanet.data.masks.grouping import Grouping
from stcanet.data.masks.layout import save_indexed
from stcanet.data.masks.picture import overlay, sheet
from stcanet_runtime.errors import DataError
from stcanet_runtime.files import atomic_path, save_picture
from stcanet_runtime.images.crops import list_images
from stcanet_runtime.picking import pick_evenly
from stcanet_runtime.preprocess import load_image, resize
from stcanet_runtime.progress import Progress

_SHEET_ROWS, _SHEET_HEIGHT, _SHEET_WIDTH = 8, 256, 128

ReadLabels = Callable[[Path], NDArray[np.uint8]]


def make_masks(
    sources: Sequence[Path], read: ReadLabels, grouping: Grouping, out: Path, progress: Progress | None = None
) -> int:
    """Write ``out/<stem>.png`` for every source that has none yet; each is whole or absent.

    Args:
        sources: Label maps or images; their names tell the images apart.
        read: Gives the label map of a source.
        grouping: Labels to parts.
        out: The folder; made if needed.
        progress: Called after each one with (done, in all), those that were there included.

    Returns:
        How many were written.

    Raises:
        DataError: Two sources have the same stem, or one cannot be read or has labels that the grouping does not know.
    """
    stems: dict[str, Path] = {}
    for source in sources:
        if (other := stems.setdefault(source.stem, source)) is not source:
            raise DataError(f"{other} and {source} would have the same mask {source.stem}.png")
    written = 0
    for done, source in enumerate(sources, start=1):
        target = out / f"{source.stem}.png"
        if not target.exists():
            labels = read(source)
            try:
                parts = grouping(labels)
            except DataError as error:
                raise DataError(f"{source}: {error}") from None
            with atomic_path(target) as temporary:
                save_indexed(parts, temporary)
            written += 1
        if progress:
            progress(done, len(sources))
    return written


def draw_masks(images: Path, masks: Path, out: Path) -> None:
    """A picture of a few images above their part maps, evenly picked among those that have one.

    Raises:
        DataError: None has one, or one holds other values than those of parts.
    """
    found = [image for image in list_images(images) if (masks / f"{image.stem}.png").is_file()]
    if not found:
        raise DataError(f"no image in {images} has a part mask in {masks}")
    picked = pick_evenly(found, _SHEET_ROWS)
    top, bottom = [], []
    for image in picked:
        crop = load_image(image)
        parts = read_indexed(masks / f"{image.stem}.png")
        if parts.shape != crop.shape[:2]:
            crop = resize(crop, *parts.shape)
        top.append(resize(crop, _SHEET_HEIGHT, _SHEET_WIDTH))
        bottom.append(resize(overlay(crop, parts), _SHEET_HEIGHT, _SHEET_WIDTH))
    titles = [f"{image.stem[-24:-12]}\n{image.stem[-12:]}".strip() for image in picked]
    save_picture(sheet([top, bottom], titles, ["image", "parts"], legend=True), out)
