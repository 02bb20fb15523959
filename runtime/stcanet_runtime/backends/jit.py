"""The Numba backend: BLAS screens, compiled loops select and measure; results as `reference`, bit for bit.

The first call compiles for a few seconds. The result is not cached on disk: the place beside an installed package is often
not writable, and a stale cache on a shared home gives code of another machine. Numba itself is imported on the first call.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends import jit_distance, numpy_, numpy_top
from stcanet_runtime.backends.jit_kreciprocal import average, blend, expand, overlaps, smallest
from stcanet_runtime.backends.neighbours import DEFAULT_SCRATCH, GalleryLists, Neighbours
from stcanet_runtime.backends.numpy_neighbours import KEY_BYTES, hide, screened_neighbours
from stcanet_runtime.backends.numpy_pairs import squared_lengths
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
    for start, keys in screen.blocks(min(BLOCK_KEYS, scratch_bytes // KEY_BYTES)):
        hide(keys, start, q_groups, g_groups)
        limits = screen.limits(keys, min(k, len(gallery)))
        jit_distance.select(query, gallery, squared, keys, limits, start, cosine, distances, indices)
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
    squared, cosine = _squared(query, gallery, metric), metric == "cosine"

    def select(
        start: int,
        keys: NDArray[np.float32],
        limits: NDArray[np.float32],
        far_limits: NDArray[np.float32],
        result: Neighbours,
    ) -> None:
        jit_distance.select_joint(query, gallery, squared, keys, limits, far_limits, start, cosine, tuple(result))

    def select_listed(start: int, keys: NDArray[np.float32], limits: NDArray[np.float32], lists: GalleryLists) -> None:
        jit_distance.select(query, gallery, squared, keys, limits, start, cosine, lists.distances, lists.indices)

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
    jit_distance.measure_pairs(query, gallery, rows, cols, metric == "cosine", result)
    return result


select_best = partial(numpy_top.select_best, overlaps, pair_distances)
"""The best gallery rows of every query after re-ranking; arguments and result as `reference.select_best`."""
