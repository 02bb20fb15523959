"""Ranked lists: the best of a gallery for each query, with figures, as a table, a picture and JSON."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from stcanet_runtime.backends import get_backend
from stcanet_runtime.backends.neighbours import Progress
from stcanet_runtime.cli.text import printable, table_console
from stcanet_runtime.crop_embeddings import Crops, common_model
from stcanet_runtime.crops import parse_name
from stcanet_runtime.errors import DataError
from stcanet_runtime.evaluate import JUNK_PID, Evaluation, evaluate, evaluate_embeddings
from stcanet_runtime.picking import pick_evenly
from stcanet_runtime.ranking import SearchResult, best_of, search
from stcanet_runtime.rerank import Reranking, rerank
from stcanet_runtime.sheet import Match, SheetRow, ranked_sheet
from stcanet_runtime.wording import counted

_TABLE_QUERIES = 5
_Groups = tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]


@dataclass(frozen=True)
class RankedLists:
    """Queries, the gallery, and the best of it for each query."""

    queries: Crops
    gallery: Crops
    result: SearchResult
    evaluation: Evaluation | None
    evaluation_note: str | None
    """Why there is no evaluation although identities are known."""
    reranking: Reranking | None = None


def rank(
    queries: Crops,
    gallery: Crops,
    top_k: int,
    same_camera: bool,
    metric: str,
    reranking: Reranking | None = None,
    progress: Progress | None = None,
) -> RankedLists:
    """The best of the gallery for each query, and rank-1 and mAP where all identities are known.

    Junk (pid −1) is ranked as well: a list shows what the model finds. The evaluation and the re-ranking drop it.
    """
    common_model([queries, gallery])
    if reranking is not None and gallery.pids is not None:
        # It would be among the neighbours of others. An evaluation drops it before that, and the figures are those of one.
        gallery = gallery.select(gallery.pids != JUNK_PID)
        if not gallery.paths:
            raise DataError("all of the gallery is junk (-1) by its names, so there is nothing to re-rank")
    groups = _hidden_groups(queries, gallery, same_camera)
    q, g = queries.embeddings, gallery.embeddings
    known = queries.pids is not None and gallery.pids is not None
    if reranking is None:
        result = search(q, g, top_k, metric, *groups)
        figures = partial(evaluate_embeddings, q, g, metric=metric)
        evaluation, note = _evaluate(queries, gallery, figures, groups) if known else (None, _unnamed(queries, gallery))
        return RankedLists(queries, gallery, result, evaluation, note)
    k1, k2, weight = reranking.k1, reranking.k2, reranking.lambda_value
    if not known:
        q_groups, g_groups = groups
        result = rerank(q, g, k1, k2, weight, top=top_k, metric=metric, progress=progress, q_camids=q_groups, g_camids=g_groups)
        return RankedLists(queries, gallery, result, None, _unnamed(queries, gallery), reranking)
    # The figures need the whole matrix, so the lists are taken from it, too.
    distances = rerank(q, g, k1, k2, weight, metric=metric, progress=progress)
    figures = partial(evaluate, distances, metric=f"{metric}, {reranking}")
    evaluation, note = _evaluate(queries, gallery, figures, groups)
    result = best_of(distances, min(top_k, len(g)), *groups, get_backend())
    return RankedLists(queries, gallery, result, evaluation, note, reranking)


def _evaluate(
    queries: Crops, gallery: Crops, figures: Callable[..., Evaluation], groups: _Groups
) -> tuple[Evaluation | None, str | None]:
    """The figures, or why there are none although the identities are known."""
    assert queries.pids is not None
    assert gallery.pids is not None
    cameras = _cameras(queries, gallery)
    if cameras[0] is None and groups[0] is not None:
        return None, "some images are queries and in the gallery, and would find themselves; the camera of each is not known"
    try:
        return figures(q_pids=queries.pids, g_pids=gallery.pids, q_camids=cameras[0], g_camids=cameras[1]), None
    except DataError as error:
        return None, str(error)


def _unnamed(*sides: Crops) -> str | None:
    """Who of many is not known, so that there are no figures; None where nobody is known."""
    for side in sides:
        named = [parse_name(path) is not None for path in side.paths]
        if side.pids is None and any(named) and not all(named):
            return f"{side.paths[named.index(False)].name} does not say who it is, as 0001_c1s1_000004_00.jpg would"
    return None


def _cameras(queries: Crops, gallery: Crops) -> _Groups:
    """The cameras, if those of both sides are known."""
    return (None, None) if queries.camids is None or gallery.camids is None else (queries.camids, gallery.camids)


def _hidden_groups(queries: Crops, gallery: Crops, same_camera: bool) -> _Groups:
    """Groups for `search`, which hides from a query the gallery images of its own group.

    They are the cameras; or, where those are unknown or shall be seen, the files, so that an image that is in both places
    does not find itself.
    """
    cameras = _cameras(queries, gallery)
    if cameras[0] is not None and not same_camera:
        return cameras
    # realpath and not resolve, which gives up where links lead in a circle.
    q_files, g_files = ([os.path.realpath(path) for path in crops.paths] for crops in (queries, gallery))
    if not set(q_files) & set(g_files):
        return None, None
    number = {path: index for index, path in enumerate(sorted({*q_files, *g_files}))}
    return np.array([number[path] for path in q_files], np.int64), np.array([number[path] for path in g_files], np.int64)


def _matches(found: RankedLists, query: int) -> list[tuple[int, float, bool | None]]:
    """Gallery index, distance and correctness of the matches of one query."""
    matches = []
    for index, distance in zip(found.result.indices[query].tolist(), found.result.distances[query].tolist(), strict=True):
        if index >= 0:  # −1: the camera rule left fewer than k
            matches.append((index, distance, _correct(found, query, index)))
    return matches


def _correct(found: RankedLists, query: int, index: int) -> bool | None:
    if found.queries.pids is None or found.gallery.pids is None or found.gallery.pids[index] == JUNK_PID:
        return None
    return bool(found.queries.pids[query] == found.gallery.pids[index])


def _label(crops: Crops, index: int) -> str:
    if crops.pids is None or crops.camids is None:
        return crops.paths[index].stem
    return f"id {crops.pids[index]} · c{crops.camids[index] + 1}"


def draw(found: RankedLists, out: Path, rows: int, metric: str, model: str | None = None) -> None:
    """Write the ranked-list picture, of queries that are evenly picked so that several people are on it."""
    sheet = [
        SheetRow(
            found.queries.paths[query],
            [
                Match(found.gallery.paths[index], distance, correct, _label(found.gallery, index))
                for index, distance, correct in _matches(found, query)
            ],
            _label(found.queries, query),
        )
        for query in pick_evenly(range(len(found.queries.paths)), rows)
    ]
    facts = f"{metric} distance", found.reranking, model
    ranked_sheet(sheet, out, "Ranked matches", " · ".join(str(fact) for fact in facts if fact is not None))


def to_dict(found: RankedLists) -> dict[str, Any]:
    """Ranking and evaluation as JSON values."""
    return {
        "gallery": len(found.gallery.paths),
        "reranking": asdict(found.reranking) if found.reranking else None,
        "ranking": [
            {
                "query": str(path),
                "matches": [
                    {"rank": place, "path": str(found.gallery.paths[index]), "distance": distance, "correct": correct}
                    for place, (index, distance, correct) in enumerate(_matches(found, query), 1)
                ],
            }
            for query, path in enumerate(found.queries.paths)
        ],
        "evaluation": found.evaluation.to_dict() if found.evaluation else None,
        "evaluation_note": found.evaluation_note,
    }


def show(found: RankedLists) -> None:
    """Print the table of matches, and the figures where there are some."""
    _show_table(found)
    if found.evaluation:
        how = f", {found.reranking}" if found.reranking else ""
        typer.echo(f"Market protocol{how}: {found.evaluation.summary()}")
    if found.evaluation_note:
        typer.echo(printable(f"no evaluation: {found.evaluation_note}"))


def _show_table(found: RankedLists) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    console = table_console()
    query, match = Column("query", overflow="fold"), Column("match", overflow="fold")
    table = Table(query, "#", "distance", match, "", box=None, header_style="bold", pad_edge=False)
    for number, path in enumerate(found.queries.paths[:_TABLE_QUERIES]):
        name = printable(path.name)
        for place, (index, distance, correct) in enumerate(_matches(found, number), 1):
            sign = {True: Text("✓", "green"), False: Text("✗", "red"), None: Text("")}[correct]
            shown = Text(printable(found.gallery.paths[index].name))
            table.add_row(Text(name), str(place), f"{distance:.4f}", shown, sign, end_section=False)
            name = ""
        if name:
            table.add_row(Text(name), "–", "", Text("nothing left: the gallery is all of its own camera"), "")
    console.print(table)
    if (rest := len(found.queries.paths) - _TABLE_QUERIES) > 0:
        typer.echo(f"… and {counted(rest, 'more query', 'more queries')} (--json prints all)")
