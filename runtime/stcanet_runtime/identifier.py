"""Who is who across cameras: tracks in, global identities out, corrected as evidence grows.

An identity is a set of tracks. Two sets are as far apart as their tracks are on average, each weighted by its frames: with unit
embeddings that is 1 minus the product of their weighted means, so that no pair is ever looked at.

The policy of ids: they count up from 1 and are never given twice. Where two identities become one, the older id stays and
`Identifier.resolve` leads from the other to it. Where a track leaves an identity, the tracks that stay keep its id. A track
joins what is within `threshold`, and leaves only beyond ``threshold + hysteresis``, so that ids do not flutter.

Trackers count from 1 again when they or their camera start anew. A track that begins after the known end of one of that name is
another: the old one stays where it is under a key that no tracker can give, and the new one is looked at for itself.
"""

from __future__ import annotations

import math
import threading
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
    """The tracker's; together with the camera it names the track, until one of that name begins after its end."""
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
    """Whose it was before, where that is another person still: it was taken for the wrong one."""
    merged: tuple[int, ...] = ()
    """Ids that are this identity from now on."""


_Key = tuple[str, str] | tuple[str, str, int]
"""Camera and id; with a number where another track has that name now."""
_Known = tuple[Track, NDArray[np.float64], float]
"""A track, its embedding [D] and its weight."""


class _Identity:
    """Tracks with the sum of their weighted embeddings."""

    def __init__(self, dim: int) -> None:
        self.tracks: dict[_Key, _Known] = {}
        self.total, self.weight = np.zeros(dim), 0.0

    def put(self, key: _Key, known: _Known) -> None:
        self.tracks[key] = known
        self._sum()

    def take(self, *keys: _Key) -> None:
        for key in keys:
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
    """Gives tracks of several cameras global identities. Safe to call from several threads, which take turns.

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
            max_age: Seconds after its end at which a track is dropped, and with its last one an identity, so that memory is
                bounded; None keeps all.
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
        self._owner: dict[_Key, int] = {}
        self._merged: dict[int, int] = {}
        self._last, self._replaced = 0, 0
        self._lock = threading.Lock()

    @property
    def identities(self) -> dict[int, list[Track]]:
        """Tracks of each identity, by id."""
        with self._lock:
            return {i: [track for track, _, _ in one.tracks.values()] for i, one in sorted(self._identities.items())}

    def resolve(self, identity: int) -> int:
        """The id that an identity has now: another where it was merged."""
        with self._lock:
            return self._resolve(identity)

    def name(self, identity: int) -> str | None:
        """Who it is in the gallery, or None: no gallery, or not near enough to anybody in it."""
        with self._lock:
            one = self._identities.get(self._resolve(identity))
            mean = None if one is None else (one.total / one.weight).astype(np.float32)
        if mean is None or self.gallery is None:
            return None
        return self.gallery.decide(mean[None], self.threshold)[0].identity

    def update(self, track: Track, embedding: ArrayLike, frames: float = 1.0) -> Update:
        """Add a track, or replace what is known of it by more of it; one that begins after the known end is another track.

        Args:
            track: Camera, the tracker's id, and from when to when.
            embedding: [D], of any length but zero.
            frames: Its weight: how many frames the embedding is made of.

        Raises:
            ShapeError: Not one embedding of the dimension of all before.
            OptionError: `frames` is not positive.
        """
        if not 0 < frames < math.inf:
            raise OptionError("frames", frames, "a positive number")
        with self._lock:
            return self._update(track.key, (track, self._checked(embedding), float(frames)))

    def forget(self, identity: int) -> int:
        """Drop the tracks of an identity, as one has to where :meth:`Gallery.forget` shall leave nothing of somebody here.

        A track that still grows is a new one at its next update.

        Returns:
            Tracks dropped; 0 where there is no such identity.
        """
        with self._lock:
            gone = self._identities.pop(self._resolve(identity), None)
            for key in gone.tracks if gone else ():
                del self._owner[key]
            self._forget_merged()
        return len(gone.tracks) if gone else 0

    def _resolve(self, identity: int) -> int:
        while identity in self._merged:
            identity = self._merged[identity]
        return identity

    def _update(self, key: tuple[str, str], known: _Known) -> Update:
        track, x, _ = known
        self._set_aside(key, track.start)
        self._drop_old(track.end, key)
        before = self._owner.get(key)
        alone = _Identity(len(x))
        alone.put(key, known)
        owner = before if before is not None and self._belongs(before, alone) else self._place(before, alone)
        self._identities[owner].put(key, known)
        self._owner[key] = owner
        owner, merged = self._merge(owner)
        # After merging: it may have left somebody who is the same person as where it went.
        return Update(owner, None if before is None or self._resolve(before) == owner else before, merged)

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
        known = one.tracks[key]
        one.take(key)
        fits = one.distance(alone) <= self.threshold + self.hysteresis and one.possible_with(alone, self.travel)
        one.put(key, known)
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
            for key, known in self._identities.pop(gone).tracks.items():
                self._identities[kept].put(key, known)
                self._owner[key] = kept
            self._merged[gone] = identity = kept
            merged.append(gone)
        return identity, tuple(merged)

    def _set_aside(self, key: tuple[str, str], start: float) -> None:
        """Give the known track of this name another one, where it ended before this start."""
        owner = self._owner.get(key)
        if owner is None or start <= self._identities[owner].tracks[key][0].end:
            return
        one, self._replaced = self._identities[owner], self._replaced + 1
        aside = (*key, self._replaced)
        one.tracks[aside] = one.tracks.pop(key)
        self._owner[aside] = self._owner.pop(key)

    def _drop_old(self, now: float, growing: tuple[str, str]) -> None:
        """Drop tracks that ended too long ago; not the one that goes on now."""
        if self.max_age is None:
            return
        oldest = now - self.max_age
        for i, one in list(self._identities.items()):
            if old := [key for key, (track, _, _) in one.tracks.items() if track.end < oldest and key != growing]:
                one.take(*old)
                for key in old:
                    del self._owner[key]
                if not one.tracks:
                    del self._identities[i]
        self._forget_merged()

    def _forget_merged(self) -> None:
        self._merged = {gone: kept for gone, kept in self._merged.items() if self._resolve(kept) in self._identities}
