"""Writes a synthetic dataset in the Market-1501 layout: all of it, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from stcanet.data.masks.layout import save_indexed
from stcanet.data.synthetic.config import SynthConfig, SynthCounts
from stcanet.data.synthetic.scene import render
from stcanet.data.synthetic.shot import Shot, Split, count, list_shots
from stcanet_runtime.errors import DataError, OptionError
from stcanet_runtime.files import replacing_folder
from stcanet_runtime.progress import Progress

MARKER = "synthetic.json"
"""File in the root of a generated dataset: its configuration and counts. It marks the folder as ours to replace."""

MASK_FOLDER = "masks"
_PIECE = 64  # images per unit of work: large enough to hide the cost of handing it over


def generate(
    root: Path, config: SynthConfig, progress: Progress | None = None, workers: int = 1, force: bool = False
) -> SynthCounts:
    """Generate a dataset.

    The images are written to a temporary folder beside ``root``, which is renamed at the end: when this is interrupted,
    ``root`` is as it was before.

    Args:
        root: Folder to make. It may exist when it is empty.
        config: What to generate.
        progress: Told how far it is.
        workers: Number of processes. The pictures do not depend on it.
        force: Replace a dataset that was made here, and whatever came into its folders since.

    Returns:
        What the folder holds.

    Raises:
        DataError: ``root`` holds something that was not made here, or another dataset, or is a file, or cannot be written.
        OptionError: ``workers`` is less than 1.
    """
    if workers < 1:
        raise OptionError("workers", workers, "an integer of at least 1")
    root = root.expanduser().resolve()
    _check_replaceable(root, force)
    try:
        with replacing_folder(root) as folder:
            _write(folder, config, progress, workers)
            _check_replaceable(root, force)  # something may have come while we drew
    except OSError as error:
        raise DataError(f"cannot write the synthetic dataset {root}: {error.strerror or error}") from error
    return count(config)


def _write(folder: Path, config: SynthConfig, progress: Progress | None, workers: int) -> None:
    for split in Split:
        (folder / split).mkdir()
    if config.masks:
        (folder / MASK_FOLDER).mkdir()
    shots = list_shots(config)
    done = 0
    for number in _run(partial(_write_shots, folder, config), shots, workers):
        done += number
        if progress is not None:
            progress(done, len(shots))
    summary = {"config": config.to_dict(), "counts": count(config).to_dict()}
    (folder / MARKER).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def _run(write: Callable[[list[Shot]], int], shots: list[Shot], workers: int) -> Iterator[int]:
    pieces = [shots[start : start + _PIECE] for start in range(0, len(shots), _PIECE)]
    if workers == 1 or len(pieces) == 1:
        yield from map(write, pieces)
        return
    with ExitStack() as stack:
        # Not forked: a fork of a process that has threads (torch, a progress bar) can hang.
        pool = stack.enter_context(ProcessPoolExecutor(min(workers, len(pieces)), mp_context=get_context("spawn")))
        # Leaves first: after an error or Ctrl-C, do not draw the rest.
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        yield from pool.map(write, pieces)


def _write_shots(folder: Path, config: SynthConfig, shots: list[Shot]) -> int:
    for shot in shots:
        picture = render(config, shot, with_parts=config.masks)
        (folder / shot.split / f"{shot.stem}.jpg").write_bytes(picture.jpeg)
        if picture.parts is not None:
            save_indexed(picture.parts, folder / MASK_FOLDER / f"{shot.stem}.png")
    return len(shots)


def _check_replaceable(root: Path, force: bool) -> None:
    """Refuse a path that holds anything but, with `force`, an earlier dataset of ours."""
    if root.exists() and not root.is_dir():
        raise DataError(f"cannot make the dataset folder {root}: a file of that name is there")
    content = sorted(path.name for path in root.iterdir()) if root.exists() else []
    if not content:
        return
    ours = {MARKER, MASK_FOLDER, *(split.value for split in Split)}
    foreign = [name for name in content if name not in ours] if MARKER in content else content
    if foreign:
        raise DataError(
            f"the folder {root} is not empty and '{foreign[0]}' was not made by this generator; "
            "name a new folder, or empty this one first"
        )
    if not force:
        raise DataError(f"{root} holds a synthetic dataset already; replace it with --force, or name a new folder")
