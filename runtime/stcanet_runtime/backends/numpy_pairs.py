"""Distances of single pairs by the definition of `reference`, bit for bit, in pieces that stay in the cache."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.neighbours import joint_rows
from stcanet_runtime.backends.reference_distance import PARTIALS

_PIECE_ELEMENTS = 1 << 18


def _piece(depth: int) -> int:
    return max(1, _PIECE_ELEMENTS // depth)


def _folded(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums [P] of terms [P, D] in the order of `reference_distance.ordered_sum`, without its copies."""
    whole = terms.shape[1] - terms.shape[1] % PARTIALS
    partial = np.zeros((len(terms), PARTIALS))
    for start in range(0, whole, PARTIALS):
        partial += terms[:, start : start + PARTIALS]
    partial[:, : terms.shape[1] - whole] += terms[:, whole:]
    while partial.shape[1] > 1:
        half = partial.shape[1] // 2
        partial = partial[:, :half] + partial[:, half:]
    return partial[:, 0]


def squared_lengths(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Squared lengths [N] of the rows [N, D], by the definition."""
    result = np.empty(len(x))
    step = _piece(x.shape[1])
    for start in range(0, len(x), step):
        result[start : start + step] = _folded(np.square(x[start : start + step], dtype=np.float64))
    return result


class PairMeter:
    """Measures pairs of rows of the joint set; the squared lengths, which cosines need, are computed once."""

    def __init__(self, query: NDArray[np.float32], gallery: NDArray[np.float32], metric: str) -> None:
        self._query, self._gallery, self._metric = query, gallery, metric

    @cached_property
    def _squared(self) -> NDArray[np.float64]:
        return np.concatenate([squared_lengths(self._query), squared_lengths(self._gallery)])

    def measure(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.float32]:
        """Distances [P] of the pairs of joint rows (rows, cols) [P]."""
        result = np.empty(len(rows), np.float32)
        step = _piece(self._query.shape[1])
        for start in range(0, len(rows), step):
            piece = slice(start, start + step)
            result[piece] = self._measure_piece(rows[piece], cols[piece])
        return result

    def _measure_piece(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.float64]:
        terms = joint_rows(self._query, self._gallery, rows).astype(np.float64)
        others = joint_rows(self._query, self._gallery, cols)
        if self._metric == "euclidean":
            terms -= others
            return np.sqrt(_folded(np.square(terms, out=terms)))
        terms *= others
        lengths = np.sqrt(self._squared[rows] * self._squared[cols])
        cosine = np.divide(_folded(terms), lengths, out=np.zeros(len(rows)), where=lengths > 0)
        return np.clip(1.0 - cosine, 0.0, 2.0)


def pair_distances(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    metric: str,
) -> NDArray[np.float32]:
    """Distances of pairs of the joint set; arguments and result as `reference.pair_distances`."""
    return PairMeter(query, gallery, metric).measure(rows, cols)
