"""MATLAB files of data sets: arrays and lists of names, with errors that name the file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.errors import DataError

_MAX_VALUES = 20_000_000
"""In one array. A few compressed bytes can claim any size, and would get the memory for it."""


def load_mat(path: Path, *keys: str) -> dict[str, NDArray[Any]]:
    """The named arrays of a file of MATLAB 7 or older.

    Raises:
        DataError: The file cannot be read, or lacks one of them.
        ModuleNotFoundError: SciPy is not installed; the command line says which extra brings it.
    """
    from scipy.io import loadmat, whosmat

    try:
        sizes = {key: math.prod(shape) for key, shape, _ in whosmat(path)}
        if too_large := [key for key in keys if sizes.get(key, 0) > _MAX_VALUES]:
            raise DataError(f"{path}: '{too_large[0]}' claims {sizes[too_large[0]]:,} values; no data set has so many")
        content = loadmat(path, variable_names=list(keys))
    except DataError:
        raise
    except Exception as error:  # SciPy raises many kinds for damaged files
        raise DataError(f"cannot read {path}: {type(error).__name__}: {error}") from error
    if missing := [key for key in keys if key not in content]:
        raise DataError(f"{path} has no array '{missing[0]}'")
    return {key: np.asarray(content[key]) for key in keys}


def as_integers(array: NDArray[Any], columns: int | None, path: Path, key: str) -> NDArray[np.int64]:
    """Whole numbers ``[N, columns]``, or ``[N]`` of a row or column where `columns` is None.

    Raises:
        DataError: It has another shape, or other values.
    """
    fits = array.ndim == 2 and (1 in array.shape or array.size == 0 if columns is None else array.shape[1] == columns)
    if not fits or array.dtype.kind not in "iuf":
        wanted = "one row or column" if columns is None else f"shape [N, {columns}]"
        raise DataError(f"{path}: '{key}' must be numbers in {wanted}, got {array.dtype} {list(array.shape)}")
    with np.errstate(invalid="ignore"):  # NaN and what is too large are found below
        values = array.astype(np.int64)
    if not np.array_equal(values, array):
        raise DataError(f"{path}: '{key}' must hold whole numbers")
    return values.ravel() if columns is None else values


def check_range(values: NDArray[np.int64], low: int, high: int, path: Path, key: str) -> None:
    """Raise DataError unless all values lie in low..high."""
    bad = values[(values < low) | (values > high)]
    if bad.size:
        raise DataError(f"{path}: '{key}' has {bad[0]}; expected {low} to {high}")
