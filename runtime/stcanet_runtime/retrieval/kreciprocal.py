"""From neighbour lists to the sparse rows of re-ranking: the steps and formulas that all backends share.

`backends.reference.rerank` states what is computed and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from stcanet_runtime.arrays import as_number, check_count
from stcanet_runtime.backends import Backend
from stcanet_runtime.backends.gpu_arrays import to_host
from stcanet_runtime.backends.neighbours import Neighbours, PairDistances, Sparse
from stcanet_runtime.backends.numpy_kreciprocal import count_averaged
from stcanet_runtime.errors import OptionError, quote_choices
from stcanet_runtime.retrieval.rerank_memory import SetsRoom

_POWERS = {"zhong": 1, "torchreid": 2}


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
        weight = as_number(self.lambda_value)
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
        return round(Fraction(self.k1, 2))  # of any size, unlike a float

    def list_length(self, total: int) -> int:
        """Neighbours that are needed of every row, of `total` rows."""
        return min(max(self.k1 + 1, self.k2), total)


def variant_power(variant: str, power: int) -> int:
    """The power of a variant, from that of Zhong et al.; torchreid squares once more, distances that are squares already.

    Raises:
        OptionError: there is no such variant.
    """
    if not isinstance(variant, str) or variant not in _POWERS:
        raise OptionError("variant", variant, quote_choices(list(_POWERS)))
    return power * _POWERS[variant]


def encode(
    backend: Backend, neighbours: Neighbours, settings: Settings, measure: PairDistances, room: SetsRoom | None = None
) -> Sparse:
    """The rows V [N, N] after averaging.

    Args:
        backend: computes the stages.
        neighbours: lists of `Settings.list_length` rows.
        settings: k1, k2 and the power.
        measure: for members of a set that are not in the row's list.
        room: for the sets and rows, looked at before they are made; None where there is no limit.

    Raises:
        MemoryLimitError: there is no room for them.
    """
    total = len(neighbours.indices)  # more neighbours than rows are all rows, and may be more than an array can count
    # A copy is contiguous, and where the array is: in memory or on a GPU.
    lists = neighbours.indices[:, : min(settings.k1 + 1, total)].copy()
    indptr, indices = backend.expand(lists, min(settings.half, total))
    if room is not None:
        room.check_members(len(indices))
    values = backend.weights(neighbours, indptr, indices, settings.power, measure)
    if settings.k2 == 1:
        return indptr, indices, values
    near = neighbours.indices[:, : min(settings.k2, total)].copy()
    if room is not None:
        most = int((indptr[1:] - indptr[:-1])[near].sum())
        room.check_rows(most, lambda: count_averaged(to_host(indptr), to_host(indices), to_host(near)))
    return backend.average(indptr, indices, values, near)
