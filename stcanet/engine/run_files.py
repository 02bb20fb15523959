"""The files of a run folder. No torch here: who evaluates a model package asks for them too."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from stcanet_runtime.errors import CheckpointError, DataError, OptionError
from stcanet_runtime.files import parse_json

CONFIG = "config.toml"
"""The settings."""
ENVIRONMENT = "environment.json"
"""Where the run was made."""
METRICS = "metrics.jsonl"
"""Figures of every epoch, a line each."""
LOG = "log.txt"
PART_MAPS = "part_maps.npz"
"""Part maps of the network before training, for the report."""
LAST = "last.pt"
"""The checkpoint of the last finished epoch."""
BEST = "best.pt"
"""The checkpoint with the best validation mAP; none where nothing was held back."""
STATE = "resume.pt"
"""What an interrupted run goes on from; it need not be there."""
STATE_FORMAT = "stcanet-run-state"
"""The `format` entry of that file."""
LOCK = ".run.lock"
"""Held by the process that trains."""
RESULTS = "results.json"
"""What an evaluation of the run's checkpoint gave."""
REPORT = "report.html"


def chosen_checkpoint(root: Path) -> Path | None:
    """The checkpoint of a run to use: the best, else the last, else None."""
    return next((path for path in (root / BEST, root / LAST) if path.is_file()), None)


def check_run(root: Path) -> None:
    """Raise OptionError where a folder is not that of a run."""
    if not (root / CONFIG).exists():
        raise OptionError("run folder", str(root), f"the folder of a run, with {CONFIG} in it")


def check_checkpoint_path(path: Path) -> None:
    """Raise CheckpointError where a run is named by its folder, or by the best checkpoint where it has only the last."""
    if (path / CONFIG).is_file() and (path / METRICS).is_file():
        chosen = chosen_checkpoint(path)
        raise CheckpointError(
            f"{path} is the folder of a run, " + (f"whose checkpoint is {chosen}" if chosen else "which has no checkpoint yet")
        )
    if path.name == BEST and not path.exists() and (last := path.with_name(LAST)).is_file():
        raise CheckpointError(f"there is no {path}, which a run has once it was validated; its checkpoint is {last}")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``, but for a last one that was cut off when a run was killed; none before there is a file.

    Raises:
        DataError: A line is not the figures of an epoch.
    """
    rows: list[dict[str, Any]] = []
    if not path.exists():
        return rows
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True), start=1):
        if not line.endswith("\n"):
            break
        try:
            row = parse_json(line)
        except ValueError:
            row = None
        numbers = isinstance(row, dict) and all(isinstance(value, (int, float)) for value in row.values())
        if not numbers or not isinstance(row.get("epoch"), int):
            raise DataError(f"{path} is damaged: line {number} is not the figures of an epoch; correct it or remove it")
        rows.append(row)
    return rows


def best_epoch(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of the epoch with the highest validation mAP; of the last one without validation; empty before any."""
    validated = [row for row in rows if "val_mAP" in row]
    if validated:
        return max(validated, key=itemgetter("val_mAP"))
    return rows[-1] if rows else {}
