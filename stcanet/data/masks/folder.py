"""Reads part maps of images, in either layout on disk. No torch here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stcanet.config import PARTS
from stcanet_runtime.errors import DataError, ImageError, OptionError
from stcanet_runtime.picking import pick_evenly
from stcanet_runtime.preprocess import open_image
from stcanet_runtime.wording import counted

_FOREGROUND = "foreground"
"""Fifth file of the reference's layout: all of the person. It is asked for and never used, as in the reference."""
_FILES = tuple(f"{name}.png" for name in (*PARTS, _FOREGROUND))
_LAYOUTS = f"'<image stem>.png' (one indexed PNG), or '<image stem>/' with {', '.join(_FILES)}"
_TRIED = 32  # part maps of which one must have a part
_HALF = 128  # of 255: where a grey mask of the reference counts as the part; the reference itself keeps it grey


class MaskFolder:
    """The part maps of a data set, found by the names of its images.

    Two layouts are read: ours, one indexed PNG per image (``ROOT/0001_c1s1_000001_00.png``, values 0 to 4), and the
    reference's, five 8-bit PNGs (``ROOT/0001_c1s1_000001_00/head.png`` and so on).

    The reference keeps its five masks soft and resizes them as it does the image. Here a pixel is of one part or of none, and
    both layouts give one map of numbers, resized to the nearest pixel: it takes a fifth of the memory of the cache, and a
    parser's masks are black and white anyway. The loss makes shares of the parts of it, as soft as the reference's, when it
    resizes to the part maps (:func:`stcanet.losses.part_targets`); what differs are pixels at the borders of parts.

    Args:
        root: The folder.

    Attributes:
        root: The folder.
        indexed: Whether it has our layout; else it has the reference's.

    Raises:
        DataError: There is no such folder, or it has neither layout, or both.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.indexed = _is_indexed(self.root)

    def path(self, image: str | Path) -> Path:
        """Where the part map of an image lies, whether it is there or not: a file in our layout, a folder in the other."""
        stem = Path(image).stem
        return self.root / (f"{stem}.png" if self.indexed else stem)

    def check(self, images: Iterable[str | Path]) -> None:
        """Make sure that every image has a part map, before hours of training meet the one that has not.

        Raises:
            DataError: Some have none; the message says how many, and names the first one and the place looked at. Or two
                images in different folders have the same name, and would share one map. Or of some maps all over the data
                set all are background, from which nothing is learned.
        """
        images = list(images)
        owners: dict[str, Path] = {}
        for image in map(Path, images):
            if (owner := owners.setdefault(image.stem, image)) != image:
                raise DataError(
                    f"{owner} and {image} would share one part mask ({self.path(image)}): masks are found by the names of "
                    "images, so give them different ones"
                )
        missing = [image for image in images if not all(path.is_file() for path in self.files(image))]
        if missing:
            which = f"of {counted(len(images), 'image', 'images')}, {counted(len(missing), 'has', 'have')} no part mask"
            raise DataError(f"{which}, first {self._missing(missing[0])}")
        tried = pick_evenly(images, _TRIED)
        if tried and not any(self._parts(image).any() for image in tried):
            raise DataError(
                f"the part masks in {self.root} hold no parts: of {len(tried)} that were looked at all are background, first "
                f"{self.path(tried[0])}. A part map has the values 1 ({PARTS[0]}) to {len(PARTS)} ({PARTS[-1]}) where they are"
            )

    def read(self, image: str | Path, height: int, width: int) -> NDArray[np.uint8]:
        """The part map of an image.

        Args:
            image: Path of the image; only its name matters.
            height: Rows of the result, at least 1.
            width: Columns of the result, at least 1.

        Returns:
            uint8 ``[height, width]``: 0 background, k the part ``PARTS[k - 1]``, resized to the nearest pixel. Stretched
            like the crop itself, so that a parser's square output fits.

        Raises:
            DataError: The image has no part map, or it holds something else: other values, files of different sizes.
            ImageError: A file is damaged, or is no grey or palette PNG.
        """
        if height < 1 or width < 1:
            raise OptionError("size", (height, width), "at least 1 pixel high and wide")
        if not all(path.is_file() for path in self.files(image)):
            raise DataError(f"no part mask of {self._missing(image)}")
        return np.array(Image.fromarray(self._parts(image)).resize((width, height), Image.Resampling.NEAREST))

    def files(self, image: str | Path) -> list[Path]:
        """The files that the part map of an image is made of, whether they are there or not."""
        path = self.path(image)
        return [path] if self.indexed else [path / name for name in _FILES]

    def _parts(self, image: str | Path) -> NDArray[np.uint8]:
        return read_indexed(self.path(image)) if self.indexed else _read_reference(self.path(image))

    def _missing(self, image: str | Path) -> str:
        absent = next(path for path in self.files(image) if not path.is_file())
        what = "one indexed PNG per image" if self.indexed else "the five files of the reference's layout"
        return f"{image}: there is no {absent} ({self.root} holds {what}; 'stcanet masks' makes missing ones)"


def read_labels(path: Path) -> NDArray[np.uint8]:
    """Pixel values ``[H, W]`` of a grey or palette PNG: the indices, not the colours that they stand for.

    Raises:
        ImageError: It is missing, damaged, or has colours.
    """
    with open_image(path, ("PNG",)) as image:
        if image.mode not in ("L", "P"):
            raise ImageError(path, f"its mode is {image.mode}; labels are the values of an 8-bit grey (L) or palette (P) PNG")
        return np.array(image)


def _is_indexed(root: Path) -> bool:
    if not root.is_dir():
        raise DataError(f"there is no folder of part masks {root}")
    visible = [entry for entry in root.iterdir() if not entry.name.startswith(".")]
    indexed = any(entry.suffix == ".png" for entry in visible)
    reference = any((entry / _FILES[0]).is_file() for entry in visible if entry.suffix != ".png")
    if indexed == reference:
        which = "both layouts of part masks; keep one" if indexed else "no part masks"
        raise DataError(f"{root} holds {which}: expected {_LAYOUTS}")
    return indexed


def read_indexed(path: Path) -> NDArray[np.uint8]:
    """Parts ``[H, W]`` of one indexed PNG.

    Raises:
        ImageError: It is no PNG of labels.
        DataError: A value is no part.
    """
    parts = read_labels(path)
    if parts.max() > len(PARTS):
        raise DataError(
            f"{path} holds the value {parts.max()}; a part map has 0 (background) to {len(PARTS)} ({PARTS[-1]}). "
            "Parsing labels become part maps with 'stcanet masks'"
        )
    return parts


def _read_reference(folder: Path) -> NDArray[np.uint8]:
    """Five grey masks as one map; where two parts overlap, the stronger one, and of equals the upper one."""
    masks = [read_labels(folder / name) for name in _FILES]
    shapes = sorted({mask.shape for mask in masks})
    if len(shapes) > 1:
        sizes = " and ".join(f"{height}×{width}" for height, width in shapes)
        raise DataError(f"the five masks in {folder} differ in size: {sizes}")
    if 0 < max(mask.max() for mask in masks) < _HALF:
        raise DataError(f"the masks in {folder} are nearly black: expected 255 where a part is, 0 elsewhere")
    stack = np.stack(masks[:-1])
    return np.where(stack.max(axis=0) >= _HALF, stack.argmax(axis=0) + 1, 0).astype(np.uint8)
