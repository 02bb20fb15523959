"""What counts as embeddings: [N, D] of finite real numbers, checked once, where they enter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stcanet_runtime.arrays import as_array
from stcanet_runtime.errors import ShapeError

MAX_MAGNITUDE = float(np.float32(1e30))
"""Largest absolute value in an embedding, a float32, a little above 1e30; beyond it a distance could overflow float32."""
LEAST_NORM = 1e-12
"""Least length by which a row is divided to bring it to unit length, as in ``torch.nn.functional.normalize``."""

_CHECKED_ELEMENTS = 1 << 18
"""Elements looked at together: they stay in the cache between the smallest and the largest."""


def as_embeddings(x: ArrayLike, name: str, *, keep_float16: bool = False) -> NDArray[np.float32]:
    """Check embeddings and make them contiguous float32.

    Args:
        x: [N, D] numbers, N may be 0; float16, float64 and integers are converted.
        name: what the caller calls them, for the message.
        keep_float16: whether float16 may stay float16, for the backends that read it.

    Returns:
        [N, D] float32 (or float16), C-contiguous and aligned; the array itself when it is that already.

    Raises:
        ShapeError: not two-dimensional, no columns, not real numbers, NaN, infinite or beyond `MAX_MAGNITUDE`.
    """
    array = check_embeddings(x, name)
    kept = np.float16 if keep_float16 and array.dtype == np.float16 else np.float32
    return np.require(array, kept, ["C", "ALIGNED"])


def check_embeddings(x: ArrayLike, name: str) -> NDArray[Any]:
    """Check embeddings without a copy, which a memory-mapped file may be too large for; see `as_embeddings`.

    Returns:
        [N, D] of any real type.
    """
    array = as_rows(x, name)
    step = max(1, _CHECKED_ELEMENTS // array.shape[1])
    for start in range(0, len(array), step):
        _check_values(array[start : start + step], start, name)
    return array


def as_rows(x: ArrayLike, name: str) -> NDArray[Any]:
    """Embeddings [N, D] of any real type, whose values are not looked at; without a copy of what is an array already.

    Raises:
        ShapeError: as `as_embeddings`, but for the values.
    """
    try:
        array = as_array(x, name)
    except TypeError as error:  # what lies on a GPU, and tensors of a type or layout that NumPy does not have
        raise ShapeError(
            f"{name} cannot be read as an array: {error} (of what is on a GPU, give a copy in memory, or take backend='gpu' "
            "for distances, search or re-ranking)"
        ) from None
    check_form(array, name)
    return array


def conversion_bytes(array: Any) -> int:
    """Bytes of the copy that `as_embeddings` makes of an array, of NumPy or of a GPU, if it is to be float32."""
    flags = array.flags
    ready = array.dtype == np.float32 and flags.c_contiguous and getattr(flags, "aligned", True)  # CuPy's are aligned
    return 0 if ready else 4 * int(array.size)


def check_form(array: Any, name: str) -> None:
    """Raise ShapeError unless an array of NumPy or of a GPU is [N, D] of real numbers; what they are is not looked at."""
    if array.ndim != 2 or array.shape[1] == 0:
        raise ShapeError(f"{name} must have shape [N, D] with D >= 1, got {list(array.shape)}")
    if array.dtype.kind not in "fiu":
        raise ShapeError(f"{name} must hold real numbers, got dtype {array.dtype}")


def _check_values(rows: NDArray[Any], start: int, name: str) -> None:
    # Before the conversion, which would turn a large float64 into infinity; NaN fails both comparisons.
    if rows.dtype == np.float16:  # all that is finite is small enough; NumPy compares float16 twenty times slower than float32
        if np.isfinite(rows).all():
            return
    elif float(rows.min()) >= -MAX_MAGNITUDE and float(rows.max()) <= MAX_MAGNITUDE:
        return
    bad = start + int(np.flatnonzero(~(np.abs(rows.astype(np.float64)) <= MAX_MAGNITUDE).all(axis=1))[0])
    raise ShapeError(f"{name} must be finite and at most {MAX_MAGNITUDE:g} in magnitude, row {bad} is not")


def check_same_depth(query: NDArray[Any], gallery: NDArray[Any]) -> None:
    """ShapeError when query [Q, D] and gallery [G, D] differ in D."""
    if query.shape[1] != gallery.shape[1]:
        raise ShapeError(f"query and gallery must have the same D, got {list(query.shape)} and {list(gallery.shape)}")
