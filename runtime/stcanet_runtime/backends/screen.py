"""Screening for backends that get their matrix products from BLAS: which gallery rows can be among the k nearest.

The key of a pair orders gallery rows as the distance does, up to a proven error::

    key(i, j) = offset_j - 2 q'_i · g'_j

``q'`` and ``g'`` are the rows, for the cosine first brought to unit length, seen from one centre, scaled in float64 by one
power of two that brings the longest to a length in (0.5, 1], and rounded to float32; the offset is ``|g'|²``. The centre is
zero unless the rows lie so close together that their mean is most of them.

**Error.** With ``u = 2⁻²⁴`` and vectors of length at most 1, a float32 dot product of D terms in any order, fused or not,
is off by at most ``D u`` to first order; rounding the two rows adds ``2 u``; offset and sum add ``5 u``, float64 the error of
rows before the centre is taken away. **Tie.** A row whose float32 distance is not above another's has an exact key that is
not above the other's by more than ``16 u`` plus the float64 error of the sums and the spacing of subnormal results. A row with
a key above the k-th smallest by more than ``2 error + tie`` is therefore not among the k nearest, and all others are measured
exactly. ``csrc/README.md`` has the proof. In the other direction the same holds of the farthest row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.neighbours import joint_rows

UNIT32 = 2.0**-24
UNIT64 = 2.0**-53
BLOCK_KEYS = 1 << 22
_GROUP_MEMBERS = 16
_GROUPS_PER_PLACE = 8
MEAN_OF = 32  # these three as in csrc/cpu/screen.cpp
WORTH_IT = 0.5
LARGEST = 2.0**12


@dataclass(frozen=True)
class Screen:
    """Scaled rows and the width of the window in which the screen cannot decide."""

    query: NDArray[np.float32]
    """[Q, D], scaled."""
    gallery: NDArray[np.float32]
    """[G, D], scaled."""
    offset: NDArray[np.float32] | None
    """[G]; None where all are equal."""
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


def common_scale(longest: float) -> float:
    """Power of two that brings a length into (0.5, 1]."""
    fraction, exponent = np.frexp(longest)
    return float(np.ldexp(1.0, int(fraction == 0.5) - exponent)) if longest > 0 else 1.0


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


@dataclass(frozen=True)
class _View:
    """How the joint rows become those of a screen: ``(row factor - centre) unit``, rounded."""

    factors: NDArray[np.float64]
    """[N]."""
    centre: NDArray[np.float64]
    """[D]."""
    unit: float
    offset: NDArray[np.float32] | None
    """[N] squared lengths of what is seen; None where all are equal."""
    window: float

    def write(self, x: NDArray[np.float32], first: int, out: NDArray[np.float32]) -> None:
        """Write rows x [R, D], from joint row `first` on, as they are seen."""
        for row, factor, place in zip(x, self.factors[first : first + len(x)], out, strict=True):
            place[:] = (row.astype(np.float64) * factor - self.centre) * self.unit


def _view(query: NDArray[np.float32], gallery: NDArray[np.float32], metric: str) -> _View:
    squared = np.concatenate([rough_squared_lengths(query), rough_squared_lengths(gallery)])
    cosine = metric == "cosine"
    # A row of zeros is at cosine distance 1 from everything, as if it had length 1 in a direction of its own.
    factors, lengths = (inverse_lengths(squared), np.ones(len(squared))) if cosine else (np.ones(len(squared)), squared)
    longest = float(lengths.max())
    centre, seen = _centre(query, gallery, factors, longest)
    if seen is not None:
        lengths = seen
    unit = common_scale(np.sqrt(max(float(lengths.max()), longest / LARGEST**2)))
    offset = None if cosine and seen is None else (lengths * unit * unit).astype(np.float32)
    return _View(factors, centre, unit, offset, _float32_window(len(centre), metric, unit, unit * np.sqrt(longest)))


def _centre(
    query: NDArray[np.float32], gallery: NDArray[np.float32], factors: NDArray[np.float64], longest: float
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """The centre [D], and the squared lengths [N] from there; zero and None where that shortens no rows by much.

    Rows that are nearly one direction, as an untrained or collapsed model gives them, drown in the error of what they share.
    Any centre is right, so the mean of a few rows will do.
    """
    count = min(len(factors), MEAN_OF)
    chosen = np.arange(count) * len(factors) // count
    mean = np.asarray(factors[chosen] @ joint_rows(query, gallery, chosen)) / count
    none = np.zeros(len(mean)), None
    if mean @ mean < WORTH_IT * longest:
        return none
    lengths = np.full(len(factors), longest)
    for i in np.flatnonzero(factors):
        row = query[i] if i < len(query) else gallery[i - len(query)]
        difference = row.astype(np.float64) * factors[i] - mean
        lengths[i] = difference @ difference
    return none if lengths.max() > WORTH_IT * longest else (mean, lengths)


def make_screen(query: NDArray[np.float32], gallery: NDArray[np.float32], metric: str) -> Screen:
    """Prepare the rows for screening.

    Args:
        query: [Q, D] float32, finite.
        gallery: [G, D] float32, finite.
        metric: ``"cosine"`` or ``"euclidean"``.
    """
    joint, count = make_joint_screen(query, gallery, metric), len(query)
    offset = None if joint.offset is None else joint.offset[count:]
    return Screen(joint.query[:count], joint.gallery[count:], offset, joint.window)


def make_joint_screen(query: NDArray[np.float32], gallery: NDArray[np.float32], metric: str) -> Screen:
    """Prepare the joint set [Q + G, D] for screening against itself, with one copy of the rows."""
    view = _view(query, gallery, metric)
    scaled = np.empty((len(query) + len(gallery), query.shape[1]), np.float32)
    view.write(query, 0, scaled[: len(query)])
    view.write(gallery, len(query), scaled[len(query) :])
    return Screen(scaled, scaled, view.offset, view.window)


def _float32_window(depth: int, metric: str, unit: float, length: float) -> float:
    """`window` of a float32 product of rows rounded to float32."""
    roundings = (depth + 4) * UNIT32
    return window(depth, metric, unit, roundings / (1.0 - roundings), length)


def window(depth: int, metric: str, unit: float, product_error: float, length: float = 1.0) -> float:
    """Width of the window in which keys cannot decide.

    Args:
        depth: D.
        metric: ``"cosine"`` or ``"euclidean"``.
        unit: what rows, for the cosine of length 1, were multiplied by.
        product_error: bound of the error of a product of two scaled rows.
        length: of the longest row times the unit, before a centre was taken away.
    """
    moved = (depth + 16) * UNIT64 * length
    error = 2.0 * product_error + 5.0 * UNIT32 + depth * 2.0**-120 + 12.0 * moved + 4.0 * moved**2
    # The sums of the cosine are of whole rows, those of the euclidean of what they differ in.
    sums = 16.0 * (depth + 16) * UNIT64 * (unit**2 if metric == "cosine" else 1.0)
    of_distance = unit**2 if metric == "cosine" else unit
    subnormal = 8.0 * 2.0**-149 * of_distance * (1.0 + 2.0**-149 * of_distance)
    # Limits are made in float32: rounding the window and then the sum moves one by 8 UNIT32 at most, since both are below 8
    # or every row passes.
    return 2.0 * error + 16.0 * UNIT32 + sums + subnormal + 8.0 * UNIT32
