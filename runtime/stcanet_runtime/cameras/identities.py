"""What is known of people while they are told apart: their tracks, how far they are from one another, and who is near."""

from __future__ import annotations

import math
from collections import UserDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from stcanet_runtime.arrays import Float32Array, Float64Array, as_number
from stcanet_runtime.errors import OptionError


@dataclass(frozen=True)
class Track:
    """One person seen by one camera without a break."""

    camera: str
    id: str
    """The tracker's; together with the camera it names the track, until one of that name begins after its end."""
    start: float
    """Seconds, by one clock for all cameras."""
    end: float

    def __post_init__(self) -> None:
        if not (isinstance(self.camera, str) and isinstance(self.id, str)):  # a number in a tensor is equal to none as a key
            raise OptionError("id", self.key, "text, as the camera is")
        if not -math.inf < as_number(self.start) <= as_number(self.end) < math.inf:
            raise OptionError("end", self.end, f"a time in seconds, at or after the start, {self.start}")

    @property
    def key(self) -> tuple[str, str]:
        """Camera and id."""
        return self.camera, self.id


@dataclass(frozen=True)
class Travel:
    """How one person can move: never twice in one camera at once, and not faster between cameras than this."""

    seconds: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Least time from leaving one camera to entering the other, in both directions unless both are given."""
    default: float | None = None
    """Of pairs that are not named; None: no limit, since their views may overlap. 0: not in both at once."""

    def __post_init__(self) -> None:
        for pair in self.seconds:
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise OptionError("seconds", pair, "between two cameras, as ('door', 'yard')")
        for value in (*self.seconds.values(), self.default):
            if value is not None and not as_number(value) >= 0:  # NaN is not either, and would keep everybody apart
                raise OptionError("seconds", value, "a time of 0 or more")

    def possible(self, one: Track, other: Track) -> bool:
        """Whether both tracks can be of one person."""
        first, second = sorted((one, other), key=lambda track: (track.start, track.end))
        gap = second.start - first.end
        if first.camera == second.camera:
            return gap > 0
        pair = (first.camera, second.camera)
        least = self.seconds.get(pair, self.seconds.get(pair[::-1], self.default))
        return least is None or gap >= least


Key = tuple[str, str] | tuple[str, str, int]
"""Camera and id; with a number where another track has that name now."""
Known = tuple[Track, Float32Array, float]
"""A track, its embedding [D] of unit length, and its weight."""


class Identity:
    """Tracks that are taken for one person; it never changes, and is false where there are none."""

    def __init__(self, known: Mapping[Key, Known] | None = None) -> None:
        self.known: dict[Key, Known] = {}
        self.weight = 0.0
        self.total: Float64Array | float = 0.0  # of the weighted embeddings
        for key, one in (known or {}).items():
            self._add(key, one)

    def __bool__(self) -> bool:
        return bool(self.known)

    @property
    def mean(self) -> Float64Array:
        """[D]; the more its tracks differ, the shorter."""
        return np.asarray(self.total / self.weight)

    def including(self, key: Key, known: Known) -> Identity:
        """With one more track."""
        more = Identity()
        more.known, more.weight, more.total = dict(self.known), self.weight, self.total
        more._add(key, known)
        return more

    def without(self, keys: Collection[Key]) -> Identity:
        """Without these tracks; added up anew rather than taken off, so that a year of changes leaves no rounding behind."""
        return Identity({key: known for key, known in self.known.items() if key not in keys})

    def _add(self, key: Key, known: Known) -> None:
        _, embedding, weight = self.known[key] = known
        self.weight += weight
        self.total = self.total + np.multiply(embedding, weight, dtype=np.float64)

    def distance(self, other: Identity, margin: float = 0.0) -> float:
        """Mean distance of its tracks to those of the other, from 0 to 2, and a margin more where both are of one camera."""
        return 1 - float(self.mean @ other.mean) + (margin and margin * self._same_camera(other))

    def _same_camera(self, other: Identity) -> float:
        """Share of the pairs of a frame of this one and a frame of the other that are of one camera."""
        mine, theirs = self._shares(), other._shares()
        return sum(share * theirs.get(camera, 0.0) for camera, share in mine.items())

    def _shares(self) -> dict[str, float]:
        shares: dict[str, float] = {}
        for track, _, weight in self.known.values():
            shares[track.camera] = shares.get(track.camera, 0.0) + weight / self.weight
        return shares

    def possible_with(self, other: Identity, travel: Travel) -> bool:
        """Whether all tracks of both can be of one person."""
        return all(travel.possible(a, b) for a, _, _ in self.known.values() for b, _, _ in other.known.values())


class Identities(UserDict[int, Identity]):
    """Identities by id, with their means side by side: a product with all of them finds the few that are worth a look."""

    def __init__(self) -> None:
        self._means: Float32Array = np.empty((0, 0), np.float32)
        """[rows, D]; one for each identity, then spare ones, of zeros."""
        self._ids: list[int] = []
        """Whose mean a row is."""
        self._row: dict[int, int] = {}
        super().__init__()

    @property
    def dim(self) -> int | None:
        """D; None while there is nobody."""
        return self._means.shape[1] if self._ids else None

    def __setitem__(self, identity: int, one: Identity) -> None:
        mean = one.mean
        if identity not in self._row:
            self._reserve(len(self._ids) + 1, len(mean))
            self._row[identity] = len(self._ids)
            self._ids.append(identity)
        self._means[self._row[identity]] = mean
        super().__setitem__(identity, one)

    def __delitem__(self, identity: int) -> None:
        super().__delitem__(identity)
        hole, last = self._row.pop(identity), self._ids.pop()
        if last != identity:  # the last row goes where one is free
            self._means[hole], self._ids[hole], self._row[last] = self._means[len(self._ids)], last, hole
        self._means[len(self._ids)] = 0  # nothing stays of somebody who is forgotten

    def near(self, one: Identity, limit: float, margin: float = 0.0) -> list[int]:
        """Ids within a distance, the nearest first, the older first where two are as near; see :meth:`Identity.distance`."""
        if not self._ids:
            return []
        mean = one.mean
        # By row: BLAS would share the product among threads and wait for those that the encoder keeps from running.
        rough = 1 - np.vecdot(self._means[: len(self._ids)], mean.astype(np.float32))
        # Rounding to float32, products and sums, takes no distance farther than this from the one that decides; a margin
        # only adds to it.
        slack = (len(mean) + 4) * float(np.finfo(np.float32).eps)
        found = (self._ids[row] for row in np.flatnonzero(rough <= limit + slack))
        return [i for distance, i in sorted((one.distance(self[i], margin), i) for i in found) if distance <= limit]

    def _reserve(self, rows: int, dim: int) -> None:
        if not self._ids and self._means.shape[1] != dim:
            self._means = np.zeros((0, dim), np.float32)
        if rows > len(self._means):
            grown = np.zeros((max(16, 2 * len(self._means)), dim), np.float32)
            grown[: len(self._means)] = self._means
            self._means = grown
