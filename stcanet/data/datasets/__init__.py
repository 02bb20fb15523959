"""Readers. One file per layout; :func:`load_dataset` tells which one a path is."""

from __future__ import annotations

from pathlib import Path

from stcanet.data.datasets.base import ReIDDataset, Sample
from stcanet.data.datasets.manifest import read_manifest
from stcanet.data.datasets.market1501 import read_market1501
from stcanet_runtime.errors import DataError

__all__ = ["ReIDDataset", "Sample", "load_dataset", "read_manifest", "read_market1501"]


def load_dataset(path: Path | str) -> ReIDDataset:
    """Read the data set at `path`: a folder in the Market-1501 layout, or a ``.csv`` manifest.

    Raises:
        DataError: There is nothing, or it is not as expected.
    """
    path = Path(path)
    if path.is_dir():
        return read_market1501(path)
    if path.suffix.lower() == ".csv":
        return read_manifest(path)
    raise DataError(f"{path}: expected a folder in the Market-1501 layout or a .csv manifest")
