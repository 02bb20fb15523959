"""Ranks in NumPy: only what is as close as the last match is sorted; without a matrix, tiles of distances are counted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.matches import Thresholds, Truth
from stcanet_runtime.backends.neighbours import DEFAULT_SCRATCH
from stcanet_runtime.backends.numpy_distance import distance_matrix
from stcanet_runtime.backends.numpy_pairs import PairMeter
from stcanet_runtime.backends.screen import UNIT64, rough_squared_lengths
from stcanet_runtime.progress import Progress

_TILE_BYTES = 16
"""Scratch for a distance of a tile: itself, and its share of the temporaries."""
_PAIR_BYTES = 64
_TILE_COLUMNS = 4096


def ranks(distances: NDArray[Any], truth: Truth) -> NDArray[np.int64] | None:
    """Places of the true matches; arguments and result as `reference.ranks`."""
    result = [np.empty(0, np.int64)]
    for i, row in enumerate(distances):
        # min() is NaN if any value is, and needs no second row.
        if row.size and np.isnan(row.min()):
            return None
        matches = truth.matches_of(i)
        if not len(matches):
            continue
        # Nothing behind the last match moves any other, so only what is at least as close as it is sorted.
        near = row <= row[matches].max()
        near[truth.hidden_of(i)] = near[truth.junk] = False
        is_match = np.zeros(len(row), np.bool_)
        is_match[matches] = True
        ranking = np.flatnonzero(near)
        ranking = ranking[np.argsort(row[ranking], kind="stable")]
        result.append(np.flatnonzero(is_match[ranking]) + 1)
    return np.concatenate(result)


def count_closer(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    thresholds: Thresholds,
    metric: str,
    *,
    progress: Progress | None = None,
    scratch_bytes: int = DEFAULT_SCRATCH,
) -> NDArray[np.int64]:
    """Rows before each threshold; arguments and result as `reference.count_closer`.

    Tiles of `distance_matrix` are compared with the thresholds, and pairs within its error of one are measured.
    """
    counter = _Counter(query, gallery, thresholds, metric, max(1, scratch_bytes // 4 // _PAIR_BYTES))
    columns = max(1, min(len(gallery), _TILE_COLUMNS, scratch_bytes // (16 * query.shape[1])))
    rows = max(1, scratch_bytes // 2 // (_TILE_BYTES * columns))
    for start in range(0, len(query), rows):
        for first in range(0, len(gallery), columns):
            if progress is not None:
                progress(start * len(gallery) + len(query[start : start + rows]) * first, len(query) * len(gallery))
            tile = distance_matrix(query[start : start + rows], gallery[first : first + columns], metric)
            counter.add(tile, start, first)
    if progress is not None:
        progress(len(query) * len(gallery), len(query) * len(gallery))
    return counter.counts()


class _Counter:
    """Takes tiles of the distance matrix in any order."""

    def __init__(
        self,
        query: NDArray[np.float32],
        gallery: NDArray[np.float32],
        thresholds: Thresholds,
        metric: str,
        pending_pairs: int,
    ) -> None:
        self._meter = PairMeter(query, gallery, metric)
        self._num_query, self._thresholds, self._pending_pairs = len(query), thresholds, pending_pairs
        self._error = _distance_error(query, gallery, metric)
        # steps[k + i] of query i: rows that come before threshold k and not before k - 1; the last place is behind all.
        self._steps = np.zeros(len(thresholds.distances) + len(query), np.int64)
        self._pending: list[NDArray[np.int64]] = []

    def add(self, tile: NDArray[np.float32], start: int, first: int) -> None:
        """Count the distances [R, C] of query rows from `start` and gallery rows from `first`."""
        for i, row in enumerate(tile, start):
            begin, end = self._thresholds.start[i : i + 2]
            if begin == end:
                continue
            limits = self._thresholds.distances[begin:end].astype(np.float64)
            # Rounding to float32, of what was measured here and of the definition, is less than two spacings together.
            margin = 2.0 * self._error + 2.0 * float(np.spacing(np.float32(limits[-1])))
            near = np.flatnonzero(row <= limits[-1] + margin)
            values = row[near].astype(np.float64)
            from_, to = np.searchsorted(limits + margin, values), np.searchsorted(limits - margin, values, side="right")
            sure = from_ == to
            self._steps[begin + i : end + i + 1] += np.bincount(to[sure], minlength=end - begin + 1)
            unsure = np.flatnonzero(~sure)
            self._pending.append(
                np.stack([np.full(len(unsure), i), first + near[unsure], begin + from_[unsure], begin + to[unsure]])
            )
        if sum(pairs.shape[1] for pairs in self._pending) >= self._pending_pairs:
            self._settle()

    def _settle(self) -> None:
        if not self._pending:
            return
        i, j, at, last = np.concatenate(self._pending, axis=1)
        self._pending = []
        measured = self._meter.measure(i, self._num_query + j)
        limits, places = self._thresholds.distances, self._thresholds.places
        # Each goes past the thresholds that it does not come before; nearly always there is one to look at.
        open_ = np.flatnonzero(at < last)
        while len(open_):
            k = at[open_]
            behind = (limits[k] < measured[open_]) | ((limits[k] == measured[open_]) & (places[k] <= j[open_]))
            open_ = open_[behind]
            at[open_] += 1
            open_ = open_[at[open_] < last[open_]]
        np.add.at(self._steps, at + i, 1)

    def counts(self) -> NDArray[np.int64]:
        """Rows before each threshold [M], after the last tile."""
        self._settle()
        start = self._thresholds.start
        result = np.empty(len(self._thresholds.distances), np.int64)
        for i in range(self._num_query):
            result[start[i] : start[i + 1]] = np.cumsum(self._steps[start[i] + i : start[i + 1] + i])
        return result


def _distance_error(query: NDArray[np.float32], gallery: NDArray[np.float32], metric: str) -> float:
    """Bound of the float64 distances from which those of `distance_matrix` are rounded.

    A float64 product of D terms, the squared lengths and the few operations on them are off by less than 8 (D + 16) units
    roundoff, in units of the squared length of the longest row. That holds for the cosine as it is. The root of a squared
    distance makes it up to 1e3 times as much, since pairs closer than 1e-3 of the longest row are measured by definition.
    """
    error = 8.0 * float(query.shape[1] + 16) * UNIT64
    if metric == "cosine":
        return error
    longest = max(float(rough_squared_lengths(x).max(initial=0.0)) for x in (query, gallery))
    return 1e3 * error * math.sqrt(longest)
