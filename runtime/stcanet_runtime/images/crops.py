"""Folders of crops, and what their names tell. No torch here: the camera box reads folders too."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from stcanet_runtime.errors import DataError
from stcanet_runtime.preprocess import FORMATS

IMAGE_SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""Lower-case suffixes that count as images in a folder."""

# 0001_c1s1_000004_00.jpg, -1_c10s2_….png, and DukeMTMC's 0005_c2_f0046985.jpg: any number of camera digits.
_MARKET_NAME = re.compile(r"(?P<pid>-1|\d+)_c(?P<camera>\d+)(?:s\d+)?(?:_.*)?", re.ASCII)


def list_images(path: str | Path) -> list[Path]:
    """All images below a folder, or the one file.

    Args:
        path: A folder, searched recursively, or a file, returned whatever its suffix (reading it tells what it is).

    Returns:
        Paths sorted by name, folder by folder, so that the order is the same on every machine. Hidden files are left
        out: macOS puts a ``._0001_c1….jpg`` beside each file on foreign disks, and those are not images.

    Raises:
        DataError: There is no such path, or no image in the folder.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    if images := sorted(filter(_is_image, _walk(path))):
        return images
    raise DataError(f"{path}: no images found (looked for {', '.join(sorted(IMAGE_SUFFIXES))} in it and below)")


def list_tracklets(path: str | Path) -> dict[Path, list[Path]]:
    """The frames of each folder in and below a path that holds images, in order of their names; of a file, itself.

    Raises:
        DataError: As of :func:`list_images`.
    """
    path = Path(path)
    path = path if path.name.strip(".") else path.resolve()  # of "." the name is that of the folder
    tracklets: dict[Path, list[Path]] = {}
    for image in list_images(path):
        tracklets.setdefault(path if image == path else image.parent, []).append(image)
    return tracklets


def list_others(path: str | Path) -> list[Path]:
    """What :func:`list_images` passes over in a folder and below, but for hidden files; sorted, and none for a file."""
    path = Path(path)
    return sorted(file for file in _walk(path) if not _is_image(file)) if path.is_dir() else []


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _walk(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """All files that are not hidden. Through links to folders, too, but not back into one `above`.

    A folder that cannot be read is an error, not empty.
    """
    real = folder.resolve()
    if real in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            if path.is_dir() if entry.is_symlink() else entry.is_dir():  # of a link to itself the entry raises
                yield from _walk(path, above | {real, *real.parents})
            else:
                yield path


def parse_name(path: str | Path) -> tuple[int, int] | None:
    """Identity and camera from a file name in the Market-1501 style.

    Args:
        path: Such as ``0001_c1s1_000004_00.jpg``; the folder plays no part.

    Returns:
        ``(pid, camid)``, the camera counted from 0 (``c1`` is 0), pid −1 for junk; None where the name is of another
        kind (``c0`` too: cameras are counted from 1 in these names).
    """
    match = _MARKET_NAME.fullmatch(Path(path).stem)
    if match is None or int(match["camera"]) == 0:
        return None
    pid, camid = int(match["pid"]), int(match["camera"]) - 1
    return (pid, camid) if max(pid, camid) < 2**63 else None  # a time, perhaps: no number of a person
