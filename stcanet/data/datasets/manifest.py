"""A CSV manifest: one line per crop, for data in any other layout."""

from __future__ import annotations

import csv
from pathlib import Path

from stcanet.data.datasets.base import ReIDDataset, Sample
from stcanet_runtime.errors import DataError, quote_choices
from stcanet_runtime.evaluate import DISTRACTOR_PID, JUNK_PID

REQUIRED = ("path", "pid", "camid", "split")
OPTIONAL = ("track", "frame")
SPLITS = ("train", "query", "gallery")


def read_manifest(path: Path) -> ReIDDataset:
    """Read ``path,pid,camid,split[,track,frame]``; paths are relative to the CSV's folder.

    ``split`` is train, query or gallery. An empty ``camid`` means that the cameras are not known (then for every line).
    Junk and distractors are treated as in the Market-1501 layout.

    Raises:
        DataError: A column is missing or a value is malformed (the message names the line), or an image does not exist.
    """
    splits: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            if missing := [column for column in REQUIRED if column not in columns]:
                header = f"'{','.join(REQUIRED)}[,{','.join(OPTIONAL)}]'"
                raise DataError(f"{path}: expected the columns {header}, missing {quote_choices(missing)}")
            for row in reader:
                split, sample = _parse(row, path, reader.line_num)
                if sample.pid != JUNK_PID and not (sample.pid == DISTRACTOR_PID and split != "gallery"):
                    splits[split].append(sample)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read the manifest {path}: {error}") from error
    if not any(splits.values()):
        raise DataError(f"{path} lists no images")
    return ReIDDataset(path.stem, path.parent, **{split: tuple(samples) for split, samples in splits.items()})


def _parse(row: dict[str, str | None], manifest: Path, line: int) -> tuple[str, Sample]:
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
    track, frame = (_integer(row.get(column), column, manifest, line) for column in OPTIONAL)
    return split, Sample(image, pid, -1 if camid is None else camid, track, frame)


def _integer(text: str | None, column: str, manifest: Path, line: int) -> int | None:
    if text is None or not text.strip():
        return None
    try:
        return int(text)
    except ValueError:
        raise DataError(f"{manifest} line {line}: {column} must be a whole number, got '{text}'") from None
