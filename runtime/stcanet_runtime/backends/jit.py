"""The Numba backend: BLAS screens, compiled loops select and measure; results as `reference`, bit for bit.

The first call compiles for a few seconds. The result is not cached on disk: the place beside an installed package is often
not writable, and a stale cache on a shared home gives code of another machine. Numba itself is imported on the first call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends import numpy_, numpy_top
from stcanet_runtime.backends.jit_kreciprocal import average, blend, expand, overlaps, smallest
from stcanet_runtime.backends.neighbours import DEFAULT_SCRATCH, GalleryLists, Neighbours
from stcanet_runtime.backends.numpy_neighbours import KEY_BYTES, hide, screened_neighbours
from stcanet_runtime.backends.numpy_pairs import squared_lengths
from stcanet_runtime.backends.reference_distance import PARTIALS
from stcanet_runtime.backends.screen import BLOCK_KEYS, make_screen
from stcanet_runtime.backends.weights import weights
from stcanet_runtime.progress import Progress

__all__ = [
    "average",
    "blend",
    "distance_matrix",
    "expand",
    "neighbours",
    "overlaps",
    "pair_distances",
    "select_best",
    "smallest",
    "top_k",
    "weights",
]

READS_FLOAT16 = False
ON_DEVICE = False

distance_matrix = numpy_.distance_matrix
"""One BLAS product: there is nothing for Numba to gain."""
count_closer = numpy_.count_closer
"""Nearly all of it is such products."""
ranks = numpy_.ranks
"""Sorts little; compiling would take longer than a whole test set."""
resize_boxes = numpy_.resize_boxes
"""Pillow is compiled already."""


def _fold(partial: NDArray[np.float64]) -> float:
    half = PARTIALS // 2
    while half > 0:
        for lane in range(half):
            partial[lane] += partial[lane + half]
        half //= 2
    return float(partial[0])


@dataclass(frozen=True)
class _Loops:
    select: Callable[..., None]
    select_joint: Callable[..., None]
    measure_pairs: Callable[..., None]


@cache
def _compile() -> _Loops:
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
    def measure(q: Any, g: Any, q_squared: float, g_squared: float, cosine: bool) -> Any:
        if not cosine:
            return np.float32(np.sqrt(squared_distance(q, g)))
        product = q_squared * g_squared
        similarity = dot(q, g) / np.sqrt(product) if product > 0.0 else 0.0
        return np.float32(min(max(1.0 - similarity, 0.0), 2.0))

    @njit
    def row_of(query: Any, gallery: Any, i: int) -> Any:
        return query[i] if i < len(query) else gallery[i - len(query)]

    @njit
    def measure_row(query: Any, gallery: Any, squared: Any, i: int, candidates: Any, cosine: bool) -> Any:
        measured, row = np.empty(candidates.size, np.float32), row_of(query, gallery, i)
        for c in range(candidates.size):
            j = candidates[c]
            measured[c] = measure(row, row_of(query, gallery, j), squared[i], squared[j], cosine)
        return measured

    @njit(nogil=True)
    def select(
        query: Any, gallery: Any, squared: Any, keys: Any, limits: Any, start: int, cosine: bool, distances: Any, indices: Any
    ) -> None:
        for r in range(keys.shape[0]):
            candidates = np.nonzero((keys[r] <= limits[r]) & (keys[r] < np.inf))[0]
            measured = measure_row(query, gallery, squared, start + r, candidates + len(query), cosine)
            # Stable, and candidates grow: ties stay in the order of their index.
            order = np.argsort(measured, kind="mergesort")[: distances.shape[1]]
            for place in range(order.size):
                distances[start + r, place] = measured[order[place]]
                indices[start + r, place] = candidates[order[place]]

    @njit(nogil=True)
    def select_joint(
        query: Any, gallery: Any, squared: Any, keys: Any, limits: Any, far_limits: Any, start: int, cosine: bool, result: Any
    ) -> None:
        indices, distances, farthest = result
        for r in range(keys.shape[0]):
            i = start + r
            candidates = np.nonzero(keys[r] <= limits[r])[0]
            measured = measure_row(query, gallery, squared, i, candidates, cosine)
            order = np.argsort(measured, kind="mergesort")
            for place in range(distances.shape[1]):
                distances[i, place] = measured[order[place]]
                indices[i, place] = candidates[order[place]]
            farthest[i] = measure_row(query, gallery, squared, i, np.nonzero(keys[r] >= far_limits[r])[0], cosine).max()

    @njit(nogil=True)
    def measure_pairs(query: Any, gallery: Any, rows: Any, cols: Any, cosine: bool, result: Any) -> None:
        for p in range(rows.size):
            x, y = row_of(query, gallery, rows[p]), row_of(query, gallery, cols[p])
            result[p] = measure(x, y, dot(x, x) if cosine else 0.0, dot(y, y) if cosine else 0.0, cosine)

    return _Loops(select, select_joint, measure_pairs)


def _squared(query: NDArray[np.float32], gallery: NDArray[np.float32], metric: str) -> NDArray[np.float64]:
    """Squared lengths of the joint rows, or zeros where they are not needed."""
    if metric == "euclidean":
        return np.zeros(len(query) + len(gallery))
    return np.concatenate([squared_lengths(query), squared_lengths(gallery)])


def top_k(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    k: int,
    metric: str,
    q_groups: NDArray[np.int64] | None = None,
    g_groups: NDArray[np.int64] | None = None,
    *,
    scratch_bytes: int = DEFAULT_SCRATCH,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k nearest visible gallery rows; arguments and result as `reference.top_k`."""
    distances = np.full((len(query), k), np.inf, np.float32)
    indices = np.full((len(query), k), -1, np.int64)
    if len(query) == 0 or len(gallery) == 0:
        return distances, indices
    screen, squared, cosine = make_screen(query, gallery, metric), _squared(query, gallery, metric), metric == "cosine"
    loops = _compile()
    for start, keys in screen.blocks(min(BLOCK_KEYS, scratch_bytes // KEY_BYTES)):
        hide(keys, start, q_groups, g_groups)
        limits = screen.limits(keys, min(k, len(gallery)))
        loops.select(query, gallery, squared, keys, limits, start, cosine, distances, indices)
    return distances, indices


def neighbours(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    k: int,
    metric: str,
    *,
    dense: NDArray[np.float32] | None = None,
    lists: GalleryLists | None = None,
    progress: Progress | None = None,
    scratch_bytes: int = DEFAULT_SCRATCH,
) -> Neighbours:
    """The k nearest rows of the joint set to each of its rows; arguments and result as `reference.neighbours`."""
    squared, loops, cosine = _squared(query, gallery, metric), _compile(), metric == "cosine"

    def select(
        start: int,
        keys: NDArray[np.float32],
        limits: NDArray[np.float32],
        far_limits: NDArray[np.float32],
        result: Neighbours,
    ) -> None:
        loops.select_joint(query, gallery, squared, keys, limits, far_limits, start, cosine, tuple(result))

    def select_listed(start: int, keys: NDArray[np.float32], limits: NDArray[np.float32], lists: GalleryLists) -> None:
        loops.select(query, gallery, squared, keys, limits, start, cosine, lists.distances, lists.indices)

    return screened_neighbours(query, gallery, k, metric, dense, lists, progress, scratch_bytes, select, select_listed)


def pair_distances(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    metric: str,
) -> NDArray[np.float32]:
    """Distances of pairs of the joint set; arguments and result as `reference.pair_distances`."""
    result = np.empty(len(rows), np.float32)
    _compile().measure_pairs(query, gallery, rows, cols, metric == "cosine", result)
    return result


select_best = partial(numpy_top.select_best, overlaps, pair_distances)
"""The best gallery rows of every query after re-ranking; arguments and result as `reference.select_best`."""
