"""What a search in a gallery finds: as lines, a picture and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from stcanet_runtime.cli.gallery_entries import cameras, tell_what_is_not_there
from stcanet_runtime.cli.text import print_json, printable
from stcanet_runtime.errors import DataError, ImageError
from stcanet_runtime.gallery import Decision, Gallery, Hit, Where
from stcanet_runtime.gallery.templates import Templates
from stcanet_runtime.inference.crop_embeddings import Crops
from stcanet_runtime.picking import pick_evenly
from stcanet_runtime.pictures.sheet import Match, SheetRow, ranked_sheet
from stcanet_runtime.preprocess import load_image
from stcanet_runtime.retrieval.rerank import Reranking
from stcanet_runtime.wording import counted

NO_CAMERAS = "the cameras of the queries are not known: --other-cameras needs names like 0001_c1s1_000004_00.jpg"
_SHEET_ROWS, _TABLE_QUERIES = 8, 10


@dataclass(frozen=True)
class Found:
    """Queries, what a gallery has near them, and who they are."""

    crops: Crops
    hits: list[list[Hit]]
    decisions: list[Decision] | None
    """None without a threshold. By the plain distance: a threshold says nothing of re-ranked ones."""
    reranking: Reranking | None = None
    """How the distances of the hits were made, where they are not plain."""


def find(
    gallery: Gallery,
    crops: Crops,
    top_k: int,
    threshold: float | None,
    where: Where,
    other_cameras: bool,
    templates: Templates,
    reranking: Reranking | None,
) -> Found:
    """Search, and decide where there is a threshold."""
    if other_cameras and crops.camids is None:
        raise DataError(NO_CAMERAS)
    own = cameras(crops, None) if other_cameras else None
    tell_what_is_not_there(gallery, where, own or ())
    hits = gallery.search(crops.embeddings, top_k, where, own, templates, reranking)
    limit = gallery.threshold if threshold is None else threshold
    decisions = None if limit is None else gallery.decide(crops.embeddings, limit, where, own, templates)
    return Found(crops, hits, decisions, reranking)


def to_dict(found: Found) -> dict[str, Any]:
    """As JSON values."""
    queries: list[dict[str, Any]] = [
        {
            "query": str(path),
            "hits": [{"rank": place, "distance": hit.distance, **asdict(hit.entry)} for place, hit in enumerate(hits, 1)],
        }
        for path, hits in zip(found.crops.paths, found.hits, strict=True)
    ]
    if found.decisions is not None:
        for query, decision in zip(queries, found.decisions, strict=True):
            query["identity"] = decision.identity
            query["nearest_distance"] = decision.nearest.distance if decision.nearest else None
    return {
        "threshold": found.decisions[0].threshold if found.decisions else None,
        "reranking": None if found.reranking is None else asdict(found.reranking),
        "queries": queries,
    }


def show(found: Found, as_json: bool) -> None:
    """Print the lists."""
    if as_json:
        print_json(to_dict(found))
        return
    if found.reranking is not None:
        typer.echo(f"distances are {found.reranking}" + ("; who it is goes by the plain one" if found.decisions else ""))
    for query, path in enumerate(found.crops.paths[:_TABLE_QUERIES]):
        typer.echo(printable(path.name + (f": {_who(found, query)}" if found.decisions else "")))
        for hit in found.hits[query]:
            details = " ".join(str(value) for value in (hit.entry.camera, hit.entry.track) if value is not None)
            typer.echo(printable(f"  {hit.distance:.4f}  {hit.identity}  {details}".rstrip()))
    if (rest := len(found.crops.paths) - _TABLE_QUERIES) > 0:
        typer.echo(f"… and {counted(rest, 'more query', 'more queries')} (--json prints all)")


def _who(found: Found, query: int) -> str:
    decision = None if found.decisions is None else found.decisions[query]
    if decision is None:
        return ""
    who = decision.identity or "unknown"
    return who if found.reranking is None or decision.nearest is None else f"{who} ({decision.nearest.distance:.4f})"


def draw(found: Found, out: Path) -> None:
    """The ranked lists as a picture, of queries evenly picked; entries whose crop is not there any more are left out.

    Raises:
        DataError: No crop of any query or entry can be read.
    """
    if not any(found.hits):
        raise DataError("there is nothing to draw: the gallery has no entry that these options allow")
    count = len(found.crops.paths)
    rows = [
        SheetRow(
            found.crops.paths[query],
            [match for hit in found.hits[query] if (match := _match(found, query, hit))],
            _who(found, query),
        )
        for query in pick_evenly(range(count), _SHEET_ROWS)
        if _readable(found.crops.paths[query])
    ]
    if not any(row.matches for row in rows):
        raise DataError("there is nothing to draw: the crops of queries or entries are not where they were when embedded")
    subtitle = counted(count, "query", "queries")
    if found.decisions:
        plain = "" if found.reranking is None else " (plain distance)"
        subtitle += f", who is within {found.decisions[0].threshold:.4f}{plain}"
    if found.reranking is not None:
        subtitle += f"; {found.reranking}"
    ranked_sheet(rows, out, "Found in the gallery", subtitle)


def _match(found: Found, query: int, hit: Hit) -> Match | None:
    path = Path(str(hit.entry.metadata.get("path", "")))
    if not _readable(path):
        return None
    pids = found.crops.pids
    correct = None if pids is None or not hit.identity.isdecimal() else int(pids[query]) == int(hit.identity)
    return Match(path, hit.distance, correct, " ".join(filter(None, (hit.identity, hit.entry.camera))))


def _readable(path: Path) -> bool:
    try:
        load_image(path)
    except (ImageError, OSError):
        return False
    return True
