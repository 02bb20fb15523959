"""What a run folder says about itself. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stcanet.config import TrainConfig, make_config
from stcanet.engine import run_files
from stcanet.evaluation.result import read_result
from stcanet_runtime.errors import DataError
from stcanet_runtime.files import parse_toml, read_json


@dataclass(frozen=True)
class RunRecord:
    """What the report reads from a run folder, apart from checkpoints and pictures."""

    root: Path
    config: TrainConfig
    """``config.toml``."""
    config_text: str
    metrics: list[dict[str, Any]]
    """Figures of each epoch, ascending; where an epoch was repeated after an interruption, its last ones."""
    environment: dict[str, Any]
    """``environment.json``; empty where it is gone."""
    results: dict[str, Any]
    """``results.json``; empty where the run was not evaluated."""
    log: str


def read_run(root: Path) -> RunRecord:
    """Read a run folder, finished or not.

    Raises:
        DataError: It is no run folder, or a file in it is damaged.
    """
    for name in (run_files.CONFIG, run_files.METRICS):
        if not (root / name).is_file():
            raise DataError(f"{root} is not a run folder of 'stcanet train': it has no {name}")
    log, results = root / run_files.LOG, root / run_files.RESULTS
    try:
        config_text = (root / run_files.CONFIG).read_text(encoding="utf-8")
        return RunRecord(
            root,
            _read_config(config_text),
            config_text,
            _read_metrics(root / run_files.METRICS),
            _read_json(root / run_files.ENVIRONMENT),
            read_result(results) if results.is_file() else {},
            log.read_text(encoding="utf-8") if log.is_file() else "",
        )
    except (ValueError, TypeError) as error:  # unicode errors are ValueErrors
        raise DataError(f"a file in the run folder {root} is damaged: {error}") from error


def _read_config(text: str) -> TrainConfig:
    try:
        return make_config(parse_toml(text))
    except ValueError as error:
        raise ValueError(f"{run_files.CONFIG}: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise TypeError(f"{path.name} holds no object")
    return content


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    rows = {row["epoch"]: row for row in run_files.read_metrics(path)}
    for name in ("seconds", "images_per_second"):
        if lacking := [epoch for epoch, row in rows.items() if name not in row]:
            raise ValueError(f"{path.name} has no {name} of epoch {lacking[0]}")
    return [rows[epoch] for epoch in sorted(rows)]
