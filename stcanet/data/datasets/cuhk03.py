"""CUHK03 in its new protocol: images in one folder, splits in a MATLAB file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet.data.datasets import market1501
from stcanet.data.datasets.base import ReIDDataset, Sample
from stcanet.data.datasets.layout import Images, Layout, child, plain
from stcanet.data.matlab import as_integers, check_range, load_mat
from stcanet_runtime.errors import DataError

TREE = """\
cuhk03/
  images_detected/  1_001_1_01.png …   (and images_labeled/)
  cuhk03_new_protocol_config_detected.mat   (and …_labeled.mat)
or the folders of Market-1501, here or in detected/ and labeled/"""

_VARIANTS = {"detected": "boxes of a detector", "labeled": "boxes drawn by hand"}
_INDICES = {"train": "train_idx", "query": "query_idx", "gallery": "gallery_idx"}


def fits(root: Path) -> bool:
    """Whether a MATLAB file is there, or Market's folders by one of two more names: detected/ …, or this data set's own."""
    if any(_splits_file(root, variant).is_file() for variant in _VARIANTS):
        return True
    named = root if plain(root.resolve().name).startswith(LAYOUT.name) else None
    return any(folder and market1501.fits(folder) for folder in (named, *(child(root, variant) for variant in _VARIANTS)))


def read(root: Path, variant: str = "detected") -> ReIDDataset:
    """Read one of the two sets of boxes: by the MATLAB file, or else from folders in the Market-1501 layout.

    Raises:
        DataError: A file is missing or malformed, or names an image that is not there.
    """
    if not any(_splits_file(root, known).is_file() for known in _VARIANTS):
        return _read_folders(root, variant)
    path, folder = _splits_file(root, variant), child(root, f"images_{variant}")
    if not path.is_file() or folder is None:
        lacks = path.name if not path.is_file() else f"images_{variant}/"
        raise DataError(f"{root} is not in the CUHK03 layout: missing {lacks}; expected\n{TREE}")
    images = Images(folder)
    content = load_mat(path, "filelist", "labels", "camId", *_INDICES.values())
    names = _names(content["filelist"], path)
    pids = as_integers(content["labels"], None, path, "labels")
    cameras = as_integers(content["camId"], None, path, "camId")
    if not len(names) == len(pids) == len(cameras):
        raise DataError(f"{path}: {len(names)} names, {len(pids)} labels and {len(cameras)} cameras; expected as many of each")
    check_range(cameras, 1, 1 << 31, path, "camId")

    def samples(key: str) -> tuple[Sample, ...]:
        places = as_integers(content[key], None, path, key)
        check_range(places, 1, len(names), path, key)
        return tuple(
            Sample((images.find(names[place], f"{path} '{key}'"),), int(pids[place]), int(cameras[place]) - 1)
            for place in (places - 1).tolist()
        )

    train, query, gallery = (samples(key) for key in _INDICES.values())
    return ReIDDataset(root.resolve().name, root, train, query, gallery, protocol={"boxes": variant})


def _read_folders(root: Path, variant: str) -> ReIDDataset:
    inner = child(root, variant)
    if inner is None and variant != LAYOUT.default:
        raise DataError(f"{root} has no folder '{variant}', and its images do not say whose boxes they are")
    splits = market1501.read_folders(inner or root, "CUHK03")
    # Folders right here do not say whose boxes they hold.
    return ReIDDataset(root.resolve().name, root, *splits, protocol={"boxes": variant} if inner else {})


def _splits_file(root: Path, variant: str) -> Path:
    return root / f"cuhk03_new_protocol_config_{variant}.mat"


def _names(cells: NDArray[Any], path: Path) -> list[str]:
    """A cell array of strings, as SciPy gives it: an array of arrays of one string."""
    if cells.dtype != np.object_:
        raise DataError(f"{path}: 'filelist' must be a cell array of names, got {cells.dtype}")
    names = [np.asarray(cell).ravel() for cell in cells.ravel()]
    if not all(name.size == 1 and name.dtype.kind == "U" for name in names):
        raise DataError(f"{path}: 'filelist' must hold one name in each cell")
    return [str(name[0]) for name in names]


LAYOUT = Layout(
    "cuhk03",
    ("cuhk03-np",),
    tracklets=False,
    tree=TREE,
    fits=fits,
    read=read,
    published={
        "detected": {"train": 7365, "query": 1400, "gallery": 5332},
        "labeled": {"train": 7368, "query": 1400, "gallery": 5328},
    },
    variants=_VARIANTS,
)
