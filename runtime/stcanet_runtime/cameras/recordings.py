"""Videos of several cameras with tracked boxes: who is who in all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stcanet_runtime.cameras.footage import Appearance, follow_tracks
from stcanet_runtime.cameras.identifier import Identifier
from stcanet_runtime.cameras.identities import Track
from stcanet_runtime.cameras.mot import Boxes, load_mot
from stcanet_runtime.cameras.video import frame_rate, read_video, video_writer
from stcanet_runtime.errors import DataError
from stcanet_runtime.files import atomic_path
from stcanet_runtime.images.boxes import clip_boxes
from stcanet_runtime.inference.encoder import Encoder
from stcanet_runtime.progress import Progress

_COLORS = (
    (208, 48, 48),
    (45, 75, 160),
    (30, 150, 75),
    (200, 130, 20),
    (130, 60, 160),
    (20, 140, 150),
    (170, 60, 110),
    (90, 100, 40),
)


@dataclass(frozen=True)
class Recording:
    """A video and the boxes in it; all videos begin at the same moment."""

    camera: str
    video: Path
    boxes: dict[int, Boxes]

    @classmethod
    def load(cls, video: Path, boxes: Path) -> Recording:
        """Read the boxes; the camera is called as the video."""
        return cls(video.stem, video, load_mot(boxes))


def identify_recordings(
    encoder: Encoder, recordings: Sequence[Recording], identifier: Identifier, every: int = 5, progress: Progress | None = None
) -> dict[tuple[str, str], int]:
    """Embed the tracks of all videos, and give each an identity.

    Args:
        encoder: The model.
        recordings: Videos, with different names.
        identifier: Who decides.
        every: Of each track the first crop and each `every`-th after it count; see `TrackletBuffer`.
        progress: Told of frames done, of all that have boxes.

    Returns:
        Identities by (camera, track).

    Raises:
        OptionError: `every` is below 1.
        DataError: Two videos have one name, or a video cannot be read, or it ends before its boxes do.
    """
    if len({recording.camera for recording in recordings}) < len(recordings):
        raise DataError("videos must have different names: they name the cameras")
    last = [max(recording.boxes) for recording in recordings]
    tracks: list[tuple[Track, NDArray[np.float32], int]] = []
    for index, recording in enumerate(recordings):
        done, seen = sum(last[:index]), dict[int, Appearance]()
        for number in follow_tracks(encoder, recording.video, recording.boxes, every, seen):
            if progress:
                progress(done + number, sum(last))
        tracks += [
            (Track(recording.camera, str(name), one.start, one.end), one.embedding, one.frames) for name, one in seen.items()
        ]
    for track, embedding, frames in sorted(tracks, key=lambda item: (item[0].end, item[0].key)):
        identifier.update(track, embedding, frames)
    return {track.key: identity for identity, found in identifier.identities.items() for track in found}


def write_lines(
    recordings: Sequence[Recording], identities: dict[tuple[str, str], int], names: Callable[[int], str | None], out: str | Path
) -> int:
    """JSON lines, one for each box: camera, frame, track, box, identity and name; how many."""
    rows = (
        {"camera": recording.camera, "frame": frame, "track": track, "box": box, "identity": identity, "name": names(identity)}
        for recording in recordings
        for frame, boxes in recording.boxes.items()
        for track, box in zip(boxes.ids, boxes.xyxy.tolist(), strict=True)
        if (identity := identities.get((recording.camera, str(track)))) is not None
    )
    count = 0
    with atomic_path(out) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
            count += 1
    return count


def annotate(
    recording: Recording, identities: dict[tuple[str, str], int], names: Callable[[int], str | None], out: str | Path
) -> None:
    """The video with boxes and identities drawn into it, up to the last frame that has boxes."""
    last = max(recording.boxes)
    with video_writer(out, frame_rate(recording.video)) as write:
        for number, _, image in read_video(recording.video):
            write(_draw(image, recording, recording.boxes.get(number), identities, names))
            if number >= last:
                return


def _draw(
    image: NDArray[np.uint8], recording: Recording, boxes: Boxes | None, identities: dict[Any, int], names: Any
) -> NDArray[np.uint8]:
    if boxes is None:
        return image
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    size = max(12, image.shape[0] // 36)
    font = ImageFont.load_default(size)
    pixels, valid = clip_boxes(boxes.xyxy, *image.shape[:2])  # a tracker may predict a box that is reversed, or far outside
    for track, (left, top, right, bottom), shown in zip(boxes.ids, pixels.tolist(), valid.tolist(), strict=True):
        if not shown or (identity := identities.get((recording.camera, str(track)))) is None:
            continue
        color = _COLORS[identity % len(_COLORS)]
        label = " ".join((names(identity) or str(identity)).split())  # in one line, which a name need not be
        draw.rectangle((left, top, right - 1, bottom - 1), outline=color, width=max(2, size // 8))
        place = (left, max(0, top - size - 4))
        draw.rectangle((*place, place[0] + draw.textlength(label, font) + 6, place[1] + size + 4), color)
        draw.text((place[0] + 3, place[1] + 1), label, (255, 255, 255), font)
    return np.asarray(picture)
