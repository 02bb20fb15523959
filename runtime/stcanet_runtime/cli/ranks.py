"""What `infer` and `rank` do between their options and their output: embed, load, rank, measure, save, draw, print."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends import get_backend
from stcanet_runtime.cli.progress import progress_bar
from stcanet_runtime.cli.text import printable, table_console
from stcanet_runtime.crops import list_images, parse_name
from stcanet_runtime.embeddings import as_embeddings
from stcanet_runtime.encoder import Encoder
from stcanet_runtime.errors import DataError, ImageError, OptionError, StcanetError
from stcanet_runtime.evaluate import JUNK_PID, Evaluation, evaluate, evaluate_embeddings
from stcanet_runtime.files import atomic_path, check_writable
from stcanet_runtime.npz import read_npz
from stcanet_runtime.picking import pick_evenly
from stcanet_runtime.ranking import SearchResult, best_of, search
from stcanet_runtime.rerank import Reranking, rerank
from stcanet_runtime.sheet import Match, SheetRow, ranked_sheet
from stcanet_runtime.wording import counted

_TABLE_QUERIES = 5
_Groups = tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]
_OTHER_MODELS = "the embeddings are of different models; embed all of them with one"


@dataclass(frozen=True)
class Crops:
    """A folder of crops with their embeddings."""

    paths: list[Path]
    embeddings: NDArray[np.float32]
    """``[N, D]``"""
    pids: NDArray[np.int64] | None
    """``[N]``, None unless every name tells."""
    camids: NDArray[np.int64] | None
    """``[N]``, None unless every name tells."""
    skipped: list[dict[str, str]]
    """Path and reason of what could not be read."""
    model: str | None = None
    """SHA-256 of the model; None where a file does not tell."""

    def select(self, chosen: NDArray[np.bool_]) -> Crops:
        """Those that are chosen ``[N]``."""
        paths = [path for path, kept in zip(self.paths, chosen.tolist(), strict=True) if kept]
        pids, camids = (None if ids is None else ids[chosen] for ids in (self.pids, self.camids))
        return Crops(paths, self.embeddings[chosen], pids, camids, self.skipped, self.model)

    def people(self) -> Crops:
        """Those of somebody, as far as it is known who they are of: no junk (−1), no distractors (0)."""
        return self if self.pids is None else self.select(self.pids > 0)


@dataclass(frozen=True)
class Ranks:
    """Queries, the gallery, and the best of it for each query."""

    queries: Crops
    gallery: Crops
    result: SearchResult
    evaluation: Evaluation | None
    evaluation_note: str | None
    """Why there is no evaluation although identities are known."""
    reranking: Reranking | None = None


def embed(encoder: Encoder, source: Path, batch_size: int, skip_bad: bool) -> Crops:
    """Embed a file or folder, with a progress bar on stderr where that is a terminal."""
    paths = list_images(source)
    bad: dict[int, ImageError] = {}
    with progress_bar(f"embedding {source.name or source}") as progress:
        embeddings = encoder.encode(
            paths,
            batch_size=batch_size,
            progress=progress,
            on_error=bad.__setitem__ if skip_bad else None,
        )
    if len(bad) == len(paths):
        raise DataError(f"{source}: none of {counted(len(paths), 'image', 'images')} can be read; the first: {bad[0]}")
    good = [path for index, path in enumerate(paths) if index not in bad]
    pids, camids = _identities(good)
    return Crops(
        good,
        embeddings,
        pids,
        camids,
        [{"path": str(e.source), "reason": e.reason} for e in bad.values()],
        encoder.model_sha256,
    )


def join(parts: Sequence[Crops]) -> Crops:
    """All of these, in order; identities and cameras are known where every part knows them.

    Raises:
        DataError: They are of different models or dimensions.
    """
    model = _common_model(parts)
    if len({part.embeddings.shape[1] for part in parts}) > 1:
        raise DataError(_OTHER_MODELS)

    def joined(columns: Sequence[NDArray[np.int64] | None]) -> NDArray[np.int64] | None:
        known = [column for column in columns if column is not None]
        return np.concatenate(known) if len(known) == len(columns) else None

    return Crops(
        [path for part in parts for path in part.paths],
        np.concatenate([part.embeddings for part in parts]),
        joined([part.pids for part in parts]),
        joined([part.camids for part in parts]),
        [item for part in parts for item in part.skipped],
        model,
    )


def _common_model(parts: Sequence[Crops]) -> str | None:
    """The model of all of them, as far as it is known."""
    models = {part.model for part in parts if part.model is not None}
    if len(models) > 1:
        raise DataError(_OTHER_MODELS)
    return models.pop() if models else None


def _identities(paths: Sequence[Path]) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    names = [name for path in paths if (name := parse_name(path)) is not None]
    if len(names) < len(paths):
        return None, None
    pids, camids = np.array(names, np.int64).T.copy()
    return pids, camids


def check_output(path: Path) -> None:
    """Raise now what `save` would after the work, and what would leave a file under an untrue name.

    Raises:
        OptionError: The name does not end with .npz.
        OSError: Nothing can be written there.
    """
    if path.suffix.lower() != ".npz":
        raise OptionError("the file of embeddings", str(path), "a name that ends with .npz")
    check_writable(path)


def save(crops: Crops, output: Path, more: Mapping[str, Any] | None = None) -> None:
    """Write `embeddings`, `paths`, where the names tell `pids` and `camids`, and `more`; plain arrays, nothing pickled."""
    paths = np.array([str(path) for path in crops.paths])
    arrays: dict[str, Any] = {"embeddings": crops.embeddings, "paths": paths, **(more or {})}
    if crops.pids is not None and crops.camids is not None:
        arrays |= {"pids": crops.pids, "camids": crops.camids}
    if crops.model is not None:
        arrays["model"] = np.array(crops.model)
    with atomic_path(output) as temporary, temporary.open("wb") as file:  # a file: np.savez adds .npz to other names
        np.savez(file, **arrays)


def load(path: Path) -> Crops:
    """Read what `save` wrote.

    Raises:
        DataError: It is no such file.
    """
    expected = "as `stcanet infer -o` writes them"
    try:
        arrays = read_npz(path, ("embeddings", "paths", "pids", "camids", "model"))
        if missing := [name for name in ("embeddings", "paths") if name not in arrays]:
            raise DataError(f"{path} lacks {' and '.join(missing)}; expected embeddings and paths, {expected}")
        embeddings, paths = as_embeddings(arrays["embeddings"], f"{path}: embeddings"), arrays["paths"]
        if paths.dtype.kind != "U" or any("\0" in name for name in paths.ravel().tolist()):
            raise DataError(f"{path}: paths must be text, the name of a file each")
        # Safe casting: a NaN among them would become a number.
        ids = [arrays[name].astype(np.int64, casting="safe") if name in arrays else None for name in ("pids", "camids")]
        model = str(arrays["model"]) if "model" in arrays else None
    except StcanetError:
        raise
    except (ValueError, TypeError) as error:  # TypeError: ids that are no whole numbers
        raise DataError(f"{path} is not a .npz file of embeddings, {expected}: {error}") from None
    if any(array is not None and array.shape != (len(embeddings),) for array in (paths, *ids)):
        raise DataError(f"{path}: embeddings, paths, pids and camids must have the same length")
    if not len(embeddings):
        raise DataError(f"{path} holds no embeddings")
    return Crops([Path(name) for name in paths.tolist()], embeddings, ids[0], ids[1], [], model)


def rank(
    queries: Crops,
    gallery: Crops,
    top_k: int,
    same_camera: bool,
    metric: str,
    reranking: Reranking | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Ranks:
    """The best of the gallery for each query, and rank-1 and mAP where all identities are known.

    Junk (pid −1) is ranked as well: a list shows what the model finds. The evaluation and the re-ranking drop it.
    """
    _common_model([queries, gallery])
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
        return Ranks(queries, gallery, result, evaluation, note)
    k1, k2, weight = reranking.k1, reranking.k2, reranking.lambda_value
    if not known:
        q_groups, g_groups = groups
        result = rerank(q, g, k1, k2, weight, top=top_k, metric=metric, progress=progress, q_camids=q_groups, g_camids=g_groups)
        return Ranks(queries, gallery, result, None, _unnamed(queries, gallery), reranking)
    # The figures need the whole matrix, so the lists are taken from it, too.
    distances = rerank(q, g, k1, k2, weight, metric=metric, progress=progress)
    figures = partial(evaluate, distances, metric=f"{metric}, {reranking}")
    evaluation, note = _evaluate(queries, gallery, figures, groups)
    result = best_of(distances, min(top_k, len(g)), *groups, get_backend())
    return Ranks(queries, gallery, result, evaluation, note, reranking)


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


def _matches(found: Ranks, query: int) -> list[tuple[int, float, bool | None]]:
    """Gallery index, distance and correctness of the matches of one query."""
    matches = []
    for index, distance in zip(found.result.indices[query].tolist(), found.result.distances[query].tolist(), strict=True):
        if index >= 0:  # −1: the camera rule left fewer than k
            matches.append((index, distance, _correct(found, query, index)))
    return matches


def _correct(found: Ranks, query: int, index: int) -> bool | None:
    if found.queries.pids is None or found.gallery.pids is None or found.gallery.pids[index] == JUNK_PID:
        return None
    return bool(found.queries.pids[query] == found.gallery.pids[index])


def _label(crops: Crops, index: int) -> str:
    if crops.pids is None or crops.camids is None:
        return crops.paths[index].stem
    return f"id {crops.pids[index]} · c{crops.camids[index] + 1}"


def draw(found: Ranks, out: Path, rows: int, subtitle: str) -> None:
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
    ranked_sheet(sheet, out, "Ranked matches", subtitle)


def to_dict(found: Ranks) -> dict[str, Any]:
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


def show(facts: Mapping[str, Any], found: Ranks | None, what: tuple[str, str]) -> None:
    """Print for people: the ranking as a table, then what was done to one or many of `what`."""
    from rich.console import Console

    console = Console(highlight=False)

    def say(text: str) -> None:
        console.print(printable(text), markup=False, soft_wrap=True)

    if found:
        show_ranking(found)
    for item in facts["skipped"]:
        say(f"skipped {item['path']}: {item['reason']}")
    say(f"{counted(facts['images'], *what)} → {facts['dim']} dimensions with {facts['model']} on {facts['provider']}")
    for name in ("out", "sheet"):
        if facts[name]:
            say(f"wrote {facts[name]}")


def show_ranking(found: Ranks) -> None:
    """Print the table of matches, and the figures where there are some."""
    from rich.console import Console

    _show_table(found)
    console = Console(highlight=False)
    if found.evaluation:
        how = f", {found.reranking}" if found.reranking else ""
        console.print(f"Market protocol{how}: {found.evaluation.summary()}", markup=False, soft_wrap=True)
    if found.evaluation_note:
        console.print(f"no evaluation: {found.evaluation_note}", markup=False, soft_wrap=True)


def _show_table(found: Ranks) -> None:
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
        console.print(f"… and {counted(rest, 'more query', 'more queries')} (--json prints all)", soft_wrap=True)
