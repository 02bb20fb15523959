"""The Market-1501 folder layout, which many data sets share."""

from __future__ import annotations

from pathlib import Path

from stcanet.data.datasets.base import ReIDDataset, Sample
from stcanet_runtime.crops import list_images, parse_name
from stcanet_runtime.errors import DataError, quote_choices
from stcanet_runtime.evaluate import DISTRACTOR_PID, JUNK_PID

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}


def read_market1501(root: Path) -> ReIDDataset:
    """Read a folder in the Market-1501 layout.

    File names are ``0001_c1s1_000004_00.jpg``, with any number of camera digits. Junk (pid −1) is dropped everywhere;
    distractors (pid 0) stay in the gallery and are dropped from the other two splits.

    Raises:
        DataError: A folder is missing or empty, or no file name in it can be read.
    """
    if missing := [folder for folder in FOLDERS.values() if not (root / folder).is_dir()]:
        expected = ", ".join(f"{folder}/" for folder in FOLDERS.values())
        raise DataError(f"{root} is not in the Market-1501 layout: expected {expected}; missing {quote_choices(missing)}")
    splits = {split: _read_folder(root / folder) for split, folder in FOLDERS.items()}
    for split in ("train", "query"):
        splits[split] = tuple(sample for sample in splits[split] if sample.pid != DISTRACTOR_PID)
    return ReIDDataset(root.resolve().name, root, splits["train"], splits["query"], splits["gallery"])


def _read_folder(folder: Path) -> tuple[Sample, ...]:
    samples = []
    for path in list_images(folder):
        name = parse_name(path)
        if name is None:
            raise DataError(f"{path}: expected a name like 0001_c1s1_000004_00.jpg (identity, camera, …)")
        pid, camid = name
        if pid != JUNK_PID:
            samples.append(Sample((path,), pid, camid))
    return tuple(samples)
