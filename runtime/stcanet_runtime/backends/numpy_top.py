"""The best gallery rows of every query after re-ranking in NumPy, without any [Q, G] array, and exactly those.

Candidates are the gallery rows that overlap with the query (J < 1) and its L nearest by plain distance. A row that is
neither has J = 1 and a distance of at least that of the L-th, so its final distance is at least a bound; where the m-th
candidate is below the bound, nothing was missed. Where it is not (ties, λ near 0), the whole row is measured. A candidate that
overlaps but is not among the L is bounded in the same way, and measured only if it can win.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.formulas import final
from stcanet_runtime.backends.neighbours import DEFAULT_SCRATCH, GalleryLists, Sparse, overlap_costs, row_groups
from stcanet_runtime.backends.numpy_neighbours import place_best
from stcanet_runtime.progress import Progress

_CANDIDATE_BYTES = 128

Overlaps = Callable[[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32], int, int, int], Sparse]
"""`Backend.overlaps`."""
Measure = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
"""Distances [P] of (queries, gallery rows) [P]."""


@dataclass(frozen=True, eq=False)
class TopSelector:
    """What the selection of all queries has in common."""

    num_query: int
    num_gallery: int
    measure: Measure
    overlaps: Overlaps
    rows: Sparse
    """V [N, N]."""
    farthest: NDArray[np.float32]
    """[N]."""
    lists: GalleryLists
    """The L >= m nearest of every query; what its groups hide is left out."""
    places: int
    """m, at most G."""
    power: int
    lambda_value: float

    def select(self, scratch: int, progress: Progress | None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Distances and indices of the m best of every query, [Q, m], in about `scratch` bytes."""
        shape = self.num_query, self.places
        result = np.full(shape, np.inf, np.float32), np.full(shape, -1, np.int64)
        costs = (overlap_costs(self.rows, self.num_query) + self.lists.distances.shape[1]) * _CANDIDATE_BYTES
        for queries in row_groups(costs, scratch):
            for q in queries.start + self._select_block(queries, *result):
                self._select_row(int(q), *result)
            if progress is not None:
                progress(queries.stop, self.num_query)
        return result

    def _select_block(
        self, queries: slice, best_distances: NDArray[np.float32], best_indices: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Fill in some queries from their candidates; returns those, counted within the block, that need the whole row."""
        distances, indices = self.lists.distances[queries], self.lists.indices[queries]
        farthest, last = self.farthest[queries], distances[:, -1]  # nothing that is not listed is closer than the last
        touched, touched_overlap = self._touched(queries)
        row, place = np.nonzero(indices >= 0)
        listed = row * self.num_gallery + indices[row, place]

        keys = np.union1d(touched, listed)
        row_of, column = np.divmod(keys, self.num_gallery)
        overlap = np.zeros(len(keys))
        overlap[np.searchsorted(keys, touched)] = touched_overlap
        where = np.searchsorted(keys, listed)
        known = np.zeros(len(keys), bool)
        known[where] = True
        reach = last[row_of]
        reach[where] = distances[row, place]
        values = self._final(overlap, reach, farthest[row_of])  # of those not listed: a bound from below

        best = np.full(indices.shape, np.inf, np.float32)
        best[row, place] = values[where]
        limit = np.partition(best, self.places - 1, axis=1)[:, self.places - 1]
        can_win = ~known & (values <= limit[row_of])
        values[can_win] = self._measured(queries, row_of[can_win], column[can_win], overlap[can_win])
        kept = known | can_win
        place_best(row_of[kept], column[kept], values[kept], best_distances[queries], best_indices[queries])
        bound = self._final(np.zeros(len(last)), np.where(np.isfinite(last), last, np.float32(0)), farthest)
        return np.flatnonzero(np.isfinite(last) & (bound <= best_distances[queries, -1]))

    def _touched(self, queries: slice) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Visible gallery rows that overlap with some queries, as row · G + column, ascending, and their overlaps."""
        q_groups, g_groups = self.lists.q_groups, self.lists.g_groups
        indptr, columns, overlap = self.overlaps(*self.rows, self.num_query, queries.start, queries.stop)
        row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        keys = row * np.int64(self.num_gallery) + columns
        if q_groups is None or g_groups is None:
            return keys, overlap
        visible = q_groups[queries][row] != g_groups[columns]
        return keys[visible], overlap[visible]

    def _measured(
        self, queries: slice, row: NDArray[np.int64], column: NDArray[np.int64], overlap: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Final distances [P] from exact plain ones."""
        distances = self.measure(queries.start + row, column)
        return self._final(overlap, distances, self.farthest[queries][row])

    def _final(
        self, overlap: NDArray[np.float64], distances: NDArray[np.float32], farthest: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        return final(overlap, distances, farthest, self.power, self.lambda_value)

    def _select_row(self, q: int, best_distances: NDArray[np.float32], best_indices: NDArray[np.int64]) -> None:
        """Fill in one query from all gallery rows."""
        queries, columns = slice(q, q + 1), np.arange(self.num_gallery)
        keys, found = self._touched(queries)
        overlap = np.zeros(len(columns))
        overlap[keys] = found
        q_groups, g_groups = self.lists.q_groups, self.lists.g_groups
        if q_groups is not None and g_groups is not None:
            columns = columns[g_groups != q_groups[q]]
        if self.lambda_value == 0.0:  # plain distances count for nothing
            values = self._final(overlap[columns], np.zeros(len(columns), np.float32), self.farthest[queries])
        else:
            values = self._measured(queries, np.zeros(len(columns), np.int64), columns, overlap[columns])
        best_distances[q], best_indices[q] = np.inf, -1
        place_best(np.zeros(len(columns), np.int64), columns, values, best_distances[queries], best_indices[queries])


def select_best(
    overlaps: Overlaps,
    pair_distances: Callable[..., NDArray[np.float32]],
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    metric: str,
    rows: Sparse,
    farthest: NDArray[np.float32],
    lists: GalleryLists,
    places: int,
    power: int,
    lambda_value: float,
    *,
    progress: Progress | None = None,
    scratch_bytes: int = DEFAULT_SCRATCH,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best of every query, with overlaps and distances of a backend; arguments and result as `reference.select_best`."""

    def measure(i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.float32]:
        return pair_distances(query, gallery, i, len(query) + j, metric)

    sizes = len(query), len(gallery)
    selector = TopSelector(*sizes, measure, overlaps, rows, farthest, lists, places, power, lambda_value)
    return selector.select(scratch_bytes, progress)
