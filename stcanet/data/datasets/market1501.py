"""Market-1501, and the folder layout that many data sets share with it."""

from __future__ import annotations

from pathlib import Path

from stcanet.data.datasets.base import ReIDDataset, Sample
from stcanet.data.datasets.layout import Layout, Splits, child
from stcanet_runtime.errors import DataError, quote_choices
from stcanet_runtime.images.crops import list_images, parse_name

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}

TREE = """\
market1501/
  bounding_box_train/  0002_c1s1_000451_03.jpg …
  query/               0001_c1s1_001051_00.jpg …
  bounding_box_test/   0001_c1s1_001051_01.jpg …   (0000 distractors, -1 junk)"""


def fits(root: Path) -> bool:
    """Whether one of the three folders is there."""
    return any(child(root, folder) for folder in FOLDERS.values())


def read(root: Path, variant: str = "") -> ReIDDataset:  # noqa: ARG001
    """Read a folder in the Market-1501 layout; see :func:`read_folders`."""
    return ReIDDataset(root.resolve().name, root, *read_folders(root, "Market-1501"))


def read_folders(root: Path, title: str) -> Splits:
    """Read the three folders.

    File names are ``0001_c1s1_000004_00.jpg``, with any number of camera digits. Pid −1 is junk, pid 0 in the
    gallery a distractor. A training or query image of pid 0 is of a person, as in data that counts people from 0.

    Raises:
        DataError: A folder is missing or empty, or a file name in it cannot be read.
    """
    found = {split: child(root, folder) for split, folder in FOLDERS.items()}
    if missing := [FOLDERS[split] for split, folder in found.items() if folder is None]:
        expected = ", ".join(f"{folder}/" for folder in FOLDERS.values())
        raise DataError(f"{root} is not in the {title} layout: expected {expected}; missing {quote_choices(missing)}")
    train, query, gallery = (_read_folder(folder) for folder in found.values() if folder)
    return train, query, gallery


def _read_folder(folder: Path) -> tuple[Sample, ...]:
    samples = []
    for path in list_images(folder):
        name = parse_name(path)
        if name is None:
            raise DataError(f"{path}: expected a name like 0001_c1s1_000004_00.jpg (identity, camera, …)")
        samples.append(Sample((path,), *name))
    return tuple(samples)


LAYOUT = Layout(
    "market1501",
    ("market", "market-1501", "market-1501-v15.09.15"),
    tracklets=False,
    tree=TREE,
    fits=fits,
    read=read,
    published={"": {"train": 12936, "query": 3368, "gallery": 15913}},
)
