"""DukeMTMC-reID: the folders of Market-1501 with names of its own."""

from __future__ import annotations

import re
from pathlib import Path

from stcanet.data.datasets import market1501
from stcanet.data.datasets.base import ReIDDataset
from stcanet.data.datasets.layout import Layout, child

TREE = """\
DukeMTMC-reID/
  bounding_box_train/  0001_c2_f0046182.jpg …
  query/               0005_c2_f0046985.jpg …
  bounding_box_test/   0002_c1_f0044158.jpg …"""

_NAME = re.compile(r"\d+_c\d+_f\d+\.\w+", re.ASCII)


def fits(root: Path) -> bool:
    """Whether it has Market's folders, with names that count frames in Duke's way."""
    folder = child(root, "query") or child(root, "bounding_box_test") or child(root, "bounding_box_train")
    if folder is None:
        return False
    first = min((entry.name for entry in folder.iterdir() if not entry.name.startswith(".")), default="")
    return _NAME.fullmatch(first) is not None


def read(root: Path, variant: str = "") -> ReIDDataset:  # noqa: ARG001
    """Read the folder; see :func:`stcanet.data.datasets.market1501.read_folders`."""
    return ReIDDataset(root.resolve().name, root, *market1501.read_folders(root, "DukeMTMC-reID"))


LAYOUT = Layout(
    "dukemtmcreid",
    ("duke", "dukemtmc", "dukemtmc-reid"),
    tracklets=False,
    tree=TREE,
    fits=fits,
    read=read,
    published={"": {"train": 16522, "query": 2228, "gallery": 17661}},
)
