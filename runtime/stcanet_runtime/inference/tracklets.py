"""From tracklets to unit vectors: which frames a model is given, in which batches, and how its answers become one row.

Training, evaluation and deployment all call these functions; they bring the model, and nothing here knows which kind it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.arrays import Float32Array, Float64Array, UInt8Array
from stcanet_runtime.embeddings import LEAST_NORM
from stcanet_runtime.errors import OptionError, quote_choices
from stcanet_runtime.inference.reading import read_ahead
from stcanet_runtime.preprocess import ImageSource, placed
from stcanet_runtime.progress import Progress

Frames = Literal["all", "quick"]
FRAMES: tuple[Frames, ...] = get_args(Frames)
QUICK_STRIDES = (8, 4, 2, 1)
"""Distances in frames that the quick evaluation tries, the largest first; 8 is the stride of the training clips."""

EmbedClips = Callable[[UInt8Array], tuple[Float32Array, Float32Array | None]]
"""uint8 clips ``[N, T, H, W, 3]`` to unit embeddings ``[N, D]`` and the lengths ``[N]`` of their features, where known."""


@dataclass(frozen=True)
class Sampling:
    """What of a tracklet is embedded. Figures made in different ways must not be compared, so this goes with them."""

    frames: Frames = "all"
    """'all': every frame, in consecutive clips; 'quick': one clip near the start."""
    clip_length: int | None = None
    """Frames T of a clip; None takes the model's own."""
    flip: bool = False
    """Whether the unit embeddings of a tracklet and of its mirror image are averaged."""

    def __post_init__(self) -> None:
        if self.frames not in FRAMES:
            raise OptionError("frames", self.frames, quote_choices(FRAMES))
        if self.clip_length is not None and self.clip_length < 1:
            raise OptionError("clip_length", self.clip_length, "at least 1 frame")

    def length(self, own: int | None, dynamic: bool = True) -> int:
        """Frames of a clip for a model that has clips of `own` frames (None: single images, clips of one frame).

        Raises:
            OptionError: A length was asked for, and the model takes images, or clips of another fixed length.
        """
        asked = self.clip_length
        if own is None:
            if asked is not None:
                raise OptionError("clip_length", asked, "left out: this model takes single images and averages over frames")
            return 1
        if asked is not None and asked != own and not dynamic:
            raise OptionError("clip_length", asked, f"{own}: the package was exported for clips of exactly that length")
        return asked or own


ALL_FRAMES = Sampling()


def cut_clips(count: int, length: int, frames: Frames = "all") -> NDArray[np.int64]:
    """Which frames of a tracklet go into its clips, as the published tests choose them.

    'all': consecutive clips; the last one is filled up by the first frames, again and again. 'quick': the first `length`
    frames at the largest stride out of 8, 4, 2 and 1 that fits; a tracklet that is too short is cycled.

    Args:
        count: Frames L of the tracklet, at least 1.
        length: Frames T of a clip, at least 1.
        frames: 'all' or 'quick'.

    Returns:
        ``[clips, T]`` indices in 0..L − 1.
    """
    if frames == "quick":
        stride = next((stride for stride in QUICK_STRIDES if (length - 1) * stride < count), 1)
        return np.arange(length)[None] * stride % count
    return np.arange(-(-count // length) * length).reshape(-1, length) % count


def embed_tracklets(
    tracklets: Sequence[Sequence[ImageSource]],
    read: Callable[[ImageSource], UInt8Array],
    embed: EmbedClips,
    dim: int,
    sampling: Sampling,
    batch_size: int,
    progress: Progress | None = None,
) -> Float32Array:
    """One unit embedding for each tracklet: the direction of the mean of the features of its clips.

    The mean is that of the features before they are brought to unit length, ``Σ norm_i · embedding_i``; where the model
    does not give the norms, that of the unit embeddings. A batch may hold clips of several tracklets, and a tracklet may span
    several batches: memory follows from `batch_size` alone. The next batch is read while one is embedded.

    Args:
        tracklets: Frames of each, in order, at least one each.
        read: Decodes and resizes a frame to ``[H, W, 3]``; called from several threads.
        embed: Runs the model.
        dim: Length D of an embedding.
        sampling: Which frames; with its clip length resolved.
        batch_size: Frames that are given to `embed` at once; at least one clip is.
        progress: Called after each batch with (clips done, clips in all).

    Returns:
        ``[N, D]`` unit float32, in order; a row does not depend on the other tracklets.

    Raises:
        OptionError: `batch_size` is below 1.
        ImageError: A frame cannot be read.
    """
    if batch_size < 1:
        raise OptionError("batch_size", batch_size, "at least 1")
    length = sampling.length(sampling.clip_length)
    clips = [
        (owner, indices)
        for owner, tracklet in enumerate(tracklets)
        for indices in cut_clips(len(tracklet), length, sampling.frames).tolist()
    ]
    owners = np.array([owner for owner, _ in clips], np.int64)
    rows, carry, done = np.empty((len(tracklets), dim), np.float32), _Carry(), 0
    for batch in _read_batches(tracklets, clips, read, max(1, batch_size // length)):
        views = (batch, batch[:, :, :, ::-1]) if sampling.flip else (batch,)
        features = np.stack([clip_features(*embed(view)) for view in views])
        whose, sums = carry.add(owners[done : done + len(batch)], features)
        # A tracklet that goes on in the next batch gets its row again there.
        rows[whose] = unit_rows(unit_rows(sums).sum(axis=0))
        done += len(batch)
        if progress:
            progress(done, len(clips))
    return rows


class _Carry:
    """Sums of features by tracklet, of a tracklet that spans batches too."""

    def __init__(self) -> None:
        self._owner, self._sum = -1, np.zeros(())

    def add(self, owners: NDArray[np.int64], features: Float64Array) -> tuple[NDArray[np.int64], Float64Array]:
        """The tracklets of a batch ``[n]``, and the sums ``[V, n, D]`` of all their clips so far."""
        starts = np.flatnonzero(np.diff(owners, prepend=-1))
        sums: Float64Array = np.add.reduceat(features, starts, axis=1)
        if owners[0] == self._owner:
            sums[:, 0] += self._sum
        self._owner, self._sum = int(owners[-1]), sums[:, -1].copy()
        return owners[starts], sums


def clip_features(embeddings: Float32Array, norms: Float32Array | None) -> Float64Array:
    """Features of clips ``[N, D]``, before they were brought to unit length where that is known."""
    wide = embeddings.astype(np.float64)
    return wide if norms is None else wide * norms[:, None]


def unit_rows(vectors: Float64Array) -> Float64Array:
    """`vectors` ``[…, D]`` at unit length; zeros stay zeros."""
    lengths: Float64Array = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, LEAST_NORM)


def _read_batches(
    tracklets: Sequence[Sequence[ImageSource]],
    clips: Sequence[tuple[int, list[int]]],
    read: Callable[[ImageSource], UInt8Array],
    size: int,
) -> Iterator[UInt8Array]:
    """Clips ``[up to size, T, H, W, 3]`` in order, read one batch ahead."""
    chunks = [clips[first : first + size] for first in range(0, len(clips), size)]
    # A frame that is repeated is read once.
    wanted = (sorted({(owner, index) for owner, indices in chunk for index in indices}) for chunk in chunks)
    images = ({(owner, index): tracklets[owner][index] for owner, index in keys} for keys in wanted)

    def read_frame(key: tuple[int, int], image: ImageSource) -> UInt8Array:
        with placed(f"tracklets[{key[0]}][{key[1]}]"):
            return read(image)

    for chunk, frames in zip(chunks, read_ahead(images, read_frame), strict=True):
        yield np.stack([np.stack([frames[owner, index].result() for index in indices]) for owner, indices in chunk])
