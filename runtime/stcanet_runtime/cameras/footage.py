"""People in a recorded video: the boxes of a file, followed as tracks, or box by box."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.arrays import Float32Array
from stcanet_runtime.cameras.detector import Detector
from stcanet_runtime.cameras.mot import Boxes
from stcanet_runtime.cameras.video import VideoFrame, is_url, read_video, without_login
from stcanet_runtime.errors import DataError
from stcanet_runtime.inference.encoder import Encoder
from stcanet_runtime.inference.track_buffer import TrackletBuffer
from stcanet_runtime.wording import counted


@dataclass
class Appearance:
    """When a track was seen."""

    start: float
    """Seconds since the first frame of the video."""
    end: float
    frames: int
    """In how many of them its box showed something."""
    embedding: Float32Array = field(default_factory=lambda: np.empty(0, np.float32))
    """``[D]``; empty until the track is over."""


@dataclass(frozen=True, eq=False)
class Person:
    """A box and its embedding."""

    frame: int
    track: int | None
    """None where a detector found it."""
    box: NDArray[np.float64]
    """``[4]``: left, upper, right and lower edge."""
    embedding: Float32Array
    """``[D]``"""


def frames_with_boxes(video: str | Path, boxes: dict[int, Boxes]) -> Iterator[tuple[VideoFrame, Boxes]]:
    """The frames that have boxes; boxes as of :func:`stcanet_runtime.cameras.mot.load_mot`.

    Raises:
        DataError: The video cannot be read, or ends before its boxes do.
    """
    last, number = max(boxes), 0
    for frame in read_video(video):
        number = frame.number
        if number in boxes:
            yield frame, boxes[number]
        if number >= last:
            return
    raise DataError(f"{without_login(video)} has {counted(number, 'frame', 'frames')}, its boxes go on to frame {last}")


def follow_tracks(
    encoder: Encoder, video: str | Path, boxes: dict[int, Boxes], every: int, seen: dict[int, Appearance]
) -> Iterator[int]:
    """Embed the tracks of a video; yields the numbers of the frames that are done.

    Memory is that of the tracks under way, and of as many that are over as the model takes at once.

    Args:
        encoder: The model.
        video: See `frames_with_boxes`, which says what is raised.
        boxes: By frame.
        every: Of each track the first crop and each `every`-th after it count; see `TrackletBuffer`.
        seen: Filled with what is known of each track that has a crop; all of it when the last frame is done.
    """
    buffer, over = TrackletBuffer(encoder, every, ready_after=1), list[int]()
    last, end = {track: number for number in sorted(boxes) for track in boxes[number].ids}, max(boxes)
    for (number, time, image), found in frames_with_boxes(video, boxes):
        valid = buffer.add_boxes(image, found.xyxy, "rgb", found.ids)
        for track, shown in zip(found.ids, valid.tolist(), strict=True):
            if shown:
                known = seen.setdefault(track, Appearance(time, time, 0))
                known.end, known.frames = time, known.frames + 1
        over += [track for track in found.ids if last[track] == number and track in seen]
        if len(over) >= encoder.batch_sizes[-1] or number == end:
            rows = buffer.embeddings(over)
            for track in over:
                seen[track].embedding = rows[track]
                buffer.forget(track)
            over.clear()
        yield number


def embed_each_box(
    encoder: Encoder, video: str | Path, source: dict[int, Boxes] | Detector, every: int, max_frames: int | None = None
) -> Iterator[tuple[int, list[Person]]]:
    """Frame numbers, and the people in them; boxes of which nothing lies in the frame are left out.

    Args:
        encoder: The model.
        video: See `read_video`.
        source: Boxes by frame, or what finds them.
        every: Frames 1, 1 + every, … are looked at; at least 1.
        max_frames: Of the video, for a detector: no more are read. None for all.

    Raises:
        DataError: The video cannot be read, or ends before its boxes do; or a camera before the last frame that is wanted.
    """
    if isinstance(source, Detector):
        frames = _first_frames(video, max_frames)
        chosen = ((frame, Boxes((), source.detect(frame.image, "rgb"))) for frame in frames if _is_due(frame, every))
    else:
        chosen = ((frame, boxes) for frame, boxes in frames_with_boxes(video, source) if _is_due(frame, every))
    for (number, _, image), boxes in chosen:
        rows, valid = encoder.encode_boxes(image, boxes.xyxy, "rgb")
        tracks: Sequence[int | None] = boxes.ids or [None] * len(rows)
        yield number, [Person(number, tracks[i], boxes.xyxy[i], rows[i]) for i in np.flatnonzero(valid).tolist()]


def _first_frames(video: str | Path, count: int | None) -> Iterator[VideoFrame]:
    number = 0
    for frame in islice(read_video(video), count):
        number = frame.number
        yield frame
    if count is not None and number < count and is_url(video):  # a file may be shorter, but no camera has an end
        raise DataError(f"{without_login(video)} ended after frame {number}")


def _is_due(frame: VideoFrame, every: int) -> bool:
    return (frame.number - 1) % every == 0
