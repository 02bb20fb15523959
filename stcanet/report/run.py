"""What a run folder says about itself. No torch here."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stcanet.engine import run_files
from stcanet_runtime.errors import DataError


@dataclass(frozen=True)
class RunRecord:
    """What the report reads from a run folder, apart from checkpoints and pictures."""

    root: Path
    config: dict[str, Any]
    """``config.toml``: the settings, as :func:`~stcanet.config.make_config` takes them."""
    config_text: str
    metrics: list[dict[str, Any]]
    """Figures of each epoch, ascending; where an epoch was repeated after an interruption, its last ones."""
    environment: dict[str, Any]
    """``environment.json``; empty for a run of an older version."""
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
    log = root / run_files.LOG
    try:
        config_text = (root / run_files.CONFIG).read_text(encoding="utf-8")
        return RunRecord(
            root,
            _read_config(config_text),
            config_text,
            _read_metrics(root / run_files.METRICS),
            _read_json(root / run_files.ENVIRONMENT),
            _read_results(root / run_files.RESULTS),
            log.read_text(encoding="utf-8") if log.is_file() else "",
        )
    except (ValueError, TypeError, KeyError) as error:  # tomllib, json and unicode errors are ValueErrors
        raise DataError(f"a file in the run folder {root} is damaged: {error}") from error


def _read_config(text: str) -> dict[str, Any]:
    config = tomllib.loads(text)
    if not isinstance(config.get("data"), str):
        raise TypeError(f"{run_files.CONFIG} does not say on which data the run was trained")
    return config


def _read_results(path: Path) -> dict[str, Any]:
    results = _read_json(path)
    for found in (results, results.get("reranked", {})):
        cmc = found.get("cmc", []) if isinstance(found, dict) else None
        figures = [*cmc, *(found[key] for key in ("mAP", "mINP") if key in found)] if isinstance(cmc, list) else [None]
        if not all(isinstance(value, (int, float)) for value in figures):
            raise TypeError(f"{path.name} has figures that are no numbers")
    return results


def _read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not isinstance(content, dict):
        raise TypeError(f"{path.name} holds no object")
    return content


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    rows = {row["epoch"]: row for row in run_files.read_metrics(path)}
    return [rows[epoch] for epoch in sorted(rows)]
