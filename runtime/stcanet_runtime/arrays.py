"""What callers give, as arrays and numbers that mean the same: no mask is dropped and no number wraps around on the way."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stcanet_runtime.errors import OptionError, ShapeError

UInt8Array = NDArray[np.uint8]
Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]


def as_array(x: ArrayLike, name: str) -> NDArray[Any]:
    """`numpy.asarray`, which drops masks without a word; here that is an error.

    Args:
        x: anything that NumPy reads, by DLPack too.
        name: what the caller calls it, for the message.

    Raises:
        ShapeError: elements are masked, rows are of different lengths, or its owner does not let it be read as it is, such as
            torch a tensor that requires a gradient.
    """
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise ShapeError(f"{name} must have no masked elements, since all are used; fill them first, with .filled(value)")
    # NumPy does not ask for DLPack by itself, and would make one object of what offers nothing else.
    by_dlpack = hasattr(x, "__dlpack__") and not hasattr(x, "__array__")
    try:
        return np.from_dlpack(x) if by_dlpack else np.asarray(x)  # type: ignore[arg-type]
    except (ValueError, RuntimeError, BufferError) as error:
        advice = " (of what is on a GPU, give a copy in memory)" if by_dlpack else ""
        raise ShapeError(f"{name} must be one array: {error}{advice}") from None


def as_number(x: Any) -> float:
    """One number; NaN for what is none, such as text or a date, some of which `float` reads."""
    try:
        return math.nan if isinstance(x, str | bytes | np.datetime64 | np.timedelta64) else float(x)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def check_count(value: int, option: str, least: int = 1) -> int:
    """Return the value as a Python integer, or raise OptionError when it is not an integer of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise OptionError(option, value, f"an integer of at least {least}")
    return number


def check_not_negative(value: Any, option: str) -> float:
    """Return the value as a float, or raise OptionError when it is no finite number of at least 0."""
    number = as_number(value)
    if not 0 <= number < math.inf:
        raise OptionError(option, value, "a finite number that is not negative")
    return number


def as_list(x: ArrayLike, length: int, name: str) -> NDArray[Any]:
    """An array [length], or ShapeError."""
    array = as_array(x, name)
    if array.shape != (length,):
        raise ShapeError(f"{name} must have shape [{length}], got {list(array.shape)}")
    return array


def as_ids(x: ArrayLike, length: int, name: str) -> NDArray[np.int64]:
    """Integers [length], contiguous and aligned.

    Raises:
        ShapeError: the length is another, they are not integers, or int64 does not hold them: as −1, 2⁶⁴ − 1 would be junk.
    """
    array = as_list(x, length, name)
    if length and array.dtype.kind not in "iu":
        raise ShapeError(f"{name} must hold integers, got dtype {array.dtype}")
    if array.dtype.kind == "u" and int(array.max(initial=0)) > np.iinfo(np.int64).max:
        raise ShapeError(f"{name} must hold integers below 2**63, got {array.max()}; number them anew, or take int64")
    return np.require(array, np.int64, ["C", "ALIGNED"])
