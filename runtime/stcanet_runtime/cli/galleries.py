"""What the `gallery` commands do between their options and their output."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import typer

from stcanet_runtime.cli.ranks import Crops
from stcanet_runtime.cli.sources import check_gallery, load_sources
from stcanet_runtime.cli.text import print_json, printable
from stcanet_runtime.errors import DataError, ImageError, quote_choices
from stcanet_runtime.files import atomic_path
from stcanet_runtime.gallery import Decision, Gallery, Hit, Where
from stcanet_runtime.gallery.templates import Templates, check_templates
from stcanet_runtime.picking import pick_evenly
from stcanet_runtime.preprocess import load_image
from stcanet_runtime.rerank import Reranking
from stcanet_runtime.sheet import Match, SheetRow, ranked_sheet
from stcanet_runtime.wording import counted

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SHEET_ROWS, _TABLE_QUERIES = 8, 10


@dataclass(frozen=True)
class Found:
    """Queries, what a gallery has near them, and who they are."""

    crops: Crops
    hits: list[list[Hit]]
    decisions: list[Decision] | None
    """None without a threshold."""


def load(path: Path, sources: Sequence[Path], package: Path | None, skip_bad: bool = False) -> Crops:
    """Embeddings for a gallery. That there is none, or one of another model, is said before they are made, not after."""
    check_gallery(path, sources, package, read_only=True)
    return load_sources(sources, package, skip_bad=skip_bad)


def identities(crops: Crops, identity: str | None, by_folder: bool) -> list[str]:
    """A name for each crop: the one for all, that of its folder, or the number in its file name."""
    if identity is not None:
        return [identity] * len(crops.paths)
    if by_folder:
        return [path.resolve().parent.name for path in crops.paths]
    if crops.pids is None:
        raise DataError("who they are is not known: give --identity or --by-folder, or name files like 0001_c1s1_000004_00.jpg")
    return [str(pid) for pid in crops.pids.tolist()]


def people(crops: Crops) -> Crops:
    """Crops of somebody; an error where there are none."""
    found = crops.people()
    if found.paths:
        return found
    raise DataError("all crops are junk (-1) or distractors (0) by their names; to add them, give --identity or --by-folder")


def cameras(crops: Crops, camera: str | None) -> list[str | None]:
    """A camera for each crop: the one for all, or the one in its file name."""
    if camera is not None or crops.camids is None:
        return [camera] * len(crops.paths)
    return [f"c{camid + 1}" for camid in crops.camids.tolist()]


def parse_time(text: str | None) -> float | None:
    """Seconds since 1970 from a date (of this machine's time zone where it names none) or a number."""
    if text is None:
        return None
    try:
        return float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no time; write 2026-11-25T13:00, or seconds") from None


def age_limit(age: str) -> float:
    """The time so long ago."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", age)
    if match is None:
        raise typer.BadParameter(f"'{age}' is no age; write 30d, 12h, 90m or 45s")
    return time.time() - float(match[1]) * _SECONDS[match[2]]


def parse_pairs(pairs: Sequence[str] | None) -> dict[str, Any]:
    """``zone=3`` and ``shop=north`` as metadata: what reads as JSON is that, the rest is text."""
    values: dict[str, Any] = {}
    for pair in pairs or []:
        key, sign, text = pair.partition("=")
        if not sign or not key:
            raise typer.BadParameter(f"'{pair}' must be KEY=VALUE")
        try:
            values[key] = json.loads(text)
        except ValueError:
            values[key] = text
    return values


def parse_templates(text: str) -> Templates:
    """What stands for an identity, from ``all``, ``mean`` or ``3``; raises as `check_templates`."""
    return check_templates(int(text) if text.isdecimal() else text)


def where(
    identity: Sequence[str] | None,
    camera: Sequence[str] | None,
    after: str | None,
    before: str | None,
    meta: Sequence[str] | None,
) -> Where:
    """The filter of these options."""
    return Where(
        tuple(identity) if identity else None,
        tuple(camera) if camera else None,
        parse_time(after),
        parse_time(before),
        parse_pairs(meta) or None,
    )


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
        raise DataError("the cameras of the queries are not known: --other-cameras needs names like 0001_c1s1_000004_00.jpg")
    _tell_what_is_not_there(gallery, where)
    own = cameras(crops, None) if other_cameras else None
    hits = gallery.search(crops.embeddings, top_k, where, own, templates, reranking)
    limit = gallery.threshold if threshold is None else threshold
    return Found(crops, hits, None if limit is None else gallery.decide(crops.embeddings, limit, where, own, templates))


def _tell_what_is_not_there(gallery: Gallery, where: Where) -> None:
    """A camera or identity without an entry may be a slip, or one that has seen, or was seen by, nobody yet."""
    known = gallery.stats()["cameras"] if where.cameras else []
    for camera in where.cameras or ():
        if camera not in known:
            there = f"; there are {quote_choices(known)}" if known else ""
            typer.echo(printable(f"note: the gallery has no entry of camera '{camera}'{there}"), err=True)
    for identity in where.identities or ():
        if not len(gallery.rows(Where(identities=(identity,)))[0].ids):
            typer.echo(printable(f"note: the gallery has no identity '{identity}'"), err=True)


def export(gallery: Gallery, output: Path, where: Where) -> int:
    """Write plain arrays; how many entries."""
    _tell_what_is_not_there(gallery, where)
    rows, entries = gallery.rows(where)
    with atomic_path(output) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            embeddings=rows.embeddings,
            ids=rows.ids,
            identities=np.array([entry.identity for entry in entries], str),
            cameras=np.array([entry.camera or "" for entry in entries], str),
            times=np.array([entry.time for entry in entries], np.float64),
            tracks=np.array([entry.track or "" for entry in entries], str),
            metadata=np.array([json.dumps(dict(entry.metadata)) for entry in entries], str),
            paths=np.array([str(entry.metadata.get("path", entry.id)) for entry in entries], str),
            model=np.array(gallery.space.model),
        )
    return len(entries)


def describe(facts: Mapping[str, Any]) -> str:
    """Statistics as lines."""
    first, last = (None if facts[key] is None else _date(facts[key]) for key in ("first_time", "last_time"))
    threshold = "none" if facts["threshold"] is None else f"{facts['threshold']:.4f}"
    entries = counted(facts["entries"], "entry", "entries")
    identities = counted(facts["identities"], "identity", "identities")
    return "\n".join(
        [
            f"{facts['path']}: {entries}, {identities}, {facts['bytes'] / 2**20:.1f} MiB",
            f"cameras: {', '.join(facts['cameras']) or 'none'}",
            f"times: {first} to {last}" if first else "times: none",
            f"embeddings: {facts['dim']} × {facts['dtype']}, {facts['metric']}, model {facts['model'][:16]}",
            f"threshold: {threshold}",
        ]
    )


def _date(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g}"


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
    return {"threshold": found.decisions[0].threshold if found.decisions else None, "queries": queries}


def show(found: Found, as_json: bool) -> None:
    """Print the lists."""
    if as_json:
        print_json(to_dict(found))
        return
    for query, path in enumerate(found.crops.paths[:_TABLE_QUERIES]):
        who = "" if found.decisions is None else f": {found.decisions[query].identity or 'unknown'}"
        typer.echo(printable(f"{path.name}{who}"))
        for hit in found.hits[query]:
            details = " ".join(str(value) for value in (hit.entry.camera, hit.entry.track) if value is not None)
            typer.echo(printable(f"  {hit.distance:.4f}  {hit.identity}  {details}".rstrip()))
    if (rest := len(found.crops.paths) - _TABLE_QUERIES) > 0:
        typer.echo(f"… and {counted(rest, 'more query', 'more queries')} (--json prints all)")


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
            "" if found.decisions is None else found.decisions[query].identity or "unknown",
        )
        for query in pick_evenly(range(count), _SHEET_ROWS)
        if _readable(found.crops.paths[query])
    ]
    if not any(row.matches for row in rows):
        raise DataError("there is nothing to draw: the crops of queries or entries are not where they were when embedded")
    subtitle = counted(count, "query", "queries")
    if found.decisions:
        subtitle += f", who is within {found.decisions[0].threshold:.4f}"
    ranked_sheet(rows, out, "Found in the gallery", subtitle)


def _match(found: Found, query: int, hit: Hit) -> Match | None:
    path = Path(str(hit.entry.metadata.get("path", "")))
    if not _readable(path):
        return None
    pids = found.crops.pids
    correct = None if pids is None or not hit.identity.isdecimal() else str(pids[query]) == hit.identity
    return Match(path, hit.distance, correct, " ".join(filter(None, (hit.identity, hit.entry.camera))))


def _readable(path: Path) -> bool:
    try:
        load_image(path)
    except (ImageError, OSError):
        return False
    return True
