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
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNIT32 = 2.0**-24
UNIT64 = 2.0**-53
_BLOCK_KEYS = 1 << 22


@dataclass(frozen=True)
class Screen:
    """Scaled rows and the width of the window in which the screen cannot decide."""

    query: NDArray[np.float32]
    """[Q, D], scaled, times -2."""
    gallery: NDArray[np.float32]
    """[G, D], scaled."""
    offset: NDArray[np.float32]
    """[G]."""
    window: float
    """Rows with a key up to the k-th smallest plus this are candidates."""

    def limits(self, keys: NDArray[np.float32], k: int) -> NDArray[np.float64]:
        """Largest key [rows] that a row among the k nearest can have; infinity when fewer than k are visible."""
        kth = np.partition(keys, k - 1, axis=1)[:, k - 1]
        return np.asarray(kth.astype(np.float64) + self.window)

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first query row, keys [rows, G]), the rows few enough to bound the memory."""
        rows = max(1, _BLOCK_KEYS // max(1, len(self.gallery)))
        for start in range(0, len(self.query), rows):
            keys = self.query[start : start + rows] @ self.gallery.T
            keys += self.offset
            yield start, keys


def _squared_lengths(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.einsum("nd,nd->n", x, x, dtype=np.float64))


def _inverse(lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)


def _scaled(x: NDArray[np.float32], scale: NDArray[np.float64]) -> NDArray[np.float32]:
    result = np.empty_like(x)
    for row, factor, out in zip(x, scale, result, strict=True):
        out[:] = row.astype(np.float64) * factor
    return result


def common_scale(*squared: NDArray[np.float64]) -> float:
    """Power of two that brings the longest row to a length in [0.5, 1)."""
    largest = max(float(s.max(initial=0.0)) for s in squared)
    return float(np.ldexp(1.0, -np.frexp(np.sqrt(largest))[1])) if largest > 0 else 1.0


def make_screen(query: NDArray[np.float32], gallery: NDArray[np.float32], metric: str) -> Screen:
    """Prepare the rows for screening.

    Args:
        query: [Q, D] float32, finite.
        gallery: [G, D] float32, finite.
        metric: ``"cosine"`` or ``"euclidean"``.
    """
    q_squared, g_squared = _squared_lengths(query), _squared_lengths(gallery)
    if metric == "cosine":
        unit, offset = 1.0, np.zeros(len(gallery), np.float32)
        q_scale, g_scale = _inverse(np.sqrt(q_squared)), _inverse(np.sqrt(g_squared))
    else:
        unit = common_scale(q_squared, g_squared)
        offset = (g_squared * unit * unit).astype(np.float32)
        q_scale, g_scale = np.full(len(query), unit), np.full(len(gallery), unit)
    return Screen(_scaled(query, -2.0 * q_scale), _scaled(gallery, g_scale), offset, _window(query.shape[1], unit))


def _window(depth: int, unit: float) -> float:
    roundings = (depth + 4) * UNIT32
    error = 2.0 * roundings / (1.0 - roundings) + 5.0 * UNIT32 + depth * 2.0**-120
    subnormal = 8.0 * 2.0**-149 * unit * (1.0 + 2.0**-149 * unit)
    # 4 UNIT32: the limit itself is rounded to float32.
    return 2.0 * error + 16.0 * UNIT32 + 16.0 * (depth + 16) * UNIT64 + subnormal + 4.0 * UNIT32
