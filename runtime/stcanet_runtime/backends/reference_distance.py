"""The specification of distances, for `reference`.

**Distance.** Sums run in float64 in a fixed order, and the result is rounded to float32 once:

* ``cosine``: ``clip(1 - q·g / sqrt(q·q * g·g), 0, 2)``; 1 when either row is zero. The root of the *product*
  makes a copy exactly 0, since ``sqrt(s * s) == s`` in IEEE arithmetic.
* ``euclidean``: ``sqrt(Σ (q - g)²)``, not squared, and from differences: ``|q|² + |g|² - 2 q·g`` cancels for near copies.

**Order of a sum.** Partial sum ``l`` of `PARTIALS` takes the terms ``l``, ``l + 16``, ``l + 32``, … in turn; the partial
sums are then folded in halves, ``s[l] += s[l + 8]``, ``s[l] += s[l + 4]``, … Without a fixed order the last bit depends
on the BLAS and the processor, and so does the order of copies and ties.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.neighbours import DEFAULT_SCRATCH

PARTIALS = 16
"""Partial sums of the fixed order; ``csrc/cpu/exact.cpp`` has the same number."""

_BLOCK_ELEMENTS = 1 << 20


def ordered_sum(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the last axis in the fixed order.

    Args:
        terms: [..., D] float64.

    Returns:
        [...] float64.
    """
    depth = terms.shape[-1]
    padded = np.zeros((*terms.shape[:-1], -(-depth // PARTIALS) * PARTIALS))
    padded[..., :depth] = terms
    partial = np.zeros((*terms.shape[:-1], PARTIALS))
    for start in range(0, padded.shape[-1], PARTIALS):
        partial += padded[..., start : start + PARTIALS]
    while partial.shape[-1] > 1:
        half = partial.shape[-1] // 2
        partial = partial[..., :half] + partial[..., half:]
    return partial[..., 0]


def pair_distance(query: NDArray[np.float32], gallery: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """Distance of each query row to the gallery row beside it.

    Args:
        query: [..., D] float32, finite.
        gallery: [..., D] float32, broadcast against ``query``.
        metric: ``"cosine"`` or ``"euclidean"``.

    Returns:
        [...] float32.
    """
    q, g = query.astype(np.float64), gallery.astype(np.float64)
    if metric == "euclidean":
        return np.sqrt(ordered_sum((q - g) ** 2)).astype(np.float32)
    lengths = np.sqrt(ordered_sum(q * q) * ordered_sum(g * g))
    cosine = np.divide(ordered_sum(q * g), lengths, out=np.zeros(np.broadcast_shapes(lengths.shape)), where=lengths > 0)
    return np.clip(1.0 - cosine, 0.0, 2.0).astype(np.float32)


def distance_matrix(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    metric: str,
    *,
    scratch_bytes: int = DEFAULT_SCRATCH,  # noqa: ARG001  (the definition takes the memory that it takes)
) -> NDArray[np.float32]:
    """All distances between Q query and G gallery rows.

    Args:
        query: [Q, D] float32, finite.
        gallery: [G, D] float32, finite.
        metric: ``"cosine"`` or ``"euclidean"``.
        scratch_bytes: memory for packed blocks, about; the result does not depend on it.

    Returns:
        [Q, G] float32.
    """
    result = np.empty((len(query), len(gallery)), np.float32)
    block = max(1, _BLOCK_ELEMENTS // query.shape[1])  # gallery rows, so that the terms of one query stay in the cache
    for i, row in enumerate(query):
        for start in range(0, len(gallery), block):
            result[i, start : start + block] = pair_distance(row, gallery[start : start + block], metric)
    return result
