"""Candidates for the same task on the same inputs: measured in turn, each call in a fresh process, then compared."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import agreement
import numpy as np
from isolated import Call, attempt
from market_like import MARKET_GALLERY, MARKET_QUERY, MarketLike, describe, save_rows, scaled_identities
from numpy.typing import NDArray

from stcanet.data.memory import available_memory
from stcanet_runtime import evaluate

Rows = dict[str, dict[str, Any]]

_GIB = 2**30


@dataclass(frozen=True)
class Candidate:
    """An implementation, and how to call it."""

    name: str
    function: str
    """``module:function``; see `isolated.Call`."""
    arguments: dict[str, Any]
    kind: str
    """``dense``, ``top`` or ``neighbours``: what comes out, and so what it is compared with."""
    threads: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    matrices: float = 0
    """Float32 matrices [N, N] that it holds at once."""
    limit: int | None = None
    """Largest N that it is asked to do."""

    def why_not(self, total: int) -> str | None:
        """Why it sits this size out; None when it does not."""
        if self.limit is not None and total > self.limit:
            return f"not run above N = {self.limit:,}"
        needed = self.matrices * 4 * total**2
        if needed > 0.9 * available_memory():
            return f"needs about {needed / _GIB:.0f} GiB"
        return None


@dataclass(frozen=True, eq=False)
class Setting:
    """One size: where the inputs are, and what they are."""

    data: MarketLike
    num_query: int
    inputs: dict[str, str]
    folder: Path

    @property
    def total(self) -> int:
        """N."""
        return len(self.data.pids)

    def load(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Query and gallery, mapped."""
        query, gallery = (np.load(self.inputs[side], mmap_mode="r") for side in ("query", "gallery"))
        return query, gallery

    def retrieval(self, distances: NDArray[np.float32]) -> dict[str, float]:
        """mAP and rank-1 of a matrix [Q, G]."""
        pids, camids = self.data.split(self.num_query)
        figures = evaluate(distances, *pids, *camids)
        return {"mAP": figures.mAP, "rank1": figures.rank(1)}


@contextmanager
def prepared(total: int, depth: int, seed: int, scratch: Path | None) -> Iterator[Setting]:
    """Inputs of `total` rows in the proportions of Market-1501, on disk while the block runs."""
    num_query = max(1, round(total * MARKET_QUERY / (MARKET_QUERY + MARKET_GALLERY)))
    data = describe(total, depth, seed, scaled_identities(total))
    with tempfile.TemporaryDirectory(dir=scratch, prefix="bench_rerank_") as name:
        inputs = {side: Path(name) / f"{side}.npy" for side in ("query", "gallery")}
        save_rows(inputs["query"], data, 0, num_query)
        save_rows(inputs["gallery"], data, num_query, total)
        yield Setting(data, num_query, {side: str(path) for side, path in inputs.items()}, Path(name))


def hold(candidates: list[Candidate], setting: Setting, repeats: int) -> Rows:
    """Medians of every candidate, by its name, with its distance from the first of its kind."""
    by_name = {candidate.name: candidate for candidate in candidates}
    rows = take_turns(list(by_name), repeats, lambda name, keep: _run(by_name[name], setting, keep=keep))
    _compare(candidates, setting, rows)
    return rows


def take_turns(names: list[str], repeats: int, measure: Callable[[str, bool], dict[str, Any]]) -> Rows:
    """Medians by name. All are measured in turn, so that a slow minute of the machine hits all of them.

    Args:
        names: In the order of their turns; one that failed has no further turn.
        repeats: Turns of each.
        measure: Called with a name, and whether its results are to be kept (those of the first turn); returns its figures.
    """
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for repeat in range(repeats):
        for name, done in runs.items():
            if any("error" in figures for figures in done):
                continue
            figures = measure(name, repeat == 0)
            print(f"  {name:44} {brief(figures)}", flush=True)
            done.append(figures)
    return {name: summary(figures) for name, figures in runs.items()}


def _run(candidate: Candidate, setting: Setting, *, keep: bool) -> dict[str, Any]:
    why_not = candidate.why_not(setting.total)
    if why_not is not None:
        return {"error": why_not}
    place = _results(candidate, setting)
    place.mkdir(exist_ok=True)
    function, arguments, inputs = candidate.function, candidate.arguments, setting.inputs
    save_to = str(place) if keep else None
    return attempt(Call(function, inputs, arguments, candidate.threads, candidate.environment, save_to=save_to))


def _results(candidate: Candidate, setting: Setting) -> Path:
    """Folder of the arrays of a candidate."""
    return setting.folder / "".join(letter if letter.isalnum() else "_" for letter in candidate.name)


def brief(figures: dict[str, Any]) -> str:
    """One line on a call."""
    if "error" in figures:
        return str(figures["error"])
    return f"{figures['wall_s']:9.3f} s, CPU {figures['cpu_s']:9.3f} s, peak {figures['peak_bytes'] / _GIB:6.2f} GiB"


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of times, largest peaks, and all wall times; or what went wrong."""
    failed = next((figures for figures in runs if "error" in figures), None)
    if failed is not None:
        return failed
    medians = {key: statistics.median(figures[key] for figures in runs) for key in runs[0] if key.endswith("_s")}
    peaks = {key: max(figures[key] for figures in runs) for key in runs[0] if key.endswith("_bytes")}
    return {**medians, **peaks, "wall_s_all": [figures["wall_s"] for figures in runs]}


def _compare(candidates: list[Candidate], setting: Setting, rows: Rows) -> None:
    """Put beside each how far it is from the first of its kind (top: from the first matrix), and what a matrix retrieves."""
    expected: dict[str, dict[str, NDArray[Any]]] = {}
    for candidate in candidates:
        row = rows[candidate.name]
        if "error" in row:
            continue
        result = {path.stem: np.load(path, mmap_mode="r") for path in _results(candidate, setting).glob("*.npy")}
        first = expected.setdefault(candidate.kind, result)
        if candidate.kind == "dense":
            row |= agreement.dense(result["distances"], first["distances"]) | setting.retrieval(result["distances"])
        elif candidate.kind == "top" and "dense" in expected:
            row |= agreement.top(result["distances"], result["indices"], expected["dense"]["distances"])
        elif candidate.kind == "neighbours":
            row |= agreement.neighbours(*setting.load(), result, first)
