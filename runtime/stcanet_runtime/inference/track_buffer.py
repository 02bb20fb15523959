"""Tracks as they grow: crops in, one at a time; an embedding as soon as there are enough, and a better one with each more."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stcanet_runtime.arrays import Float32Array, Float64Array, UInt8Array
from stcanet_runtime.backends.gpu_arrays import to_host
from stcanet_runtime.errors import OptionError, PackageError, ShapeError, StcanetError
from stcanet_runtime.images.frames import FrameSource
from stcanet_runtime.inference.encoder import Encoder
from stcanet_runtime.inference.tracklets import clip_features, cut_clips, unit_rows
from stcanet_runtime.preprocess import ImageSource, load_image, resize


@dataclass
class _Track:
    seen: int = 0
    """Crops that came."""
    kept: int = 0
    """Those that count."""
    first: list[UInt8Array] = field(default_factory=list)
    """The crops of the first full clip that could be embedded: they fill up one that is not full."""
    last: list[UInt8Array] = field(default_factory=list)
    """Those since the last full clip, fewer than T."""
    total: Float64Array | None = None
    """Sum of the features of the full clips ``[D]``."""
    embedding: Float32Array | None = None
    """The last answer ``[D]``."""
    asked: int = 0
    """How many crops counted then."""


_Fault = tuple[_Track, StcanetError]
"""A track and why a clip of it cannot be embedded."""


class TrackletBuffer:
    """The embeddings of tracks that are not over yet.

    After each crop the embedding of a track is that which `Encoder.encode_tracklets` gives for the crops that count so far: the
    direction of the mean over clips of T consecutive crops, the last one filled up by the first crops. A track takes memory for
    2T crops at most, however long it gets: a clip that is full is embedded once, together with those of other tracks, and only
    the sum of the features is kept. Safe to use from several threads.

    Example:
        >>> buffer = TrackletBuffer(encoder, every=4)  # doctest: +SKIP
        >>> buffer.add_boxes(frame, xyxy, "bgr", tracks=[7, 9])  # doctest: +SKIP
        >>> buffer.embeddings()  # doctest: +SKIP
        {7: array([...]), 9: array([...])}
    """

    def __init__(self, encoder: Encoder, every: int = 1, ready_after: int | None = None) -> None:
        """Start without tracks.

        Args:
            encoder: Runs the model.
            every: The first crop of a track counts, and then each `every`-th: neighbouring frames of a video say little new.
            ready_after: Crops that must count before a track has an embedding; None for one clip, T (1 for image packages).

        Raises:
            OptionError: An option is below 1.
        """
        for name, value in (("every", every), ("ready_after", ready_after)):
            if value is not None and value < 1:
                raise OptionError(name, value, "at least 1")
        self._encoder, self._every = encoder, every
        self._length = encoder.manifest.input.clip_length or 1
        self._ready_after = self._length if ready_after is None else ready_after
        self._tracks: dict[Hashable, _Track] = {}
        self._full: list[tuple[_Track, UInt8Array]] = []
        self._lock = threading.Lock()

    @property
    def tracks(self) -> list[Hashable]:
        """All tracks that have a crop and were not forgotten, oldest first."""
        with self._lock:
            return list(self._tracks)

    def add(self, track: Hashable, crop: ImageSource, color: str | None = None) -> None:
        """Add a crop to a track, which starts with it.

        Args:
            track: Anything hashable, such as the number that a tracker gives.
            crop: See :func:`stcanet_runtime.preprocess.load_image`.
            color: Channel order of an array.

        Raises:
            ImageError: The crop cannot be read; the track is as it was.
            PackageError: As of `embeddings`; the crop is added.
        """
        spec = self._encoder.manifest.input
        with self._lock:
            self._add(track, resize(load_image(crop, color), spec.height, spec.width))
            self._embed_batch()

    def add_boxes(
        self, frame: FrameSource, xyxy: ArrayLike, format: str, tracks: Sequence[Hashable] | NDArray[Any]
    ) -> NDArray[np.bool_]:
        """Add the boxes of a frame, one of each track; those that are not valid count for nothing.

        Args:
            frame: See `Encoder.encode_boxes`.
            xyxy: ``[N, 4]``.
            format: Of the frame.
            tracks: ``[N]``, the track of each box; of an array or a tensor the values.

        Returns:
            ``[N]``: which boxes are valid.

        Raises:
            ShapeError: Not as many tracks as boxes, or the frame or the boxes have an unexpected shape or type.
            PackageError: As of `embeddings`; all boxes are added.
        """
        crops, valid = self._encoder.crop_boxes(frame, xyxy, format)
        crops = to_host(crops)  # crops of many frames would fill a GPU
        names = tracks.tolist() if hasattr(tracks, "tolist") else tracks  # an element of a tensor is never the same key twice
        if len(names) != len(valid):
            raise ShapeError(f"tracks must be as many as boxes, {len(valid)}; got {len(names)}")
        with self._lock:
            for index, crop in zip(np.flatnonzero(valid).tolist(), crops, strict=True):
                self._add(names[index], crop)
            self._embed_batch()  # not before all are added: it may raise
        return valid

    def embeddings(self, tracks: Iterable[Hashable] | None = None) -> dict[Hashable, Float32Array]:
        """The embeddings ``[D]`` of the tracks that are ready.

        Args:
            tracks: Those that are asked for; None for all. A track that is unknown or not ready has no entry.

        Raises:
            PackageError: The model cannot embed a clip. Its track is named, once, and goes on as if the crops of a full clip
                had not come. All other clips are embedded before, and are there at the next call.
        """
        with self._lock:
            faults = self._embed_full()
            names = self._tracks if tracks is None else tracks
            wanted = {name: self._tracks[name] for name in names if name in self._tracks}
            ready = {name: track for name, track in wanted.items() if track.kept >= self._ready_after}
            faults += self._bring_up_to_date([track for track in ready.values() if _is_old(track)])
            self._report(faults)
            return {name: track.embedding.copy() for name, track in ready.items() if track.embedding is not None}

    def forget(self, track: Hashable) -> None:
        """Drop a track; nothing happens if there is none."""
        with self._lock:
            gone = self._tracks.pop(track, None)
            self._full = [(owner, clip) for owner, clip in self._full if owner is not gone]

    def _add(self, name: Hashable, crop: UInt8Array) -> None:
        track = self._tracks.setdefault(name, _Track())
        track.seen += 1
        if (track.seen - 1) % self._every:
            return
        track.kept += 1
        crop = crop.copy()  # else a crop would keep all those of its frame
        track.last.append(crop)
        if len(track.last) == self._length:
            self._full.append((track, np.stack(track.last)))
            track.last = []

    def _embed_batch(self) -> None:
        """Embed the clips that are full where they are enough for a run."""
        if len(self._full) >= self._encoder.batch_sizes[-1]:
            self._report(self._embed_full())

    def _embed_full(self) -> list[_Fault]:
        """Embed the clips that are full and wait for it."""
        features, faults = self._features(self._full)
        for (track, clip), feature in zip(self._full, features, strict=True):
            if feature is None:
                track.kept, track.asked = track.kept - self._length, 0
            elif track.total is None:
                track.first, track.total = list(clip), feature
            else:
                track.total = track.total + feature
        self._full = []
        return faults

    def _bring_up_to_date(self, tracks: list[_Track]) -> list[_Fault]:
        partial = [track for track in tracks if track.last]
        features, faults = self._features((track, self._fill_up(track)) for track in partial)
        rest = {id(track): feature for track, feature in zip(partial, features, strict=True)}
        for track in tracks:
            parts = [part for part in (track.total, rest.get(id(track))) if part is not None]
            track.asked = track.kept
            if parts:
                track.embedding = unit_rows(np.sum(parts, axis=0)).astype(np.float32)
        return faults

    def _report(self, faults: list[_Fault]) -> None:
        """PackageError if there are any: all that could be done is done."""
        if faults:
            names = {id(track): name for name, track in self._tracks.items()}
            which = ", ".join(repr(name) for name in dict.fromkeys(names[id(track)] for track, _ in faults))
            raise PackageError(f"a clip is left out, of the track {which}: {faults[0][1]}") from faults[0][1]

    def _fill_up(self, track: _Track) -> UInt8Array:
        """The last clip of a track, ``[T, H, W, 3]``."""
        start = track.kept - len(track.last)  # 0 while there is no full clip
        indices = cut_clips(track.kept, self._length)[-1].tolist()
        return np.stack([track.last[i - start] if i >= start else track.first[i] for i in indices])

    def _features(self, clips: Iterable[tuple[_Track, UInt8Array]]) -> tuple[list[Float64Array | None], list[_Fault]]:
        """Features [D] of the clips of tracks; None where the model cannot embed one, and why. It holds those of one run."""
        features: list[Float64Array | None] = []
        faults: list[_Fault] = []
        rest = iter(clips)
        while run := list(islice(rest, self._encoder.batch_sizes[-1])):
            try:
                features.extend(clip_features(*self._encoder.embed_clips(np.stack([clip for _, clip in run]))))
            except StcanetError as error:
                if len(run) == 1:
                    features.append(None)
                    faults.append((run[0][0], error))
                    continue
                for clip in run:  # one that gives no number fails those that are run with it: each by itself, this once
                    alone, fault = self._features([clip])
                    features.extend(alone)
                    faults.extend(fault)
        return features, faults


def _is_old(track: _Track) -> bool:
    return track.asked != track.kept
