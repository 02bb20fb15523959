"""MATLAB files of data sets and masks: arrays and lists of names, with errors that name the file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.errors import DataError
from stcanet_runtime.extras import import_extra

_MAX_VALUES = 20_000_000
"""In one array. A few compressed bytes can claim any size, and would get the memory for it."""


def load_mat(path: Path, *keys: str) -> dict[str, NDArray[Any]]:
    """The named arrays of a file of MATLAB 7.2 or older, or all of them where none is named.

    Raises:
        DataError: The file cannot be read, lacks one of them, or has one that is too large.
        MissingDependencyError: SciPy is not installed.
    """
    scipy_io = import_extra("scipy.io", "scipy", "reading .mat files", "mat")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        sizes = {key: math.prod(shape) for key, shape, _ in scipy_io.whosmat(path) if key in keys or not keys}
        if too_large := [key for key, size in sizes.items() if size > _MAX_VALUES]:
            raise DataError(f"{path}: '{too_large[0]}' claims {sizes[too_large[0]]:,} values; no data set has so many")
        content = scipy_io.loadmat(path, variable_names=list(keys) or None)
    except DataError:
        raise
    except Exception as error:  # SciPy raises many kinds for damaged files, and NotImplementedError for those of version 7.3
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"cannot read {path} as a MATLAB file of version 7.2 or older: {reason}") from error
    if missing := [key for key in keys if key not in content]:
        raise DataError(f"{path} has no array '{missing[0]}'")
    if keys:
        return {key: np.asarray(content[key]) for key in keys}
    return {key: value for key, value in content.items() if not key.startswith("__") and isinstance(value, np.ndarray)}


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
