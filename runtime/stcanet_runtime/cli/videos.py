"""What `infer` does with a video: embeddings of its tracks, or of each box."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.cameras.detector import Detector
from stcanet_runtime.cameras.footage import Appearance, Person, embed_each_box, follow_tracks
from stcanet_runtime.cameras.mot import Boxes, load_mot
from stcanet_runtime.cameras.video import is_url, without_login
from stcanet_runtime.cli.progress import progress_bar
from stcanet_runtime.errors import DataError
from stcanet_runtime.inference.crop_embeddings import Crops
from stcanet_runtime.inference.encoder import Encoder

_NO_TRACK = -1

BoxSource = dict[int, Boxes] | Detector


def load_source(boxes: Path | None, detector: Path | None, provider: str, threads: int | None) -> BoxSource:
    """Where the boxes come from: the file, or else the detector."""
    if boxes is not None:
        return load_mot(boxes)
    assert detector is not None
    return Detector.load(detector, provider, threads)


def embed(
    encoder: Encoder, video: str, source: BoxSource, every: int, each_box: bool, max_frames: int | None
) -> tuple[Crops, dict[str, NDArray[Any]], str | None]:
    """Embed the people in a video.

    Returns:
        The embeddings, named as the video (a URL without its login) and the track, or the frame and the place in it; and
        columns: ``tracks``, with ``starts``, ``ends`` (seconds) and ``frames`` (how many), or with ``frames`` (which) and
        ``boxes`` [N, 4]. At last, why a camera was lost before its last frame, and which frames these are of.

    Raises:
        DataError: The video cannot be read, ends before its boxes do, or nobody is in it.
    """
    name = without_login(video)
    if isinstance(source, dict):
        source = {frame: boxes for frame, boxes in source.items() if frame <= (max_frames or frame)}
        if not source:
            first = "first frame" if max_frames == 1 else f"first {max_frames} frames"
            raise DataError(f"{name}: there are no boxes in its {first}")
    last = max_frames if isinstance(source, Detector) else max(source)
    with progress_bar("embedding") as progress:
        if isinstance(source, Detector) or each_box:
            people: list[Person] = []
            number, lost = 0, None
            try:
                for number, found in embed_each_box(encoder, video, source, every, max_frames):
                    people += found
                    progress(number, last or number)
            except DataError as error:
                if not (people and is_url(video)):  # a file can be read again; what a camera saw does not come back
                    raise
                lost = f"{error}; frames 1 to {number} of {last}"
            return *_boxes(encoder, name, people), lost
        seen = dict[int, Appearance]()
        for number in follow_tracks(encoder, video, source, every, seen):
            progress(number, last or number)
        return *_tracks(encoder, name, seen), None


def _boxes(encoder: Encoder, video: str, people: Sequence[Person]) -> tuple[Crops, dict[str, NDArray[Any]]]:
    places: dict[int, int] = {}
    names = []
    for person in people:
        places[person.frame] = place = places.get(person.frame, 0) + 1
        names.append(f"{person.frame}-{place}")
    columns = {
        "tracks": np.array([_NO_TRACK if person.track is None else person.track for person in people], np.int64),
        "frames": np.array([person.frame for person in people], np.int64),
        "boxes": np.array([person.box for person in people]),
    }
    return _named(encoder, video, names, [person.embedding for person in people]), columns


def _tracks(encoder: Encoder, video: str, seen: dict[int, Appearance]) -> tuple[Crops, dict[str, NDArray[Any]]]:
    columns = {
        "tracks": np.array(list(seen), np.int64),
        "starts": np.array([one.start for one in seen.values()]),
        "ends": np.array([one.end for one in seen.values()]),
        "frames": np.array([one.frames for one in seen.values()], np.int64),
    }
    return _named(encoder, video, [str(track) for track in seen], [one.embedding for one in seen.values()]), columns


def _named(encoder: Encoder, video: str, names: Sequence[str], rows: Sequence[NDArray[np.float32]]) -> Crops:
    if not rows:
        raise DataError(f"{video}: there is nobody in it")
    return Crops([Path(video) / name for name in names], np.stack(rows), None, None, [], encoder.model_sha256)
