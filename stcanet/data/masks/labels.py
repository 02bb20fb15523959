"""Label maps and lists of label names, from PNG, text and MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stcanet.data.masks.folder import read_labels
from stcanet.data.matlab import load_mat
from stcanet_runtime.errors import ConfigError, DataError

SUFFIXES = (".png", ".mat")


def read_label_map(path: Path) -> NDArray[np.uint8]:
    """Label values ``[H, W]`` of a grey or palette PNG, or of the only 2-D array of whole numbers in a .mat file.

    Raises:
        DataError: The .mat file has none or several, or values that do not fit into 0..255.
        ImageError: The PNG is damaged or has colours.
        MissingDependencyError: A .mat file needs scipy.
    """
    if path.suffix.lower() != ".mat":
        return read_labels(path)
    maps = {name: value for name, value in load_mat(path).items() if value.dtype.kind in "iuf" and min(value.shape[:2]) > 1}
    if len(maps) != 1 or next(iter(maps.values())).ndim != 2:
        raise DataError(f"{path} must hold one label map [H, W], it holds {', '.join(maps) or 'none'}")
    labels = next(iter(maps.values()))
    values = labels.astype(np.uint8)
    if not np.array_equal(values, labels):
        raise DataError(f"{path} holds values that are no labels from 0 to 255")
    return values


def read_names(path: Path) -> list[str]:
    """Names of the label values, from 0: a line each in a text file, or the cells of a .mat file.

    Raises:
        ConfigError: It cannot be read, or holds no names.
    """
    try:
        if path.suffix.lower() != ".mat":
            return path.read_text(encoding="utf-8").splitlines()
        cells = [value for value in load_mat(path).values() if value.dtype == object]
        return [str(cell.item()) for cell in cells[0].ravel()]
    except (OSError, UnicodeDecodeError, IndexError, ValueError, DataError) as error:
        raise ConfigError(f"cannot read label names from {path}: {error}") from error
