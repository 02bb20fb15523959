"""Entries of a gallery: made of crops, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import typer

from stcanet_runtime.cli.sources import check_gallery, check_names, is_stored, load_sources
from stcanet_runtime.cli.text import printable
from stcanet_runtime.errors import DataError, quote_choices
from stcanet_runtime.gallery import Gallery, Where
from stcanet_runtime.inference import crop_embeddings
from stcanet_runtime.inference.crop_embeddings import Crops
from stcanet_runtime.wording import counted

SHOWN = 20
"""Identities that statistics name."""


UNKNOWN = "who they are is not known: give --identity or --by-folder, or name files like 0001_c1s1_000004_00.jpg"


def load(
    path: Path,
    sources: Sequence[Path],
    package: Path | None,
    skip_bad: bool = False,
    unknown: str | None = None,
    stored: Callable[[Path], Crops] = crop_embeddings.load,
) -> Crops:
    """Embeddings for a gallery. That there is none, or one of another model, is said before they are made, not after.

    So is `unknown`, where that is an error: the name of an image does not tell who is on it. `stored` reads a file.
    """
    check_gallery(path, sources, package, read_only=True)
    if unknown is not None and not skip_bad:  # one that is skipped need not tell
        check_names(sources, unknown)
    return load_sources(sources, package, skip_bad, stored)


def identities(crops: Crops, identity: str | None, by_folder: bool, sources: Sequence[Path]) -> list[str]:
    """A name for each crop: the one for all, that of its folder, that in the gallery it was exported from, or its number.

    Args:
        crops: The crops.
        identity: The one for all.
        by_folder: Whether it is that of the folder.
        sources: Where they come from. Files of embeddings have paths as `infer` was given them, maybe in another folder.

    Raises:
        DataError: Names do not tell, or stored paths do not say in which folder they were.
    """
    if identity is not None:
        return [identity] * len(crops.paths)
    if by_folder:
        stored = any(map(is_stored, sources))
        return [_folder(path, stored) for path in crops.paths]
    if crops.entries:
        return [entry.identity for entry in crops.entries]
    if crops.pids is None:
        raise DataError(UNKNOWN)
    return [str(pid) for pid in crops.pids.tolist()]


def _folder(path: Path, stored: bool) -> str:
    if (name := path.parent.name) not in ("", ".."):
        return name
    if stored:
        raise DataError(f"{path} does not say its folder, for --by-folder; run infer on the folder above, or give --identity")
    return path.parent.resolve().name  # not of the file, which may be a link to one elsewhere


def origin(path: Path) -> str:
    """Where a crop lies, to be found from any folder; as it was stored where it is not there."""
    return str(path.resolve() if path.exists() else path)


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


def details(crops: Crops, camera: str | None, moment: float | None, extra: Mapping[str, Any]) -> dict[str, Any]:
    """What `Gallery.enrol` is told of each crop besides its identity. What is said of all goes before what a gallery knew."""
    seen, known = cameras(crops, camera), crops.entries
    if not known:
        metadata = [{**extra, "path": origin(path)} for path in crops.paths]
        return {"cameras": seen, "times": moment, "metadata": metadata}
    return {
        "cameras": [entry.camera if one is None else one for one, entry in zip(seen, known, strict=True)],
        "times": [entry.time for entry in known] if moment is None else moment,
        "tracks": [entry.track for entry in known],
        "metadata": [{**entry.metadata, **extra} for entry in known],
    }


def tell_what_is_not_there(gallery: Gallery, where: Where, left_out: Sequence[str | None] = ()) -> None:
    """A camera or identity without an entry may be a slip, or one that has seen, or was seen by, nobody yet."""
    meant = dict.fromkeys([*(where.cameras or ()), *left_out])
    facts = gallery.stats() if meant or where.identities else {}
    for camera in meant:
        known = facts["cameras"]
        if camera not in known:
            there = f"; there are {quote_choices(known)}" if known else ""
            typer.echo(printable(f"note: the gallery has no entry of camera '{camera}'{there}"), err=True)
    for identity in where.identities or ():
        if identity not in facts["identities"]:
            typer.echo(printable(f"note: the gallery has no identity '{identity}'"), err=True)


def describe(facts: Mapping[str, Any]) -> str:
    """Statistics as lines."""
    first, last = (None if facts[key] is None else _date(facts[key]) for key in ("first_time", "last_time"))
    threshold = "none" if facts["threshold"] is None else f"{facts['threshold']:.4f}"
    entries = counted(facts["entries"], "entry", "entries")
    people = facts["identities"]
    names = [f"{printable(name)} ({count})" for name, count in islice(people.items(), SHOWN)]
    names += [f"… and {len(people) - SHOWN:,} more (--json prints all)"] if len(people) > SHOWN else []
    return "\n".join(
        [
            f"{facts['path']}: {entries}, {counted(len(people), 'identity', 'identities')}, {facts['bytes'] / 2**20:.1f} MiB",
            f"identities: {', '.join(names) or 'none'}",
            f"cameras: {', '.join(map(printable, facts['cameras'])) or 'none'}",
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
