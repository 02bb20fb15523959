"""What is wrong with a data set before a night of training shows it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stcanet.data.datasets.base import ONE_CAMERA, ReIDDataset, Sample, cameras_known
from stcanet_runtime.errors import ImageError
from stcanet_runtime.files import sha256_file
from stcanet_runtime.preprocess import load_image
from stcanet_runtime.progress import Progress

EXAMPLES = 5
"""Cases that are named of each finding; all are counted."""


@dataclass(frozen=True)
class Finding:
    """One kind of flaw."""

    level: Literal["error", "warning"]
    """Errors stop training or evaluation, or make their figures wrong."""
    message: str
    cases: int
    examples: tuple[str, ...]


def check_dataset(dataset: ReIDDataset, progress: Progress | None = None) -> list[Finding]:
    """Decode every image and look for what spoils training or figures.

    Args:
        dataset: What a reader returned; so its structure is sound already.
        progress: Called with (images done, images in all).
    """
    splits = {"train": dataset.train, "val": dataset.val, "query": dataset.query, "gallery": dataset.gallery}
    listed = _listed(splits)
    unreadable, copies = _inspect(listed, progress)
    leaks = [(a, b) for a, b in copies if "train" in (held := {*listed[a], *listed[b]}) and held & {"query", "gallery"}]
    within = [pair for pair in copies if pair not in leaks]
    lonely = _lonely(dataset.train) if cameras_known(dataset.train) else []
    unmatched = [str(sample.path) for sample in dataset.unmatched()]
    cameras = {sample.camid for sample in (*dataset.query, *dataset.gallery)}
    advice = f"; {ONE_CAMERA}" if dataset.has_cameras and len(cameras) == 1 else ""
    trained = set() if dataset.counts_apart else {sample.pid for sample in (*dataset.train, *dataset.val)}
    common = trained & {sample.pid for sample in dataset.query}
    findings = [
        _finding("error", "images cannot be read", unreadable),
        _finding("error", "images are in training and test", [f"{a} = {b}" for a, b in leaks]),
        _finding("error", "images are listed in several splits", _in_several(listed, dataset.has_cameras)),
        # Market-1501 has two such queries, MARS many: evaluation leaves them out.
        _finding(
            "error" if len(unmatched) == len(dataset.query) else "warning",
            f"queries have no match in the gallery{advice}",
            unmatched,
        ),
        _finding("warning", "identities are in training and among the queries", [str(pid) for pid in sorted(common)]),
        _finding("warning", "images are exact copies of others", [f"{a} = {b}" for a, b in within]),
        _finding(
            "warning",
            "images are listed twice in a split",
            [f"{path}: {', '.join(held)}" for path, held in listed.items() if len(set(held)) < len(held)],
        ),
        _finding("warning", "training identities are seen by one camera only", [str(pid) for pid in lonely]),
        *(
            _finding("warning", text, [text])
            for text in (
                *(f"the {split} split is empty" for split in splits if split != "val" and not splits[split]),
                *dataset.notes,
            )
        ),
    ]
    return [finding for finding in findings if finding.cases]


def _finding(level: Literal["error", "warning"], message: str, cases: Sequence[str]) -> Finding:
    return Finding(level, message, len(cases), tuple(cases[:EXAMPLES]))


def _listed(splits: Mapping[str, Sequence[Sample]]) -> dict[Path, list[str]]:
    """The split of each time that a file is listed."""
    listed: dict[Path, list[str]] = {}
    for split, samples in splits.items():
        for sample in samples:
            for path in sample.frames:
                listed.setdefault(path, []).append(split)
    return listed


def _in_several(listed: Mapping[Path, Sequence[str]], cameras: bool) -> list[str]:
    """Files in splits that must not share any."""
    # MARS keeps its queries in the gallery: the camera rule keeps them from finding themselves.
    allowed = {"query", "gallery"} if cameras else set()
    return [f"{path}: {', '.join(held)}" for path, held in listed.items() if len(set(held)) > 1 and set(held) != allowed]


def _inspect(paths: Collection[Path], progress: Progress | None) -> tuple[list[str], list[tuple[Path, Path]]]:
    """Why images cannot be read, and pairs of files with the same bytes (each with the first of its kind)."""
    unreadable: list[str] = []
    first: dict[str, Path] = {}
    copies: list[tuple[Path, Path]] = []
    for done, path in enumerate(paths, 1):
        try:
            load_image(path)
        except ImageError as error:
            unreadable.append(str(error))
        else:
            original = first.setdefault(sha256_file(path), path)
            if original != path:
                copies.append((path, original))
        if progress:
            progress(done, len(paths))
    return unreadable, copies


def _lonely(samples: Sequence[Sample]) -> list[int]:
    cameras: dict[int, set[int]] = {}
    for sample in samples:
        cameras.setdefault(sample.pid, set()).add(sample.camid)
    return sorted(pid for pid, seen in cameras.items() if len(seen) == 1)
