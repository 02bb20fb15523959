"""Ranked lists: the best of a gallery for each query, with figures, as a table, a picture and JSON."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from stcanet_runtime.backends import get_backend
from stcanet_runtime.cli.text import printable, table_console
from stcanet_runtime.errors import DataError
from stcanet_runtime.images.crops import parse_name
from stcanet_runtime.inference.crop_embeddings import Crops, common_model
from stcanet_runtime.picking import pick_evenly
from stcanet_runtime.pictures.sheet import Match, SheetRow, ranked_sheet
from stcanet_runtime.progress import Progress
from stcanet_runtime.retrieval.evaluate import JUNK_PID, Evaluation, evaluate, evaluate_embeddings
from stcanet_runtime.retrieval.ranking import SearchResult, best_of, search
from stcanet_runtime.retrieval.rerank import Reranking, rerank
from stcanet_runtime.wording import counted

_TABLE_QUERIES = 5
_PERSON, _CAMERA, _FILE = "same identity on the same camera", "same camera", "same file"
_Groups = tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]


@dataclass(frozen=True)
class RankedLists:
    """Queries, the gallery, and the best of it for each query."""

    queries: Crops
    gallery: Crops
    result: SearchResult
    hidden: str | None
    """What of the gallery a query does not find: its ``same …``; None where it finds all."""
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

    What the camera rule hides is hidden in both, so that a list is what the figures are of. But for junk (pid −1): a list shows
    what the model finds, and the evaluation and the re-ranking drop it.

    `progress` is told of the re-ranking or, without one, of the figures; the search alone tells nothing.
    """
    common_model([queries, gallery])
    if reranking is not None and gallery.pids is not None:
        # It would be among the neighbours of others. An evaluation drops it before that, and the figures are those of one.
        gallery = gallery.select(gallery.pids != JUNK_PID)
        if not gallery.paths:
            raise DataError("all of the gallery is junk (-1) by its names, so there is nothing to re-rank")
    hidden, groups = _hidden_groups(queries, gallery, same_camera)
    q, g = queries.embeddings, gallery.embeddings
    known = queries.pids is not None and gallery.pids is not None
    if reranking is None:
        result = search(q, g, top_k, metric, *groups)
        figures = partial(evaluate_embeddings, q, g, metric=metric, progress=progress)
        evaluation, note = _evaluate(queries, gallery, figures, hidden) if known else (None, _unnamed(queries, gallery))
        return RankedLists(queries, gallery, result, hidden, evaluation, note)
    k1, k2, weight = reranking.k1, reranking.k2, reranking.lambda_value
    if not known:
        q_groups, g_groups = groups
        result = rerank(q, g, k1, k2, weight, top=top_k, metric=metric, progress=progress, q_camids=q_groups, g_camids=g_groups)
        return RankedLists(queries, gallery, result, hidden, None, _unnamed(queries, gallery), reranking)
    # The figures need the whole matrix, so the lists are taken from it, too.
    distances = rerank(q, g, k1, k2, weight, metric=metric, progress=progress)
    figures = partial(evaluate, distances, metric=f"{metric}, {reranking}")
    evaluation, note = _evaluate(queries, gallery, figures, hidden)
    result = best_of(distances, min(top_k, len(g)), *groups, get_backend())
    return RankedLists(queries, gallery, result, hidden, evaluation, note, reranking)


def _evaluate(
    queries: Crops, gallery: Crops, figures: Callable[..., Evaluation], hidden: str | None
) -> tuple[Evaluation | None, str | None]:
    """The figures, or why there are none although the identities are known."""
    assert queries.pids is not None
    assert gallery.pids is not None
    if hidden == _FILE:
        return None, "some images are queries and in the gallery, and without the cameras of all would find themselves"
    cameras = _cameras(queries, gallery) if hidden == _PERSON else (None, None)
    try:
        return figures(q_pids=queries.pids, g_pids=gallery.pids, q_camids=cameras[0], g_camids=cameras[1]), None
    except DataError as error:
        return None, f"{error}: with --same-camera" if hidden == _PERSON else str(error)


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


def _hidden_groups(queries: Crops, gallery: Crops, same_camera: bool) -> tuple[str | None, _Groups]:
    """What is hidden from a query, and groups for `search`, which hides the gallery images of its own group.

    They are the people by camera, as the Market protocol has it; the cameras, where it is not known who they are; or, where
    cameras are unknown or shall be seen, the files, so that an image that is in both places does not find itself.
    """
    cameras = _cameras(queries, gallery)
    if cameras[0] is not None and not same_camera:
        people, others = _people(queries), _people(gallery)
        return (_CAMERA, cameras) if people is None or others is None else (_PERSON, _numbered(people, others))
    # realpath and not resolve, which gives up where links lead in a circle.
    q_files, g_files = ([os.path.realpath(path) for path in crops.paths] for crops in (queries, gallery))
    return (_FILE, _numbered(q_files, g_files)) if set(q_files) & set(g_files) else (None, (None, None))


def _people(crops: Crops) -> list[tuple[int, int]] | None:
    """Who is on each, and by which camera, if that is known."""
    if crops.pids is None or crops.camids is None:
        return None
    return list(zip(crops.pids.tolist(), crops.camids.tolist(), strict=True))


def _numbered(query: Sequence[Hashable], gallery: Sequence[Hashable]) -> _Groups:
    """A number for each, the same for what is equal."""
    number: dict[Hashable, int] = {}
    q_groups, g_groups = (
        np.array([number.setdefault(key, len(number)) for key in keys], np.int64) for keys in (query, gallery)
    )
    return q_groups, g_groups


def _matches(found: RankedLists, query: int) -> list[tuple[int, float, bool | None]]:
    """Gallery index, distance and correctness of the matches of one query."""
    matches = []
    for index, distance in zip(found.result.indices[query].tolist(), found.result.distances[query].tolist(), strict=True):
        if index >= 0:  # −1: fewer than k are left
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
    """Write the ranked-list picture, of queries that are evenly picked so that several people are on it.

    Raises:
        DataError: Somebody on it is a folder of frames.
        ImageError: An image cannot be read.
    """
    if folder := next((path for path in (*found.queries.paths, *found.gallery.paths) if path.is_dir()), None):
        raise DataError(f"{folder} is a folder of frames, and a sheet shows image files")
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
    # Re-ranked distances are those of neighbourhoods, only in part those of the metric.
    facts = found.reranking or f"{metric} distance", model
    ranked_sheet(sheet, out, "Ranked matches", " · ".join(str(fact) for fact in facts if fact is not None))


def to_dict(found: RankedLists) -> dict[str, Any]:
    """Ranking and evaluation as JSON values."""
    return {
        "gallery": len(found.gallery.paths),
        "hidden": found.hidden,
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
        rule = "Market protocol" if found.hidden else "No camera rule"
        typer.echo(f"{rule}{how}: {found.evaluation.summary()}")
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
            table.add_row(Text(name), "–", "", Text(f"nothing left: the gallery is all of the {found.hidden}"), "")
    console.print(table)
    if (rest := len(found.queries.paths) - _TABLE_QUERIES) > 0:
        typer.echo(f"… and {counted(rest, 'more query', 'more queries')} (--json prints all)")
