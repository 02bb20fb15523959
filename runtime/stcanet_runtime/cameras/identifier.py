"""Who is who across cameras: tracks in, global identities out, corrected as evidence grows.

An identity is a set of tracks. Two sets are as far apart as their tracks are on average, each weighted by its frames: with unit
embeddings that is 1 minus the product of their weighted means, so that no pair is ever looked at. Pairs of one camera may count
as farther by a margin, since one camera makes different people alike.

The policy of ids: they count up from 1 and are never given twice. Where two identities become one, the older id stays and
`Identifier.resolve` leads from the other to it. Where a track leaves an identity, the tracks that stay keep its id. A track
joins what is within `threshold`, and leaves only beyond ``threshold + hysteresis``, so that ids do not flutter.

Trackers count from 1 again when they or their camera start anew. A track that begins after the known end of one of that name is
another: the old one stays where it is under a key that no tracker can give, and the new one is looked at for itself.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stcanet_runtime.arrays import Float32Array, as_array, as_number, check_not_negative
from stcanet_runtime.cameras.identities import Identities, Identity, Key, Known, Track, Travel
from stcanet_runtime.embeddings import as_embeddings
from stcanet_runtime.errors import OptionError, ShapeError
from stcanet_runtime.gallery import Gallery


@dataclass(frozen=True)
class Update:
    """What a track changed."""

    identity: int
    """Whose track it is now."""
    previous: int | None = None
    """Whose it was before, where that is another person still: it was taken for the wrong one."""
    merged: tuple[int, ...] = ()
    """Ids that are this identity from now on."""


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
        same_camera_margin: float | None = 0.0,
    ) -> None:
        """Start with nobody.

        Args:
            threshold: Largest mean cosine distance of tracks of one person; see `stcanet_runtime.calibrate`.
            travel: What is possible; by default, only that nobody is twice in one camera at once.
            hysteresis: How much farther than `threshold` a track must be to leave its identity.
            max_age: Seconds after its end at which a track is dropped, and with its last one an identity, so that memory is
                bounded; None keeps all.
            gallery: People who are known by name, for `name`; of cosine distance.
            same_camera_margin: How much nearer tracks of one camera must be: light and background make different people alike
                there, and a threshold that holds across cameras joins them. `stcanet_runtime.calibrate` measures it;
                None, where it could not, is 0.

        Raises:
            OptionError: A value out of its range.
        """
        margin = 0.0 if same_camera_margin is None else same_camera_margin
        age = 0.0 if max_age is None else max_age
        numbers = {"threshold": threshold, "hysteresis": hysteresis, "max_age": age, "same_camera_margin": margin}
        for option, value in numbers.items():
            check_not_negative(value, option)
        if gallery is not None and gallery.space.metric != "cosine":
            raise OptionError("gallery", gallery.space.metric, "one of cosine distance, as the threshold is")
        self.threshold, self.hysteresis, self.same_camera_margin = float(threshold), float(hysteresis), float(margin)
        self.max_age = None if max_age is None else float(max_age)  # of float32, seconds since 1970 would be minutes
        self.travel, self.gallery = travel or Travel(), gallery
        self._identities = Identities()
        self._owner: dict[Key, int] = {}
        self._merged: dict[int, int] = {}
        self._last, self._replaced = 0, 0
        self._first_end = math.inf  # no known track ended before
        self._lock = threading.Lock()

    @property
    def identities(self) -> dict[int, list[Track]]:
        """Tracks of each identity, by id."""
        with self._lock:
            return {i: [track for track, _, _ in one.known.values()] for i, one in sorted(self._identities.items())}

    def resolve(self, identity: int) -> int:
        """The id that an identity has now: another where it was merged."""
        with self._lock:
            return self._resolve(identity)

    def name(self, identity: int) -> str | None:
        """Who it is in the gallery, or None: no gallery, or not near enough to anybody in it."""
        with self._lock:
            one = self._identities.get(self._resolve(identity))
            mean = None if one is None else one.mean.astype(np.float32)
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
        if not 0 < as_number(frames) < math.inf:
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
            for key in gone.known if gone else ():
                del self._owner[key]
            self._forget_merged()
        return len(gone.known) if gone else 0

    def _resolve(self, identity: int) -> int:
        while identity in self._merged:
            identity = self._merged[identity]
        return identity

    def _update(self, key: tuple[str, str], known: Known) -> Update:
        track = known[0]
        self._set_aside(key, track.start)
        self._drop_old(track.end, key)
        self._first_end = min(self._first_end, track.end)
        before = self._owner.get(key)
        owner, others = self._home(key, Identity().including(key, known), before)
        anew = owner not in self._identities
        self._identities[owner] = others.including(key, known)
        self._owner[key] = owner
        owner, merged = (owner, ()) if anew else self._merge(owner)  # anew: nobody was near enough a moment ago
        # After merging: it may have left somebody who is the same person as where it went.
        return Update(owner, None if before is None or self._resolve(before) == owner else before, merged)

    def _home(self, key: Key, alone: Identity, before: int | None) -> tuple[int, Identity]:
        """Whose a track is, as it is known now, and the other tracks of that identity; it is out of the one that it leaves."""
        if before is not None:
            others = self._identities[before].without({key})
            if not others or self._fits(alone, others):
                return before, others
            self._identities[before] = others
        if (nearest := self._nearest(alone, exclude=before)) is not None:
            return nearest, self._identities[nearest]
        self._last += 1
        return self._last, Identity()

    def _checked(self, embedding: ArrayLike) -> Float32Array:
        array, dim = as_array(embedding, "embedding"), self._identities.dim
        x = as_embeddings(np.atleast_2d(array), "embedding").astype(np.float64)
        if array.ndim != 1 or not x.any() or (dim is not None and dim != len(array)):
            wanted = "" if dim is None else f" of {dim} dimensions"
            raise ShapeError(f"embedding must be one vector{wanted} that is not zero, got {list(array.shape)}")
        unit: Float32Array = (x[0] / np.linalg.norm(x)).astype(np.float32)
        return unit

    def _fits(self, alone: Identity, others: Identity) -> bool:
        """Whether what is known of a track now still fits the other tracks of its identity."""
        near = others.distance(alone, self.same_camera_margin) <= self.threshold + self.hysteresis
        return near and others.possible_with(alone, self.travel)

    def _nearest(self, one: Identity, exclude: int | None) -> int | None:
        near = self._identities.near(one, self.threshold, self.same_camera_margin)
        return next((i for i in near if i != exclude and one.possible_with(self._identities[i], self.travel)), None)

    def _merge(self, identity: int) -> tuple[int, tuple[int, ...]]:
        """Join identities that this one has come near to, the nearest first; the oldest id stays."""
        merged: list[int] = []
        while (other := self._nearest(self._identities[identity], exclude=identity)) is not None:
            kept, gone = sorted((identity, other))
            more = self._identities.pop(gone)
            self._identities[kept] = Identity({**self._identities[kept].known, **more.known})
            self._owner |= dict.fromkeys(more.known, kept)
            self._merged[gone] = identity = kept
            merged.append(gone)
        return identity, tuple(merged)

    def _set_aside(self, key: tuple[str, str], start: float) -> None:
        """Give the known track of this name another one, where it ended before this start."""
        owner = self._owner.get(key)
        if owner is None or start <= self._identities[owner].known[key][0].end:
            return
        one, self._replaced = self._identities[owner], self._replaced + 1
        aside = (*key, self._replaced)
        self._identities[owner] = one.without({key}).including(aside, one.known[key])
        self._owner[aside] = self._owner.pop(key)

    def _drop_old(self, now: float, growing: tuple[str, str]) -> None:
        """Drop tracks that ended too long ago; not the one that goes on now."""
        oldest = -math.inf if self.max_age is None else now - self.max_age
        if self._first_end >= oldest:
            return
        for i, one in list(self._identities.items()):
            if old := {key for key, (track, _, _) in one.known.items() if track.end < oldest and key != growing}:
                if rest := one.without(old):
                    self._identities[i] = rest
                else:
                    del self._identities[i]
                for key in old:
                    del self._owner[key]
        self._forget_merged()
        ends = (track.end for one in self._identities.values() for track, _, _ in one.known.values())
        self._first_end = min(ends, default=math.inf)

    def _forget_merged(self) -> None:
        self._merged = {gone: kept for gone, kept in self._merged.items() if self._resolve(kept) in self._identities}
