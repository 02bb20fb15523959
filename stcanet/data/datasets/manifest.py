"""A CSV manifest: one line per crop, for images and tracklets in any other layout."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stcanet.data.datasets.base import ReIDDataset, Sample
from stcanet_runtime.errors import DataError, quote_choices
from stcanet_runtime.evaluate import JUNK_PID

REQUIRED = ("path", "pid", "camid", "split")
OPTIONAL = ("track", "frame")
SPLITS = ("train", "query", "gallery")
UNKNOWN_CAMERA = -1


@dataclass(frozen=True)
class _Line:
    """What one line says, and where it stands."""

    number: int
    split: str
    image: Path
    pid: int
    camid: int
    track: int | None
    frame: int | None


def read_manifest(path: Path) -> ReIDDataset:
    """Read ``path,pid,camid,split[,track,frame]``; paths are relative to the CSV's folder.

    ``split`` is train, query or gallery. An empty ``camid``, or −1, means that the cameras are not known (then for every line
    of train, or of query and gallery).
    With ``track``, the lines of one split and track are one tracklet, ordered by ``frame`` (without it, as they stand).
    Pid −1 is junk, which is left out. Pid 0 is a person as any other where a train or query line has it, as in data that
    counts people from 0; where only gallery lines have it, they are distractors.

    Raises:
        DataError: A column is missing or a value is malformed (the message names the line), an image does not exist, only some
            lines have a camid or track, or the lines of a track disagree.
    """
    lines = [line for line in _read_lines(path) if line.pid != JUNK_PID]
    if not lines:
        raise DataError(f"{path} lists no images")
    tracklets = any(line.track is not None for line in lines)
    if tracklets and (line := next((line for line in lines if line.track is None), None)):
        raise DataError(f"{path} line {line.number}: track is empty; give every line a track, or none")
    for judged in (("train",), ("query", "gallery")):
        _check_cameras(path, [line for line in lines if line.split in judged], " and ".join(judged))
    groups: dict[object, list[_Line]] = {}
    for line in lines:
        groups.setdefault((line.split, line.track) if tracklets else line.number, []).append(line)
    splits: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    for group in groups.values():
        splits[group[0].split].append(_sample(group, path))
    train, query, gallery = (tuple(splits[split]) for split in SPLITS)
    return ReIDDataset(path.stem, path, train, query, gallery, tracklets)


def _sample(group: list[_Line], manifest: Path) -> Sample:
    first = group[0]
    for line in group:
        if (line.pid, line.camid) != (first.pid, first.camid):
            raise DataError(
                f"{manifest} line {line.number}: track {line.track} has pid {first.pid} and camid {first.camid} in line "
                f"{first.number}, and pid {line.pid} and camid {line.camid} here"
            )
    ordered = sorted(group, key=lambda line: -1 if line.frame is None else line.frame)
    return Sample(tuple(line.image for line in ordered), first.pid, first.camid)


def _check_cameras(path: Path, lines: Sequence[_Line], splits: str) -> None:
    """One line without a camera would turn the camera rule off for all."""
    unknown = [line for line in lines if line.camid == UNKNOWN_CAMERA]
    if 0 < len(unknown) < len(lines):
        raise DataError(f"{path} line {unknown[0].number}: camid is empty; give every line of {splits} a camid, or none")


def _read_lines(path: Path) -> list[_Line]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            if missing := [column for column in REQUIRED if column not in columns]:
                header = f"'{','.join(REQUIRED)}[,{','.join(OPTIONAL)}]'"
                hint = "; camid may stay empty where cameras are not known" if missing == ["camid"] else ""
                found = ",".join(columns)[:80]
                raise DataError(f"{path}: expected the columns {header}, missing {quote_choices(missing)} in '{found}'{hint}")
            return [_parse(row, path, reader.line_num) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read the manifest {path}: {error}") from error


def _parse(row: dict[str, str | None], manifest: Path, line: int) -> _Line:
    split = (row["split"] or "").strip()
    if split not in SPLITS:
        raise DataError(f"{manifest} line {line}: split must be {quote_choices(SPLITS)}, got '{split}'")
    image = manifest.parent / (row["path"] or "").strip()
    if not image.is_file():
        raise DataError(f"{manifest} line {line}: there is no image {image}")
    pid = _integer(row["pid"], "pid", manifest, line)
    if pid is None:
        raise DataError(f"{manifest} line {line}: pid is empty")
    camid = _integer(row["camid"], "camid", manifest, line)
    if camid is not None and camid < UNKNOWN_CAMERA:
        raise DataError(f"{manifest} line {line}: camid must be 0 or more, or empty where it is unknown, got {camid}")
    track, frame = (_integer(row.get(column), column, manifest, line) for column in OPTIONAL)
    return _Line(line, split, image, pid, UNKNOWN_CAMERA if camid is None else camid, track, frame)


def _integer(text: str | None, column: str, manifest: Path, line: int) -> int | None:
    if text is None or not text.strip():
        return None
    try:
        value = int(text.replace("_", "?"))  # to int() the tracks 1_2 and 12 are one
    except ValueError:
        raise DataError(f"{manifest} line {line}: {column} must be a whole number, got '{text}'") from None
    if not -(2**63) <= value < 2**63:  # identities and cameras become int64 in an evaluation
        raise DataError(f"{manifest} line {line}: {column} must be a whole number of 64 bits, got '{text}'")
    return value
