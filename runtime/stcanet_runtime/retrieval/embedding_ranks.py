"""Ranks of true matches straight from embeddings, in bounded memory: the [Q, G] matrix is never there.

1. Every pair of a query and an image of its identity is measured by the definition: its distance and gallery index are a
   threshold.
2. The backend counts how many gallery rows come before each threshold, from approximate distances whose error is known, and by
   the definition where that cannot decide.
3. What the camera rule hides is of the query's identity, so it was measured in the first step, and is taken off the counts.

Junk is not among the rows that are compared.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends import Backend
from stcanet_runtime.backends.footprint import panel_bytes, thread_bytes
from stcanet_runtime.backends.matches import Thresholds
from stcanet_runtime.embeddings import conversion_bytes
from stcanet_runtime.errors import MemoryLimitError
from stcanet_runtime.progress import Progress
from stcanet_runtime.retrieval.figures import Ranks
from stcanet_runtime.retrieval.ground_truth import GroundTruth

DEFAULT_BUDGET = 256 << 20
"""Bytes for pairs, blocks and conversions when no limit is given."""

_MIN_BUDGET = 32 << 20  # below it the blocks are so small that everything takes many times as long
_IMAGE_BYTES = 128  # identities, cameras and their order; lengths and scales of the rows
_PAIR_BYTES = 160
_HINT = "give more; or convert the embeddings to float32, since those are not copied"


def embedding_ranks(
    query: NDArray[Any],
    gallery: NDArray[Any],
    people: GroundTruth,
    metric: str,
    backend: Backend,
    backend_name: str,
    max_memory: int | None,
    progress: Progress | None,
) -> Iterator[Ranks]:
    """Ranks of all queries, some queries at a time.

    Args:
        query: ``[Q, D]`` of any real type, checked; copied if it is not float32.
        gallery: ``[G, D]`` likewise, copied piece by piece.
        people: Who is on them.
        metric: ``"cosine"`` or ``"euclidean"``.
        backend: Compares and counts.
        backend_name: Its name.
        max_memory: Bytes, or None.
        progress: Told of gallery rows that are done, over all queries.

    Raises:
        MemoryLimitError: It cannot be done in `max_memory`.
    """
    budget = _plan(query, people, backend_name, max_memory)
    query = np.require(query, np.float32, ["C", "ALIGNED"])
    rows = _GalleryRows(gallery, people.junk, budget // 4)
    groups = list(people.groups(1, budget // 4 // _PAIR_BYTES))
    for number, queries in enumerate(groups):
        report = None if progress is None else _Part(progress, number * len(rows), len(groups) * len(rows))
        yield _group_ranks(query[queries], rows, _pairs(people, queries, rows), metric, backend, budget // 2, report)


def _plan(query: NDArray[Any], people: GroundTruth, backend_name: str, max_memory: int | None) -> int:
    """Bytes for everything whose size can be chosen."""
    if max_memory is None:
        return DEFAULT_BUDGET
    most_pairs = int((people.stop - people.start).max(initial=0))
    images = len(people.q_pids) + len(people.g_pids)
    fixed = _IMAGE_BYTES * images + conversion_bytes(query) + thread_bytes(backend_name, images)
    smallest = max(_MIN_BUDGET, 2 * panel_bytes(backend_name, query.shape[1]), 4 * _PAIR_BYTES * most_pairs)
    if fixed + smallest > max_memory:
        raise MemoryLimitError(fixed + smallest, max_memory, _HINT)
    return min(max_memory, sys.maxsize) - fixed  # the kernels count in 64 bits


class _Part(NamedTuple):
    """Progress of a part of the work."""

    progress: Progress
    before: int
    total: int

    def of(self, first: int, count: int) -> Progress:
        """Progress of `count` rows from `first` on."""

        def report(done: int, total: int) -> None:
            self.progress(self.before + first + count * done // max(1, total), self.total)

        return report


class _GalleryRows:
    """The rows of a gallery that are not junk, as float32: all at once where no copy is needed, otherwise in pieces."""

    def __init__(self, gallery: NDArray[Any], junk: NDArray[np.int64], piece_bytes: int) -> None:
        self._gallery = gallery
        self._kept = np.delete(np.arange(len(gallery)), junk)
        as_it_is = gallery.dtype == np.float32 and gallery.flags.c_contiguous and gallery.flags.aligned
        self._whole = as_it_is and not len(junk)
        # A piece is there as it is stored and as float32.
        self._step = max(1, piece_bytes // (gallery.shape[1] * (gallery.dtype.itemsize + 4)))

    def __len__(self) -> int:
        return len(self._kept)

    def places(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places of gallery indices among these rows."""
        return np.searchsorted(self._kept, indices).astype(np.int64)

    def pieces(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (place of the first, rows [n, D])."""
        yield from self.pieces_at(np.arange(len(self)))

    def pieces_at(self, places: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (position of the first in `places`, rows [n, D]) for ascending places."""
        if self._whole and len(places) == len(self):
            yield 0, self._gallery
            return
        for first in range(0, len(places), self._step):
            chosen = self._kept[places[first : first + self._step]]
            yield first, np.require(self._gallery[chosen], np.float32, ["C", "ALIGNED"])


class _Pairs(NamedTuple):
    """Queries and the images of their identities, both that are to be found and that are hidden."""

    rows: NDArray[np.int64]
    """[P] queries."""
    places: NDArray[np.int64]
    """[P] places of the images."""
    hidden: NDArray[np.bool_]
    """[P]"""
    match_start: NDArray[np.int64]
    """[Q + 1] of the pairs that are not hidden."""


def _pairs(people: GroundTruth, queries: slice, gallery: _GalleryRows) -> _Pairs:
    truth = people.matches(queries)
    counts = np.diff(truth.match_start), np.diff(truth.hidden_start)
    rows = np.concatenate([np.repeat(np.arange(len(count)), count) for count in counts])
    places = gallery.places(np.concatenate([truth.matches, truth.hidden]))
    return _Pairs(rows, places, np.arange(len(rows)) >= len(truth.matches), truth.match_start)


def _group_ranks(
    query: NDArray[np.float32],
    gallery: _GalleryRows,
    pairs: _Pairs,
    metric: str,
    backend: Backend,
    scratch_bytes: int,
    report: _Part | None,
) -> Ranks:
    distances = _measure(query, gallery, pairs, metric, backend)
    order = np.lexsort((pairs.places, distances, pairs.rows))
    rows, hidden = pairs.rows[order], pairs.hidden[order]
    matches = order[~hidden]
    thresholds = Thresholds(pairs.match_start, distances[matches], pairs.places[matches])
    closer = np.zeros(len(matches), np.int64)
    for first, piece in gallery.pieces():
        progress = None if report is None else report.of(first, len(piece))
        here = thresholds._replace(places=thresholds.places - first)
        closer += backend.count_closer(query, piece, here, metric, progress=progress, scratch_bytes=scratch_bytes)
    # The hidden before a match: those so far, less those of the queries before.
    before = np.cumsum(hidden) - np.concatenate([[0], np.cumsum(np.bincount(rows[hidden], minlength=len(query)))])[rows]
    return pairs.match_start, 1 + closer - before[~hidden]


def _measure(
    query: NDArray[np.float32], gallery: _GalleryRows, pairs: _Pairs, metric: str, backend: Backend
) -> NDArray[np.float32]:
    """Distances [P] of the pairs by the definition."""
    result = np.empty(len(pairs.rows), np.float32)
    needed, position = np.unique(pairs.places, return_inverse=True)
    for first, piece in gallery.pieces_at(needed):
        here = np.flatnonzero((position >= first) & (position < first + len(piece)))
        columns = len(query) + position[here] - first
        result[here] = backend.pair_distances(query, piece, pairs.rows[here], columns, metric)
    return result
