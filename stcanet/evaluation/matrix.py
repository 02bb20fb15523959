"""Models × data sets: every model judged on every data set, whatever it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from stcanet.data.datasets import ReIDDataset, split_source
from stcanet.evaluation.embedded import embed_dataset
from stcanet.evaluation.models import RetrievalModel
from stcanet.evaluation.result import Result, judge
from stcanet.evaluation.settings import EvaluationSettings
from stcanet_runtime.errors import StcanetError
from stcanet_runtime.progress import Progress

P = ParamSpec("P")
T = TypeVar("T")
OpenModel = Callable[[Path], RetrievalModel]
OpenDataset = Callable[[str], ReIDDataset]


@dataclass(frozen=True, eq=False)
class Cell:
    """One model on one data set: figures, or why there are none."""

    model: str
    data: str
    result: Result | None = None
    error: str | None = None
    at_home: bool = False
    """Whether the model was trained on a data set of that name."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        facts = self.result.to_dict() if self.result else {"error": self.error}
        return {**facts, "model": self.model, "data": self.data, "trained_there": self.at_home}

    def texts(self) -> list[str]:
        """``mAP / rank-1`` in percent, and the re-ranked ones below where there are some."""
        if self.result is None:
            return ["failed"]
        evaluations = [self.result.plain, *([self.result.reranked] if self.result.reranked else [])]
        return [f"{100 * evaluation.mAP:.1f} / {100 * evaluation.rank(1):.1f}" for evaluation in evaluations]


@dataclass(frozen=True, eq=False)
class Matrix:
    """Models (rows) and data sets (columns)."""

    models: list[str]
    datasets: list[str]
    cells: list[Cell]
    """Row by row; fewer than there are places while the matrix is being filled."""

    def rows(self) -> Iterator[tuple[str, list[Cell]]]:
        """Each model with its cells."""
        width = len(self.datasets)
        for index, model in enumerate(self.models):
            yield model, self.cells[index * width : (index + 1) * width]

    @property
    def failed(self) -> list[Cell]:
        """The cells without figures."""
        return [cell for cell in self.cells if cell.result is None]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"models": self.models, "datasets": self.datasets, "cells": [cell.to_dict() for cell in self.cells]}


def fill_matrix(
    models: Sequence[Path],
    datasets: Sequence[str],
    open_model: OpenModel,
    open_dataset: OpenDataset,
    settings: EvaluationSettings,
    progress: Callable[[str], AbstractContextManager[Progress]],
    on_cell: Callable[[Matrix], None] | None = None,
) -> Matrix:
    """Judge every model on every data set. Each embeds each data set once; one model is open at a time.

    A model or data set that cannot be opened, or a cell that fails, leaves the other cells alone.

    Args:
        models: Checkpoints or model packages.
        datasets: What `open_dataset` takes.
        open_model: Opens a model.
        open_dataset: Reads a data set.
        settings: How to test; the same for all cells.
        progress: Makes the progress bar of a cell, from its title.
        on_cell: Given the matrix so far after each cell that is done or has failed, the last of its cells.
    """
    opened = [_attempt(open_dataset, source) for source in datasets]
    columns = _labels([_name(source, found) for source, found in zip(datasets, opened, strict=True)], datasets)
    rows = _labels([_short(path) for path in models], [str(path) for path in models])
    cells: list[Cell] = []
    for row, path in zip(rows, models, strict=True):
        model = _attempt(open_model, path)
        for column, dataset in zip(columns, opened, strict=True):
            cells.append(_cell(row, column, model, dataset, settings, progress))
            if on_cell:
                on_cell(Matrix(rows, columns, list(cells)))
    return Matrix(rows, columns, cells)


def _cell(
    row: str,
    column: str,
    model: RetrievalModel | _Failure,
    dataset: ReIDDataset | _Failure,
    settings: EvaluationSettings,
    progress: Callable[[str], AbstractContextManager[Progress]],
) -> Cell:
    for part in (model, dataset):
        if isinstance(part, _Failure):
            return Cell(row, column, error=part.reason)
    assert not isinstance(model, _Failure)
    assert not isinstance(dataset, _Failure)

    def run() -> Result:
        with progress(f"{row} on {column}") as bar:
            embedded = embed_dataset(model, dataset, settings, bar)
        return judge(model, embedded, settings, progress)

    result = _attempt(run)
    if isinstance(result, _Failure):
        return Cell(row, column, error=result.reason)
    return Cell(row, column, result, at_home=model.trained_on == dataset.name)


@dataclass(frozen=True)
class _Failure:
    reason: str


def _attempt(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | _Failure:
    try:
        return work(*args, **kwargs)
    except StcanetError as error:
        return _Failure(str(error))
    # Whatever it is (a GPU without memory, a disk that fails, a bug): hours of other cells are worth more than its traceback.
    except Exception as error:
        return _Failure(f"{type(error).__name__}: {error}")


def _name(source: str, found: ReIDDataset | _Failure) -> str:
    """``mars:torchreid`` of ``mars:torchreid=folder``; the data set's own name, or the folder's where it cannot be read."""
    label, path = split_source(source)
    return label or (path.name if isinstance(found, _Failure) else found.name)


def _short(path: Path) -> str:
    """``market/best.pt`` for a file, whose own name says little; the name of a folder."""
    path = path.resolve()
    return path.name if path.is_dir() else f"{path.parent.name}/{path.name}"


def _labels(names: Sequence[str], sources: Sequence[str]) -> list[str]:
    """The names; where two are the same, what was given for them."""
    return [source if names.count(name) > 1 else name for name, source in zip(names, sources, strict=True)]
