"""A CSV manifest: one line per crop, for images and tracklets in any other layout."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stcanet.data.datasets.base import ReIDDataset, Sample
from stcanet_runtime.errors import DataError, quote_choices
from stcanet_runtime.retrieval.evaluate import JUNK_PID

REQUIRED = ("path", "pid", "camid", "split")
OPTIONAL = ("track", "frame")
SPLITS = ("train", "query", "gallery")
UNKNOWN_CAMERA = -1
_NAMED = {"pid": 1, "camid": 0}
"""Columns that may hold names, and the number of the first name: person 0 might be a distractor."""
_NUMBER = re.compile(r"\d+|.*[-+.].*|nan|NaN|NAN", re.DOTALL)
"""Of what `float` reads: 1.0 is what some programs make of the person 1, and nan of nobody; 7e1, 1_2 and Nan are names."""
_SHOWN = 6  # names in a note

_Row = Mapping[str, str | None]


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
    A column pid or camid may hold names instead, such as ``anna`` or ``front door``, on every line where it is not empty.
    They are numbered in sorted order over the whole file, people from 1 and cameras from 0; a note of the data set says how.
    Names of columns may be in capitals, where none has the very name, and columns apart by semicolons, as spreadsheets write
    them.

    Raises:
        DataError: A column is missing or there twice, a value is malformed (the message names the line), an image does not
            exist, only some lines have a camid or track, the lines of a track disagree, or a column mixes names and numbers.
    """
    rows = _read_rows(path)
    names = {column: _number_names(rows, column, first, path) for column, first in _NAMED.items()}
    everything = [_parse(row, names, path, number) for number, row in rows]
    lines = [line for line in everything if line.pid != JUNK_PID]
    bad = [line for line in everything if line.pid == JUNK_PID and line.split == "gallery"]
    junk = {(line.track, line.number if line.track is None else None) for line in bad}  # lines of a track are one sample
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
    notes = tuple(_note(column, numbers) for column, numbers in names.items() if numbers)
    return ReIDDataset(path.stem, path, train, query, gallery, tracklets, junk=len(junk), notes=notes)


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


def _read_rows(path: Path) -> list[tuple[int, _Row]]:
    """The number of each line, and what its columns hold."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=";" if head.count(";") > head.count(",") else ",")
            columns = _name_columns(reader.fieldnames or [], path)
            reader.fieldnames = columns
            if missing := [column for column in REQUIRED if column not in columns]:
                header = f"'{','.join(REQUIRED)}[,{','.join(OPTIONAL)}]'"
                hint = "; camid may stay empty where cameras are not known" if missing == ["camid"] else ""
                found = ",".join(columns)[:80]
                raise DataError(f"{path}: expected the columns {header}, missing {quote_choices(missing)} in '{found}'{hint}")
            return [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read the manifest {path}: {error}") from error


def _name_columns(header: Sequence[str], manifest: Path) -> list[str]:
    """The names of the columns; those that matter as they are called here."""
    columns = [column.strip() for column in header]
    for name in (*REQUIRED, *OPTIONAL):
        found = [place for place, column in enumerate(columns) if column == name]
        found = found or [place for place, column in enumerate(columns) if column.lower() == name]
        if len(found) > 1:
            same = quote_choices([columns[place] for place in found])
            raise DataError(f"{manifest}: expected one column {name}, got {len(found)}: {same}; rename all but one")
        for place in found:
            columns[place] = name
    return columns


def _number_names(rows: Sequence[tuple[int, _Row]], column: str, first: int, manifest: Path) -> dict[str, int]:
    """Numbers of the names in a column, in sorted order; empty where it holds none.

    One name among numbers is more likely a slip, for which −1 and 0 must not lose their meaning.
    """
    texts = [(line, text) for line, row in rows if (text := (row[column] or "").strip())]
    named = [(line, text) for line, text in texts if _is_name(text)]
    if 0 < len(named) < len(texts):
        numbers = {text for _, text in texts if not _is_name(text)}
        number = next(text for _, text in texts if text in numbers)
        hint = "; beside names, leave lines of junk out" if column == "pid" and numbers == {str(JUNK_PID)} else ""
        raise DataError(
            f"{manifest} line {named[0][0]}: {column} must be a whole number, got '{named[0][1]}', or a name on every line, "
            f"and others have numbers, such as '{number}'{hint}"
        )
    return {name: first + place for place, name in enumerate(sorted({text for _, text in named}))}


def _is_name(text: str) -> bool:
    """Whether it is no number, nor what programs make of one."""
    try:
        float(text)
    except ValueError:
        return True
    return _NUMBER.fullmatch(text) is None


def _note(column: str, numbers: Mapping[str, int]) -> str:
    listed = [f"{number} is {name}" for name, number in numbers.items()]
    shown = listed if len(listed) <= _SHOWN else [*listed[: _SHOWN - 1], "…", listed[-1]]
    return f"{column} holds names, which are numbered in sorted order: {', '.join(shown)}"


def _parse(row: _Row, names: Mapping[str, Mapping[str, int]], manifest: Path, line: int) -> _Line:
    split = (row["split"] or "").strip()
    if split not in SPLITS:
        raise DataError(f"{manifest} line {line}: split must be {quote_choices(SPLITS)}, got '{split}'")
    image = manifest.parent / (row["path"] or "").strip()
    if not image.is_file():
        raise DataError(f"{manifest} line {line}: there is no image {image}")
    pid, camid = (
        names[column].get((row[column] or "").strip()) if names[column] else _integer(row[column], column, manifest, line)
        for column in _NAMED
    )
    if pid is None:
        raise DataError(f"{manifest} line {line}: pid is empty")
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
