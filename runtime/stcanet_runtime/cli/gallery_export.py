"""Entries of a gallery as a file of plain arrays, and back."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.cli.gallery_entries import origin, tell_what_is_not_there
from stcanet_runtime.errors import DataError
from stcanet_runtime.files import atomic_path, parse_json
from stcanet_runtime.gallery import Gallery, Where
from stcanet_runtime.gallery.entry import Entry
from stcanet_runtime.inference import crop_embeddings
from stcanet_runtime.inference.crop_embeddings import Crops
from stcanet_runtime.npz import read_npz

_COLUMNS = {**dict.fromkeys(("identities", "cameras", "tracks"), ("U", "texts")), "times": ("fiu", "numbers")}


def export(gallery: Gallery, output: Path, where: Where) -> int:
    """Write plain arrays; how many entries."""
    tell_what_is_not_there(gallery, where)
    rows, entries = gallery.rows(where)
    # One text: in an array of texts each would take the room of the longest.
    metadata = json.dumps([dict(entry.metadata) for entry in entries])
    with atomic_path(output) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            embeddings=rows.embeddings,
            ids=rows.ids,
            identities=np.array([entry.identity for entry in entries], str),
            cameras=np.array([entry.camera or "" for entry in entries], str),
            times=np.array([entry.time for entry in entries], np.float64),
            tracks=np.array([entry.track or "" for entry in entries], str),
            metadata=np.frombuffer(metadata.encode(), np.uint8),
            paths=np.array([str(entry.metadata.get("path", entry.id)) for entry in entries], str),
            model=np.array(gallery.space.model),
        )
    return len(entries)


def load(path: Path) -> Crops:
    """Embeddings, as `crop_embeddings.load` reads them, and the entries that `export` wrote where there are any.

    Raises:
        DataError: It is no such file, or what it says of the entries cannot be read.
    """
    crops = crop_embeddings.load(path)
    try:
        arrays = read_npz(path, (*_COLUMNS, "metadata"))
        return crops if "identities" not in arrays else replace(crops, entries=_entries(arrays, crops.paths))
    except ValueError as error:
        raise DataError(f"{path} does not say whose its embeddings are as `stcanet gallery export` does: {error}") from None


def _entries(arrays: dict[str, NDArray[Any]], paths: Sequence[Path]) -> list[Entry]:
    count = len(paths)
    for name, (kinds, what) in _COLUMNS.items():
        if name in arrays and (arrays[name].shape != (count,) or arrays[name].dtype.kind not in kinds):
            raise ValueError(f"{name} must be {count} {what}, one of each embedding")
    stored = arrays.get("metadata")
    metadata = [{"path": origin(path)} for path in paths] if stored is None else parse_json(stored.tobytes().decode())
    if not isinstance(metadata, list) or len(metadata) != count or not all(isinstance(one, dict) for one in metadata):
        raise ValueError(f"metadata must be bytes of a JSON list of {count} objects")
    nameless, now = np.full(count, ""), np.full(count, time.time())
    columns = (arrays["identities"], arrays.get("times", now), arrays.get("cameras", nameless), arrays.get("tracks", nameless))
    return [
        Entry(identity, moment, camera or None, track or None, extra)
        for identity, moment, camera, track, extra in zip(*(column.tolist() for column in columns), metadata, strict=True)
    ]
