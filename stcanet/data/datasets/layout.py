"""What is known of a published folder layout, and the steps that readers share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from stcanet.data.datasets.base import ReIDDataset, Sample
from stcanet_runtime.errors import DataError, OptionError, quote_choices
from stcanet_runtime.retrieval.evaluate import JUNK_PID

Splits = tuple[tuple[Sample, ...], tuple[Sample, ...], tuple[Sample, ...]]
"""Train, query, gallery."""


@dataclass(frozen=True)
class Layout:
    """One published data set: how to recognise it, what it should hold, and who reads it."""

    name: str
    aliases: tuple[str, ...]
    tracklets: bool
    tree: str
    """The folder as it is published, for people."""
    fits: Callable[[Path], bool]
    """Whether a folder has this structure; looks at names only."""
    read: Callable[[Path, str], ReIDDataset]
    """Reads a folder that fits, as a variant."""
    published: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Samples of each split by variant."""
    variants: Mapping[str, str] = field(default_factory=lambda: {"": ""})
    """What each variant means; the first is the default."""

    @property
    def default(self) -> str:
        """The variant that is taken when none is named."""
        return next(iter(self.variants))

    def resolve(self, variant: str) -> str:
        """The variant, or the default for none.

        Raises:
            OptionError: There is no such variant.
        """
        if variant and variant not in self.variants:
            choices = quote_choices([name for name in self.variants if name]) if self.default else "none"
            raise OptionError(f"variant of {self.name}", variant, choices)
        return variant or self.default

    def is_called(self, name: str) -> bool:
        """Whether that is its name or an alias, in any case and punctuation."""
        return plain(name) in map(plain, (self.name, *self.aliases))


def plain(name: str) -> str:
    """Letters and digits only, lower case: ``DukeMTMC-reID`` and ``dukemtmc_reid`` are one spelling."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def child(folder: Path, *spellings: str) -> Path | None:
    """The subfolder that has one of these names, in any case and punctuation; the first spelling that exists."""
    if not folder.is_dir():
        return None
    found = {plain(entry.name): entry for entry in sorted(folder.iterdir(), reverse=True) if entry.is_dir()}
    return next((found[plain(name)] for name in spellings if plain(name) in found), None)


def subfolders(folder: Path) -> list[Path]:
    """Visible folders in a folder, sorted by name."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


class Images:
    """Finds the images that a file of the data set names, below a folder.

    Lists name a million files, so each folder is listed once and not asked for every one of them.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[str, tuple[Path, frozenset[str]]] = {}

    def find(self, name: str, source: str) -> Path:
        """The image of that relative name.

        Raises:
            DataError: The name points outside the folder, or there is no such file; `source` says who named it.
        """
        folder, _, file = name.rpartition("/")
        if folder not in self._folders:
            self._check(name, source)
            path = self._root / folder
            self._folders[folder] = (path, frozenset(os.listdir(path)) if path.is_dir() else frozenset())  # noqa: PTH208
        path, names = self._folders[folder]
        if file not in names:
            self._check(name, source)
            raise DataError(f"{source}: there is no image {path / file}")
        return path / file

    def _check(self, name: str, source: str) -> None:
        # Backslashes and colons: they separate folders and name drives on Windows.
        if name.startswith("/") or ".." in name.split("/") or any(sign in name for sign in "\\:\0"):
            raise DataError(f"{source}: '{name}' points outside {self._root}; refused")


def without_junk(dataset: ReIDDataset) -> ReIDDataset:
    """Without the samples of pid −1; those of the gallery are counted.

    Pid 0 stays: in the gallery it means distractors, in the published data it is nowhere else, and where training or query
    images have it, somebody counts people from 0.
    """
    splits = (dataset.train, dataset.query, dataset.gallery)
    train, query, gallery = (tuple(sample for sample in split if sample.pid != JUNK_PID) for split in splits)
    junk = len(dataset.gallery) - len(gallery)
    return replace(dataset, train=train, query=query, gallery=gallery, junk=dataset.junk + junk)


def count_notes(dataset: ReIDDataset, published: Mapping[str, int]) -> tuple[str, ...]:
    """One line that names every split whose number of samples is not the published one.

    It names no path: packages carry it to others.
    """
    found = {split: numbers["samples"] for split, numbers in dataset.describe().items()}
    differing = [
        f"{split} {found.get(split, 0):,} instead of {number:,}"
        for split, number in published.items()
        if found.get(split, 0) != number
    ]
    return (f"this is not the published {dataset.name}: {', '.join(differing)}",) if differing else ()
