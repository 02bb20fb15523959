"""The Numba backend: BLAS screens, compiled loops select and measure; results as `reference`, bit for bit.

The first call compiles for a few seconds. The result is not cached on disk: the place beside an installed package is often
not writable, and a stale cache on a shared home gives code of another machine. Numba itself is imported on the first call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends import numpy_
from stcanet_runtime.backends.screen import make_screen

PARTIALS = 16  # the fixed order of `reference`; a literal, so that Numba unrolls it

distance_matrix = numpy_.distance_matrix
"""One BLAS product: there is nothing for Numba to gain."""


def _fold(partial: NDArray[np.float64]) -> float:
    half = PARTIALS // 2
    while half > 0:
        for lane in range(half):
            partial[lane] += partial[lane + half]
        half //= 2
    return float(partial[0])


@cache
def _compile() -> Callable[..., None]:
    """Compile the loops; without fastmath, so that nothing is reordered or fused.

    Not parallel: the matrix product is nearly all the time and has threads of its own, while Numba's would double the compile
    time, and one of its threading layers ends the process when two Python threads search at once.
    """
    from numba import njit

    fold: Any = njit(_fold)

    @njit
    def dot(x: Any, y: Any) -> float:
        partial = np.zeros(PARTIALS)
        whole = x.size - x.size % PARTIALS
        for start in range(0, whole, PARTIALS):
            for lane in range(PARTIALS):
                partial[lane] += np.float64(x[start + lane]) * np.float64(y[start + lane])
        for lane in range(x.size - whole):
            partial[lane] += np.float64(x[whole + lane]) * np.float64(y[whole + lane])
        return float(fold(partial))

    @njit
    def squared_distance(x: Any, y: Any) -> float:
        partial = np.zeros(PARTIALS)
        whole = x.size - x.size % PARTIALS
        for start in range(0, whole, PARTIALS):
            for lane in range(PARTIALS):
                difference = np.float64(x[start + lane]) - np.float64(y[start + lane])
                partial[lane] += difference * difference
        for lane in range(x.size - whole):
            difference = np.float64(x[whole + lane]) - np.float64(y[whole + lane])
            partial[lane] += difference * difference
        return float(fold(partial))

    @njit
    def measure(q: Any, g: Any, q_squared: float, cosine: bool) -> Any:
        if not cosine:
            return np.float32(np.sqrt(squared_distance(q, g)))
        product = q_squared * dot(g, g)
        similarity = dot(q, g) / np.sqrt(product) if product > 0.0 else 0.0
        return np.float32(min(max(1.0 - similarity, 0.0), 2.0))

    @njit(nogil=True)
    def select(
        query: Any, gallery: Any, keys: Any, limits: Any, start: int, cosine: bool, distances: Any, indices: Any
    ) -> None:
        for r in range(keys.shape[0]):
            i = start + r
            candidates = np.nonzero((keys[r] <= limits[r]) & (keys[r] < np.inf))[0]
            measured = np.empty(candidates.size, np.float32)
            q_squared = dot(query[i], query[i])
            for c in range(candidates.size):
                measured[c] = measure(query[i], gallery[candidates[c]], q_squared, cosine)
            # Stable, and candidates grow: ties stay in the order of their index.
            order = np.argsort(measured, kind="mergesort")[: distances.shape[1]]
            for place in range(order.size):
                distances[i, place] = measured[order[place]]
                indices[i, place] = candidates[order[place]]

    compiled: Callable[..., None] = select
    return compiled


def top_k(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    k: int,
    metric: str,
    q_groups: NDArray[np.int64] | None = None,
    g_groups: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k nearest visible gallery rows; arguments and result as `reference.top_k`."""
    distances = np.full((len(query), k), np.inf, np.float32)
    indices = np.full((len(query), k), -1, np.int64)
    if len(query) == 0 or len(gallery) == 0:
        return distances, indices
    screen = make_screen(query, gallery, metric)
    select = _compile()
    for start, keys in screen.blocks():
        if q_groups is not None and g_groups is not None:
            keys[q_groups[start : start + len(keys), None] == g_groups] = np.inf
        limits = screen.limits(keys, min(k, len(gallery)))
        select(query, gallery, keys, limits, start, metric == "cosine", distances, indices)
    return distances, indices
