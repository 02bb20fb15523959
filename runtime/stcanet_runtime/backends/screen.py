"""Screening for backends that get their matrix products from BLAS: which gallery rows can be among the k nearest.

The key of a pair orders gallery rows as the distance does, up to a proven error::

    key(i, j) = offset_j - 2 q'_i · g'_j

``q'`` and ``g'`` are the rows scaled in float64 and rounded to float32: to unit length for the cosine (offset 0), by one
power of two for the euclidean (the longest row gets a length in [0.5, 1); offset ``|g'|²``).

**Error.** With ``u = 2⁻²⁴`` and vectors of length at most 1, a float32 dot product of D terms in any order, fused or not,
is off by at most ``D u`` to first order; rounding the two rows adds ``2 u``; offset and sum add ``5 u``. **Tie.** A row whose
float32 distance is not above another's has an exact key that is not above the other's by more than ``16 u`` plus the
float64 error of the sums and the spacing of subnormal results. A row with a key above the k-th smallest by more than
``2 error + tie`` is therefore not among the k nearest, and all others are measured exactly. ``csrc/README.md`` has the proof.
In the other direction the same holds of the farthest row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNIT32 = 2.0**-24
UNIT64 = 2.0**-53
BLOCK_KEYS = 1 << 22
_GROUP_MEMBERS = 16
_GROUPS_PER_PLACE = 8


@dataclass(frozen=True)
class Screen:
    """Scaled rows and the width of the window in which the screen cannot decide."""

    query: NDArray[np.float32]
    """[Q, D], scaled."""
    gallery: NDArray[np.float32]
    """[G, D], scaled."""
    offset: NDArray[np.float32] | None
    """[G]; None for zeros."""
    window: float
    """Rows with a key up to the k-th smallest plus this are candidates."""

    def limits(self, keys: NDArray[np.float32], k: int) -> NDArray[np.float32]:
        """Largest key [rows] that a row among the k nearest can have; infinity when fewer than k are visible."""
        return np.asarray(kth_bound(keys, k) + np.float32(self.window))

    def far_limits(self, keys: NDArray[np.float32]) -> NDArray[np.float32]:
        """Smallest key [rows] that a row at the largest distance can have: the window holds in both directions."""
        return np.asarray(keys.max(axis=1) - np.float32(self.window))

    def blocks(self, block_keys: int = BLOCK_KEYS) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first query row, keys [rows, G]), the rows few enough to bound the memory."""
        rows = max(1, block_keys // max(1, len(self.gallery)))
        for start in range(0, len(self.query), rows):
            doubled = np.multiply(self.query[start : start + rows], -2.0, dtype=np.float32)  # exact
            keys = doubled @ self.gallery.T
            if self.offset is not None:
                keys += self.offset
            yield start, keys


def rough_squared_lengths(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Squared lengths [N] of the rows [N, D] to float64 rounding, in whatever order is fast."""
    return np.asarray(np.einsum("nd,nd->n", x, x, dtype=np.float64))


def inverse_lengths(squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """One over the root of squared lengths; 0 for 0."""
    lengths = np.sqrt(squared)
    return np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)


def _scale(x: NDArray[np.float32], squared: NDArray[np.float64], metric: str, unit: float, out: NDArray[np.float32]) -> None:
    factors = inverse_lengths(squared) if metric == "cosine" else np.full(len(x), unit)
    for row, factor, place in zip(x, factors, out, strict=True):
        place[:] = row.astype(np.float64) * factor


def _offset(squared: NDArray[np.float64], metric: str, unit: float) -> NDArray[np.float32] | None:
    return None if metric == "cosine" else (squared * unit * unit).astype(np.float32)


def common_scale(*squared: NDArray[np.float64]) -> float:
    """Power of two that brings the longest row to a length in [0.5, 1)."""
    largest = max(float(s.max(initial=0.0)) for s in squared)
    return float(np.ldexp(1.0, -np.frexp(np.sqrt(largest))[1])) if largest > 0 else 1.0


def kth_bound(values: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """An upper bound [R] of the k-th smallest value of each row, close to it, and cheaper than a selection of all.

    It is the k-th smallest of the minima of at least `_GROUPS_PER_PLACE` k groups, each of which holds a value that is at
    most this. Groups take every n-th column: rows of one identity, which tend to lie together, fall into different ones.

    Args:
        values: [R, N] without NaN.
        k: from 1 to N.
    """
    members = min(_GROUP_MEMBERS, values.shape[1] // (_GROUPS_PER_PLACE * k))
    minima = values
    if members > 1:
        groups = values.shape[1] // members
        minima = values[:, :groups].copy()
        for start in range(groups, members * groups, groups):
            np.minimum(minima, values[:, start : start + groups], out=minima)
    return np.asarray(np.partition(minima, k - 1, axis=1)[:, k - 1])


def make_screen(query: NDArray[np.float32], gallery: NDArray[np.float32], metric: str) -> Screen:
    """Prepare the rows for screening.

    Args:
        query: [Q, D] float32, finite.
        gallery: [G, D] float32, finite.
        metric: ``"cosine"`` or ``"euclidean"``.
    """
    q_squared, g_squared = rough_squared_lengths(query), rough_squared_lengths(gallery)
    unit = 1.0 if metric == "cosine" else common_scale(q_squared, g_squared)
    q_scaled, g_scaled = np.empty_like(query), np.empty_like(gallery)
    _scale(query, q_squared, metric, unit, q_scaled)
    _scale(gallery, g_squared, metric, unit, g_scaled)
    return Screen(q_scaled, g_scaled, _offset(g_squared, metric, unit), _float32_window(query.shape[1], unit))


def make_joint_screen(query: NDArray[np.float32], gallery: NDArray[np.float32], metric: str) -> Screen:
    """Prepare the joint set [Q + G, D] for screening against itself, with one copy of the rows."""
    squared = np.concatenate([rough_squared_lengths(query), rough_squared_lengths(gallery)])
    unit = 1.0 if metric == "cosine" else common_scale(squared)
    scaled = np.empty((len(squared), query.shape[1]), np.float32)
    _scale(query, squared[: len(query)], metric, unit, scaled[: len(query)])
    _scale(gallery, squared[len(query) :], metric, unit, scaled[len(query) :])
    return Screen(scaled, scaled, _offset(squared, metric, unit), _float32_window(query.shape[1], unit))


def _float32_window(depth: int, unit: float) -> float:
    """`window` of a float32 product of rows rounded to float32."""
    roundings = (depth + 4) * UNIT32
    return window(depth, unit, roundings / (1.0 - roundings))


def window(depth: int, unit: float, product_error: float) -> float:
    """Width of the window in which keys cannot decide.

    Args:
        depth: D.
        unit: what rows were multiplied by.
        product_error: bound of the error of a product of two scaled rows.
    """
    error = 2.0 * product_error + 5.0 * UNIT32 + depth * 2.0**-120
    subnormal = 8.0 * 2.0**-149 * unit * (1.0 + 2.0**-149 * unit)
    # Limits are made in float32: rounding the window and then the sum moves one by 8 UNIT32 at most, since both are below 8
    # or every row passes.
    return 2.0 * error + 16.0 * UNIT32 + 16.0 * (depth + 16) * UNIT64 + subnormal + 8.0 * UNIT32
