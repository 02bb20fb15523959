"""DukeMTMC-VideoReID: a folder for each identity, in it one for each tracklet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from stcanet.data.datasets.base import ReIDDataset, Sample
from stcanet.data.datasets.layout import Layout, child, subfolders
from stcanet_runtime.errors import DataError, quote_choices
from stcanet_runtime.images.crops import list_images
from stcanet_runtime.wording import counted

TREE = """\
DukeMTMC-VideoReID/
  train/    0001/0004/0001_C6_F0001_X30823.jpg …   (identity / tracklet / frames)
  query/    …
  gallery/  …"""

PIECE = 32
"""Frames of a training sample of the dense variant."""

_SPLITS = ("train", "query", "gallery")
# 0001_C6_F0099_X30823.jpg and the older 0001C6F0099X30823.jpg; the X part is missing in some copies.
_NAME = re.compile(r"\d+_?C(?P<camera>\d+)_?F(?P<frame>\d+)(?:_?X\d+)?", re.ASCII)
_IDENTITY = re.compile(r"-1|\d+", re.ASCII)
_VARIANTS = {
    "sparse": "one training sample for each tracklet",
    "dense": f"training tracklets cut into pieces of {PIECE} frames, the last with the remainder",
}


def fits(root: Path) -> bool:
    """Whether folders of identities lie in train/ or gallery/."""
    folders = [child(root, name) for name in _SPLITS]
    if sum(folder is not None for folder in folders) < 2:
        return False
    first = next((entry for folder in folders if folder for entry in subfolders(folder)), None)
    return first is not None and bool(subfolders(first)) and _IDENTITY.fullmatch(first.name) is not None


def read(root: Path, variant: str = "sparse") -> ReIDDataset:
    """Read the three folders; queries and gallery are whole tracklets in either variant.

    Raises:
        DataError: A folder is missing or empty, or a name cannot be read.
    """
    found = {split: child(root, split) for split in _SPLITS}
    if missing := [f"{split}/" for split, folder in found.items() if folder is None]:
        raise DataError(f"{root} is not in the DukeMTMC-VideoReID layout: missing {quote_choices(missing)}; expected\n{TREE}")
    splits = {split: tuple(_tracklets(folder)) for split, folder in found.items() if folder}
    notes = _gap_notes([sample for samples in splits.values() for sample in samples])
    train = splits["train"] if variant == "sparse" else [piece for sample in splits["train"] for piece in _cut(sample)]
    return ReIDDataset(
        root.resolve().name,
        root,
        tuple(train),
        splits["query"],
        splits["gallery"],
        tracklets=True,
        protocol={"training": variant},
        notes=notes,
    )


def _tracklets(folder: Path) -> Iterator[Sample]:
    identities = subfolders(folder)
    if not identities:
        raise DataError(f"{folder} is empty; expected a folder for each identity")
    for identity in identities:
        if not _IDENTITY.fullmatch(identity.name):
            raise DataError(f"{identity}: expected a folder named after an identity, such as 0001")
        if not (tracks := subfolders(identity)):
            raise DataError(f"{identity} is empty; expected a folder for each tracklet")
        for track in tracks:
            yield _read_tracklet(track, int(identity.name))


def _read_tracklet(folder: Path, pid: int) -> Sample:
    frames = {path: _NAME.fullmatch(path.stem) for path in list_images(folder)}
    if bad := next((path for path, match in frames.items() if match is None), None):
        raise DataError(f"{bad}: expected a name like 0001_C6_F0099_X30823.jpg (identity, camera, frame, …)")
    named = {path: match for path, match in frames.items() if match is not None}
    cameras = sorted({int(match["camera"]) for match in named.values()})
    if len(cameras) > 1 or cameras[0] < 1:
        raise DataError(f"{folder}: a tracklet is seen by one camera, counted from 1; its names say {cameras}")
    ordered = sorted(named, key=lambda path: int(named[path]["frame"]))
    numbers = [int(named[path]["frame"]) for path in ordered]
    if len(set(numbers)) < len(numbers):
        raise DataError(f"{folder}: two files are the same frame")
    return Sample(tuple(ordered), pid, cameras[0] - 1)


def _gap_notes(samples: Sequence[Sample]) -> tuple[str, ...]:
    """A line when frames are missing between the first and the last of a tracklet, which others cut short there."""
    short = [sample for sample in samples if _frame(sample.frames[-1]) - _frame(sample.frames[0]) >= len(sample.frames)]
    lack = counted(len(short), "tracklet lacks", "tracklets lack")
    return (f"{lack} frames in between, the first is {short[0].path.parent}",) if short else ()


def _frame(path: Path) -> int:
    match = _NAME.fullmatch(path.stem)
    assert match is not None  # it was read before
    return int(match["frame"])


def _cut(sample: Sample) -> Iterator[Sample]:
    """Pieces of `PIECE` frames; the last takes the remainder too, as in the reference, so that no piece is short."""
    last = max(0, len(sample.frames) // PIECE - 1) * PIECE
    for start in range(0, last + 1, PIECE):
        yield Sample(sample.frames[start : None if start == last else start + PIECE], sample.pid, sample.camid)


LAYOUT = Layout(
    "dukemtmcvidreid",
    ("dukev", "dukemtmc-videoreid", "dukemtmc-vidreid", "duke-video"),
    tracklets=True,
    tree=TREE,
    fits=fits,
    read=read,
    published={"sparse": {"train": 2196, "query": 702, "gallery": 2636}, "dense": {"query": 702, "gallery": 2636}},
    variants=_VARIANTS,
)
