"""The m best gallery rows of every query after re-ranking, without any [Q, G] array, and exactly those.

Candidates are the gallery rows that overlap with the query (J < 1) and its L > m nearest by plain distance. A row that is
neither has J = 1 and a distance of at least that of the L-th, so its final distance is at least a bound; where the m-th
candidate is below the bound, nothing was missed. Where it is not (ties, λ near 0), the whole row is measured. A candidate that
overlaps but is not among the L is bounded in the same way, and measured only if it can win.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.neighbours import GalleryLists, Sparse, row_groups
from stcanet_runtime.backends.numpy_neighbours import place_best
from stcanet_runtime.kreciprocal import Settings, overlap_costs
from stcanet_runtime.ranking import SearchResult
from stcanet_runtime.rerank_sources import EmbeddingSource

Groups = tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]

_CANDIDATE_BYTES = 128


def list_length(top: int, num_gallery: int) -> int:
    """L: some more than `top`, so that the bound is nearly always above the last place."""
    return min(num_gallery, top + max(16, top // 8))


def empty_result(rows: int, places: int) -> SearchResult:
    """Lists without a row in them."""
    return SearchResult(np.full((rows, places), np.inf, np.float32), np.full((rows, places), -1, np.int64))


@dataclass(frozen=True, eq=False)
class TopSelector:
    """What the selection of all queries has in common."""

    source: EmbeddingSource
    settings: Settings
    rows: Sparse
    """V [N, N]."""
    farthest: NDArray[np.float32]
    """[N]."""
    places: int
    """m, at most G."""
    lists: GalleryLists
    """The L > m nearest of every query, or all of G; what its groups hide is left out."""

    def select(self, scratch: int, report: Callable[[int], None]) -> SearchResult:
        """The m best of every query, [Q, m], in about `scratch` bytes; reports the number of queries done."""
        result = empty_result(self.source.num_query, self.places)
        costs = (overlap_costs(self.rows, self.source.num_query) + self.lists.distances.shape[1]) * _CANDIDATE_BYTES
        for queries in row_groups(costs, scratch):
            for q in queries.start + self._select_block(queries, result):
                self._select_row(int(q), result)
            report(queries.stop)
        return result

    def _select_block(self, queries: slice, result: SearchResult) -> NDArray[np.int64]:
        """Fill in some queries from their candidates; returns those, counted within the block, that need the whole row."""
        distances, indices = self.lists.distances[queries], self.lists.indices[queries]
        farthest, last = self.farthest[queries], distances[:, -1]  # nothing that is not listed is closer than the last
        touched, touched_overlap = self._touched(queries)
        row, place = np.nonzero(indices >= 0)
        listed = row * self.source.num_gallery + indices[row, place]

        keys = np.union1d(touched, listed)
        row_of, column = np.divmod(keys, self.source.num_gallery)
        overlap = np.zeros(len(keys))
        overlap[np.searchsorted(keys, touched)] = touched_overlap
        where = np.searchsorted(keys, listed)
        known = np.zeros(len(keys), bool)
        known[where] = True
        reach = last[row_of]
        reach[where] = distances[row, place]
        values = self.settings.final(overlap, reach, farthest[row_of])  # of those not listed: a bound from below

        best = np.full(indices.shape, np.inf, np.float32)
        best[row, place] = values[where]
        limit = np.partition(best, self.places - 1, axis=1)[:, self.places - 1]
        can_win = ~known & (values <= limit[row_of])
        values[can_win] = self._measured(queries, row_of[can_win], column[can_win], overlap[can_win])
        kept = known | can_win
        place_best(row_of[kept], column[kept], values[kept], result.distances[queries], result.indices[queries])
        bound = self.settings.final(np.zeros(len(last)), np.where(np.isfinite(last), last, 0), farthest)
        return np.flatnonzero(np.isfinite(last) & (bound <= result.distances[queries, -1]))

    def _touched(self, queries: slice) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Visible gallery rows that overlap with some queries, as row · G + column, ascending, and their overlaps."""
        source, q_groups, g_groups = self.source, self.lists.q_groups, self.lists.g_groups
        indptr, columns, overlap = source.backend.overlaps(*self.rows, source.num_query, queries.start, queries.stop)
        row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        keys = row * np.int64(source.num_gallery) + columns
        if q_groups is None or g_groups is None:
            return keys, overlap
        visible = q_groups[queries][row] != g_groups[columns]
        return keys[visible], overlap[visible]

    def _measured(
        self, queries: slice, row: NDArray[np.int64], column: NDArray[np.int64], overlap: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Final distances [P] from exact plain ones."""
        distances = self.source.measure(queries.start + row, self.source.num_query + column)
        return self.settings.final(overlap, distances, self.farthest[queries][row])

    def _select_row(self, q: int, result: SearchResult) -> None:
        """Fill in one query from all gallery rows."""
        queries, columns = slice(q, q + 1), np.arange(self.source.num_gallery)
        keys, found = self._touched(queries)
        overlap = np.zeros(len(columns))
        overlap[keys] = found
        q_groups, g_groups = self.lists.q_groups, self.lists.g_groups
        if q_groups is not None and g_groups is not None:
            columns = columns[g_groups != q_groups[q]]
        if self.settings.lambda_value == 0.0:  # plain distances count for nothing
            values = self.settings.final(overlap[columns], np.zeros(len(columns), np.float32), self.farthest[q : q + 1])
        else:
            values = self._measured(queries, np.zeros(len(columns), np.int64), columns, overlap[columns])
        result.distances[q], result.indices[q] = np.inf, -1
        place_best(np.zeros(len(columns), np.int64), columns, values, result.distances[queries], result.indices[queries])
