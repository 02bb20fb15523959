"""What the backends share about the joint set: queries first, then the gallery, as one list of N = Q + G rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DEFAULT_SCRATCH = 128 << 20
"""Bytes for the blocks of a neighbour search when nothing else is asked for."""
CONVERTED_ELEMENTS = 1 << 22
"""Values of embeddings that are float64 at a time."""

_STAGE_BYTES = 32 << 20


PairDistances = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
"""Exact distances [P] of the pairs (rows, cols) [P] of the joint set."""

Sparse = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]
"""Sparse rows: indptr [R + 1], columns and values; row i has the entries ``indptr[i]:indptr[i + 1]``, columns ascending."""


class GalleryLists(NamedTuple):
    """Arrays for the nearest visible gallery rows of every query, to be filled with what `Backend.top_k` gives."""

    distances: NDArray[np.float32]
    """[Q, L]."""
    indices: NDArray[np.int64]
    """[Q, L]."""
    q_groups: NDArray[np.int64] | None
    """[Q], or None; gallery rows of a query's own group are invisible to it."""
    g_groups: NDArray[np.int64] | None
    """[G], together with ``q_groups``."""


class Neighbours(NamedTuple):
    """The nearest rows of the joint set to each of its rows, itself included."""

    indices: NDArray[np.int32]
    """[N, k] joint indices, by (distance, index)."""
    distances: NDArray[np.float32]
    """[N, k]."""
    farthest: NDArray[np.float32]
    """[N], the largest distance of the row to any of the N rows."""


def stage_bytes(total: int, k: int) -> int:
    """Bytes for the temporaries of a stage in NumPy, which works in blocks: for N rows with lists of k."""
    return min(_STAGE_BYTES, 24 * total * k**2)


def joint_rows(query: NDArray[np.float32], gallery: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Copy of some rows [P, D] of the joint set, without a copy of the whole."""
    result = np.empty((len(rows), query.shape[1]), np.float32)
    of_query = rows < len(query)
    result[of_query] = query[rows[of_query]]
    result[~of_query] = gallery[rows[~of_query] - len(query)]
    return result


def row_groups(costs: NDArray[np.int64], limit: int) -> Iterator[slice]:
    """Cut rows into consecutive slices whose costs add up to the limit at most, or that are a single row.

    Args:
        costs: [R], not negative.
        limit: at least 1.
    """
    ends, start = np.cumsum(costs), 0
    while start < len(costs):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + limit, side="right")))
        yield slice(start, stop)
        start = stop


def overlap_costs(rows: Sparse, num_query: int) -> NDArray[np.int64]:
    """An upper bound [Q] of the gallery rows that overlap with each query."""
    indptr, indices, _ = rows
    holders = np.bincount(indices[indptr[num_query] :], minlength=len(indptr) - 1)
    costs = np.concatenate([[0], np.cumsum(holders[indices[: indptr[num_query]]])])
    return np.minimum(np.diff(costs[indptr[: num_query + 1]]), len(indptr) - 1 - num_query)
