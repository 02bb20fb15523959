"""Who is who across cameras: tracks in, global identities out, corrected as evidence grows.

An identity is a set of tracks. Two sets are as far apart as their tracks are on average, each weighted by its frames: with unit
embeddings that is 1 minus the product of their weighted means, so that no pair is ever looked at.

The policy of ids: they count up from 1 and are never given twice. Where two identities become one, the older id stays and
`Identifier.resolve` leads from the other to it. Where a track leaves an identity, the tracks that stay keep its id. A track
joins what is within `threshold`, and leaves only beyond ``threshold + hysteresis``, so that ids do not flutter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stcanet_runtime.arrays import as_array
from stcanet_runtime.embeddings import as_embeddings
from stcanet_runtime.errors import OptionError, ShapeError
from stcanet_runtime.gallery import Gallery


@dataclass(frozen=True)
class Track:
    """One person seen by one camera without a break."""

    camera: str
    id: str
    """The tracker's; together with the camera it names the track."""
    start: float
    """Seconds, by one clock for all cameras."""
    end: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.end) and self.start <= self.end):
            raise OptionError("end", self.end, f"a time at or after the start, {self.start}")

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
        for value in (*self.seconds.values(), self.default):
            if value is not None and not value >= 0:  # NaN is not either, and would keep everybody apart
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


@dataclass(frozen=True)
class Update:
    """What a track changed."""

    identity: int
    """Whose track it is now."""
    previous: int | None = None
    """Whose it was before, where that is another: it was taken for the wrong person."""
    merged: tuple[int, ...] = ()
    """Ids that are this identity from now on."""


class _Identity:
    """Tracks with the sum of their weighted embeddings."""

    def __init__(self, dim: int) -> None:
        self.tracks: dict[tuple[str, str], tuple[Track, NDArray[np.float64], float]] = {}
        self.total, self.weight = np.zeros(dim), 0.0

    def put(self, track: Track, embedding: NDArray[np.float64], weight: float) -> None:
        self.tracks[track.key] = (track, embedding, weight)
        self._sum()

    def take(self, key: tuple[str, str]) -> None:
        del self.tracks[key]
        self._sum()

    def _sum(self) -> None:
        # Anew rather than by difference: a box that runs for a year adds up no rounding.
        rows = list(self.tracks.values())
        self.weight = sum(weight for _, _, weight in rows)
        self.total = np.sum([weight * embedding for _, embedding, weight in rows], axis=0) if rows else self.total * 0

    def distance(self, other: _Identity) -> float:
        """Mean distance of its tracks to those of the other, from 0 to 2."""
        return 1 - float(self.total @ other.total) / (self.weight * other.weight)

    def possible_with(self, other: _Identity, travel: Travel) -> bool:
        return all(travel.possible(a, b) for a, _, _ in self.tracks.values() for b, _, _ in other.tracks.values())


class Identifier:
    """Gives tracks of several cameras global identities. Call it from one thread.

    Example:
        >>> identifier = Identifier(0.35, Travel({("door", "yard"): 20.0}))  # doctest: +SKIP
        >>> identifier.update(Track("door", "17", 0.0, 3.2), embedding, frames=80).identity  # doctest: +SKIP
        1
    """

    def __init__(
        self,
        threshold: float,
        travel: Travel | None = None,
        hysteresis: float = 0.05,
        max_age: float | None = None,
        gallery: Gallery | None = None,
    ) -> None:
        """Start with nobody.

        Args:
            threshold: Largest mean cosine distance of tracks of one person; see `stcanet_runtime.calibrate`.
            travel: What is possible; by default, only that nobody is twice in one camera at once.
            hysteresis: How much farther than `threshold` a track must be to leave its identity.
            max_age: Seconds after which an identity that is not seen is dropped, so that memory is bounded; None keeps all.
            gallery: People who are known by name, for `name`; of cosine distance.

        Raises:
            OptionError: A value out of its range.
        """
        for option, value in (("threshold", threshold), ("hysteresis", hysteresis), ("max_age", max_age or 0.0)):
            if not 0 <= value < math.inf:
                raise OptionError(option, value, "a number that is not negative")
        if gallery is not None and gallery.space.metric != "cosine":
            raise OptionError("gallery", gallery.space.metric, "one of cosine distance, as the threshold is")
        self.threshold, self.hysteresis, self.max_age = float(threshold), float(hysteresis), max_age
        self.travel, self.gallery = travel or Travel(), gallery
        self._identities: dict[int, _Identity] = {}
        self._owner: dict[tuple[str, str], int] = {}
        self._merged: dict[int, int] = {}
        self._last = 0

    @property
    def identities(self) -> dict[int, list[Track]]:
        """Tracks of each identity, by id."""
        return {i: [track for track, _, _ in one.tracks.values()] for i, one in sorted(self._identities.items())}

    def resolve(self, identity: int) -> int:
        """The id that an identity has now: another where it was merged."""
        while identity in self._merged:
            identity = self._merged[identity]
        return identity

    def name(self, identity: int) -> str | None:
        """Who it is in the gallery, or None: no gallery, or not near enough to anybody in it."""
        one = self._identities.get(self.resolve(identity))
        if one is None or self.gallery is None:
            return None
        return self.gallery.decide((one.total / one.weight)[None].astype(np.float32), self.threshold)[0].identity

    def update(self, track: Track, embedding: ArrayLike, frames: float = 1.0) -> Update:
        """Add a track, or replace what is known of it by more of it.

        Args:
            track: Camera, the tracker's id, and from when to when.
            embedding: [D], of any length but zero.
            frames: Its weight: how many frames the embedding is made of.

        Raises:
            ShapeError: Not one embedding of the dimension of all before.
            OptionError: `frames` is not positive.
        """
        x = self._checked(embedding)
        if not 0 < frames < math.inf:
            raise OptionError("frames", frames, "a positive number")
        self._drop_old(track.end)
        before = self._owner.get(track.key)
        alone = _Identity(len(x))
        alone.put(track, x, float(frames))
        stays = before is not None and self._belongs(before, alone)
        owner = before if stays and before is not None else self._place(before, alone)
        self._identities[owner].put(track, x, float(frames))
        self._owner[track.key] = owner
        owner, merged = self._merge(owner)
        return Update(owner, None if stays else before, merged)

    def _checked(self, embedding: ArrayLike) -> NDArray[np.float64]:
        x = as_embeddings(as_array(embedding, "embedding")[None], "embedding")[0].astype(np.float64)
        known = next(iter(self._identities.values()), None)
        if not x.any() or (known is not None and len(known.total) != len(x)):
            wanted = "" if known is None else f" of {len(known.total)} dimensions"
            raise ShapeError(f"embedding must be one vector{wanted} that is not zero, got {list(x.shape)}")
        unit: NDArray[np.float64] = x / np.linalg.norm(x)
        return unit

    def _belongs(self, identity: int, alone: _Identity) -> bool:
        """Whether what is known of a track now still fits the other tracks of its identity."""
        one, (key,) = self._identities[identity], alone.tracks
        if len(one.tracks) == 1:
            return True
        track, old, weight = one.tracks[key]
        one.take(key)
        fits = one.distance(alone) <= self.threshold + self.hysteresis and one.possible_with(alone, self.travel)
        one.put(track, old, weight)
        return fits

    def _place(self, before: int | None, alone: _Identity) -> int:
        """The nearest identity that is possible, or a new one; the track is taken out of the one that it was in."""
        if before is not None:
            self._identities[before].take(next(iter(alone.tracks)))
        if (nearest := self._nearest(alone, exclude=before)) is not None:
            return nearest
        self._last += 1
        self._identities[self._last] = _Identity(len(alone.total))
        return self._last

    def _nearest(self, one: _Identity, exclude: int | None) -> int | None:
        distances = sorted((one.distance(other), i) for i, other in self._identities.items() if i != exclude)
        for distance, i in distances:
            if distance > self.threshold:
                return None
            if one.possible_with(self._identities[i], self.travel):
                return i
        return None

    def _merge(self, identity: int) -> tuple[int, tuple[int, ...]]:
        """Join identities that this one has come near to, the nearest first; the oldest id stays."""
        merged: list[int] = []
        while (other := self._nearest(self._identities[identity], exclude=identity)) is not None:
            kept, gone = sorted((identity, other))
            for key, (track, embedding, weight) in self._identities.pop(gone).tracks.items():
                self._identities[kept].put(track, embedding, weight)
                self._owner[key] = kept
            self._merged[gone] = identity = kept
            merged.append(gone)
        return identity, tuple(merged)

    def _drop_old(self, now: float) -> None:
        if self.max_age is None:
            return
        for i, tracks in self.identities.items():
            if max(track.end for track in tracks) < now - self.max_age:
                for track in tracks:
                    del self._owner[track.key]
                del self._identities[i]
        self._merged = {gone: kept for gone, kept in self._merged.items() if self.resolve(kept) in self._identities}
