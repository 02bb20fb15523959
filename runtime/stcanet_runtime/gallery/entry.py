"""What a gallery knows about an embedding, and how entries are chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from stcanet_runtime.arrays import as_number, check_count
from stcanet_runtime.errors import OptionError, ShapeError, quote_choices
from stcanet_runtime.retrieval.distance import check_metric

DTYPES = ("float32", "float16")
"""How embeddings may be stored. float16 halves file and memory; BENCHMARKS.md has the times."""

MAX_DIM = 1 << 16


@dataclass(frozen=True)
class Space:
    """Which embeddings belong into a gallery: those of one model."""

    model: str
    """SHA-256 of the model file, or another name that no other model has."""
    dim: int
    """D."""
    metric: str = "cosine"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model:
            raise OptionError("model", self.model, "the SHA-256 of the model, or another name of it")
        if check_count(self.dim, "dim") > MAX_DIM:
            raise OptionError("dim", self.dim, f"at most {MAX_DIM}")
        check_metric(self.metric)
        if self.dtype not in DTYPES:
            raise OptionError("dtype", self.dtype, quote_choices(DTYPES))

    def check(self, dim: int, metric: str) -> None:
        """ShapeError or OptionError unless embeddings are of this dimension and distances of this metric."""
        if dim != self.dim:
            raise ShapeError(f"the gallery holds embeddings of {self.dim} dimensions, these have {dim}")
        if metric != self.metric:
            raise OptionError("metric", metric, f"'{self.metric}', which the gallery uses")

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored embedding."""
        return self.dim * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Entry:
    """One enrolled embedding, without the embedding."""

    identity: str
    time: float
    """Seconds; by default, those since 1970 at which it was enrolled."""
    camera: str | None = None
    track: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Whatever JSON can say."""
    id: int = 0
    """Given at enrolment, ascending and never again; 0 before."""


@dataclass(frozen=True)
class Where:
    """Which entries are meant; what is not given does not matter, what is given must all hold."""

    identities: tuple[str, ...] | None = None
    cameras: tuple[str, ...] | None = None
    after: float | None = None
    """Time at or after this."""
    before: float | None = None
    """Time before this."""
    metadata: Mapping[str, str | float | bool | None] | None = None
    """Values of top-level keys; a key that is missing is not equal to anything."""

    def __post_init__(self) -> None:
        for name in ("identities", "cameras"):
            names = getattr(self, name)
            if isinstance(names, str):  # would be read letter by letter
                raise OptionError(name, names, "a tuple of names")
            object.__setattr__(self, name, None if names is None else tuple(map(str, names)))
        for name in ("after", "before"):
            moment = getattr(self, name)  # before and after NaN is nothing: retention would keep everything
            if moment is not None and math.isnan(as_number(moment)):
                raise OptionError(name, moment, "a time in seconds")
        for key, value in (self.metadata or {}).items():
            if not isinstance(key, str) or not all(
                is_text(text) and "\0" not in text for text in (key, value) if isinstance(text, str)
            ):
                raise OptionError("metadata", {key: value}, "compared by keys and values that are text of Unicode, without NUL")
            if not isinstance(value, str | int | float | bool | None):
                raise OptionError("metadata", value, "compared with a string, number, true, false or null")
            if isinstance(value, float) and not math.isfinite(value):  # equal to nothing
                raise OptionError("metadata", value, "compared with finite numbers")
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise OptionError("metadata", value, "of 64 bits where it is a whole number")


EVERYTHING = Where()


def is_text(text: str) -> bool:
    """Whether it is Unicode. Not so for file names in other encodings, which Python reads with lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


@dataclass(frozen=True)
class Hit:
    """One place of a ranked list."""

    distance: float
    """Of the query to the embedding or template; after re-ranking, the re-ranked distance."""
    entry: Entry
    """The entry found; for the template ``"mean"``, the entry of that identity that is nearest to it."""

    @property
    def identity(self) -> str:
        """Whose it is."""
        return self.entry.identity


@dataclass(frozen=True)
class Decision:
    """Who a query is, or that the gallery does not know."""

    identity: str | None
    """None: unknown, since nothing is within the threshold."""
    threshold: float
    nearest: Hit | None
    """The nearest entry, whether accepted or not; None where nothing matches the filter."""
