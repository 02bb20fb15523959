"""The NumPy backend for machines where nothing is compiled: BLAS screens, float64 decides.

`top_k` gives the results of `reference`, bit for bit: a float32 matrix product and its error bound (`screen`) leave few
candidates, and those are measured by the definition. `distance_matrix` comes from a float64 matrix product: for distances
above 1e-3 of the largest length within 1e-9 of that length before the one rounding to float32 (the cosine within 1e-12);
closer pairs are measured by the definition.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends import reference
from stcanet_runtime.backends.screen import make_screen

_CLOSE = 1e-6  # squared, in units of the longest row: below it the float64 product cancels too much
_PAIR_ELEMENTS = 1 << 20


def distance_matrix(query: NDArray[np.float32], gallery: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """All distances, as `reference.distance_matrix` up to the bound stated in the module."""
    result = np.empty((len(query), len(gallery)), np.float32)
    g = gallery.astype(np.float64)
    g_squared = np.einsum("jd,jd->j", g, g)
    block = max(1, (1 << 21) // max(1, len(gallery)))
    for start in range(0, len(query), block):
        rows = slice(start, start + block)
        q = query[rows].astype(np.float64)
        q_squared = np.einsum("id,id->i", q, q)
        gap, distances = _distances(q @ g.T, q_squared[:, None], g_squared, metric)
        result[rows] = distances
        i, j = np.nonzero(gap < _CLOSE)
        result[start + i, j] = measure(query, gallery, start + i, j, metric)
    return result


def _distances(
    dots: NDArray[np.float64], q_squared: NDArray[np.float64], g_squared: NDArray[np.float64], metric: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squared gaps relative to the longest row [Q, G], and distances [Q, G]."""
    if metric == "cosine":
        lengths = np.sqrt(q_squared * g_squared)
        distances = 1.0 - np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)
        return 2.0 * distances, np.clip(distances, 0.0, 2.0)
    gap = q_squared + g_squared - 2.0 * dots
    largest = max(float(q_squared.max(initial=0.0)), float(g_squared.max(initial=0.0)))
    return gap / largest if largest > 0 else gap, np.sqrt(np.maximum(gap, 0.0))


def measure(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    metric: str,
) -> NDArray[np.float32]:
    """Distances of the pairs (i, j) [P] by the definition, in pieces that bound the memory."""
    result = np.empty(len(i), np.float32)
    step = max(1, _PAIR_ELEMENTS // query.shape[1])
    for start in range(0, len(i), step):
        piece = slice(start, start + step)
        result[piece] = reference.pair_distance(query[i[piece]], gallery[j[piece]], metric)
    return result


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
    kept = min(k, len(gallery))
    for start, keys in screen.blocks():
        if q_groups is not None and g_groups is not None:
            keys[q_groups[start : start + len(keys), None] == g_groups] = np.inf
        i, j = np.nonzero((keys <= screen.limits(keys, kept)[:, None]) & np.isfinite(keys))
        _place(start + i, j, measure(query, gallery, start + i, j, metric), distances, indices)
    return distances, indices


def _place(
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    measured: NDArray[np.float32],
    distances: NDArray[np.float32],
    indices: NDArray[np.int64],
) -> None:
    """Sort candidates [P] by (query, distance, index) and write the first k of each query in place."""
    order = np.lexsort((j, measured, i))
    i, j, measured = i[order], j[order], measured[order]
    place = np.arange(len(i)) - np.searchsorted(i, i)
    best = place < distances.shape[1]
    distances[i[best], place[best]] = measured[best]
    indices[i[best], place[best]] = j[best]
