"""From neighbour lists to the sparse rows of re-ranking: the steps and formulas that all backends share.

`backends.reference.rerank` states what is computed and why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends import Backend
from stcanet_runtime.backends.formulas import relative
from stcanet_runtime.backends.neighbours import Neighbours, Sparse
from stcanet_runtime.errors import OptionError, quote_choices
from stcanet_runtime.ranking import check_count

_POWERS = {"zhong": 1, "torchreid": 2}

PairDistances = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
"""Exact distances [P] of the pairs (rows, cols) [P] of the joint set."""

_BLOCK = 1 << 20  # elements of a temporary array


@dataclass(frozen=True)
class Reranking:
    """Parameters of k-reciprocal re-ranking, with the values of the paper."""

    k1: int = 20
    """Neighbours of which the reciprocal sets are made, besides the image itself; at least 1."""
    k2: int = 6
    """Neighbours, with the image itself, over which encodings are averaged; at least 1."""
    lambda_value: float = 0.3
    """Weight of the plain distance, in 0..1."""

    def __post_init__(self) -> None:
        for name in ("k1", "k2"):
            object.__setattr__(self, name, check_count(getattr(self, name), name))
        try:
            weight = float(self.lambda_value)
        except (TypeError, ValueError):
            weight = -1.0
        if not 0.0 <= weight <= 1.0:
            raise OptionError("lambda_value", self.lambda_value, "a number from 0 to 1")
        object.__setattr__(self, "lambda_value", weight)

    def __str__(self) -> str:
        return f"re-ranked (k1 {self.k1}, k2 {self.k2}, lambda {self.lambda_value:g})"


@dataclass(frozen=True)
class Settings(Reranking):
    """The parameters, and what follows from the kind of distances."""

    power: int = 1
    """Of the distance; see `backends.reference.rerank`."""

    @property
    def half(self) -> int:
        """Neighbours of which the sets that may join are made: k1 / 2, a half rounded to the even number."""
        return int(np.around(self.k1 / 2))

    def list_length(self, total: int) -> int:
        """Neighbours that are needed of every row, of `total` rows."""
        return min(max(self.k1 + 1, self.k2), total)


def variant_power(variant: str, power: int) -> int:
    """The power of a variant, from that of Zhong et al.; torchreid squares once more, distances that are squares already.

    Raises:
        OptionError: there is no such variant.
    """
    if variant not in _POWERS:
        raise OptionError("variant", variant, quote_choices(list(_POWERS)))
    return power * _POWERS[variant]


def encode(backend: Backend, neighbours: Neighbours, settings: Settings, measure: PairDistances) -> Sparse:
    """The rows V [N, N] after averaging.

    Args:
        backend: computes the stages.
        neighbours: lists of `Settings.list_length` rows.
        settings: k1, k2 and the power.
        measure: for members of a set that are not in the row's list.
    """
    length = neighbours.indices.shape[1]
    lists = np.ascontiguousarray(neighbours.indices[:, : settings.k1 + 1])
    indptr, indices = backend.expand(lists, settings.half)
    values = _weights(neighbours, indptr, indices, settings, measure)
    if settings.k2 == 1:
        return indptr, indices, values
    return backend.average(indptr, indices, values, np.ascontiguousarray(neighbours.indices[:, : min(settings.k2, length)]))


def _weights(
    neighbours: Neighbours,
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    settings: Settings,
    measure: PairDistances,
) -> NDArray[np.float32]:
    """``exp(-(distance / farthest)^power)`` of the members of every set, divided by their sum over the set."""
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    distances = _member_distances(neighbours, rows, indices, measure)
    weights = np.exp(-relative(distances, neighbours.farthest[rows], settings.power))
    sums = np.add.reduceat(weights, indptr[:-1])  # no set is empty
    return (weights / sums[rows]).astype(np.float32)


def _member_distances(
    neighbours: Neighbours, rows: NDArray[np.int64], columns: NDArray[np.int32], measure: PairDistances
) -> NDArray[np.float32]:
    """Distances [P] of pairs, from the lists where they are in them."""
    distances, missing = np.empty(len(rows), np.float32), np.empty(len(rows), bool)
    step = max(1, _BLOCK // neighbours.indices.shape[1])
    for start in range(0, len(rows), step):
        row, column = rows[start : start + step], columns[start : start + step]
        match = neighbours.indices[row] == column[:, None]
        place = match.argmax(axis=1)
        distances[start : start + step] = neighbours.distances[row, place]
        missing[start : start + step] = ~match[np.arange(len(row)), place]
    distances[missing] = measure(rows[missing], columns[missing].astype(np.int64))
    return distances
