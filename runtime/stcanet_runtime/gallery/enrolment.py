"""From what is given at enrolment to entries: one value for all or one for each, all of them checked."""

from __future__ import annotations

import json
import math
import reprlib
import time
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stcanet_runtime.arrays import as_number
from stcanet_runtime.errors import OptionError, ShapeError
from stcanet_runtime.gallery.entry import Entry, is_text

_DEEPEST = 100  # Python and SQLite read what is ten times as deep, some versions less
Names = Sequence[str | None] | str | None
"""One name for each, or one for all, or none."""


def make_entries(
    count: int,
    identities: Sequence[str] | str,
    cameras: Names,
    times: ArrayLike | None,
    tracks: Names,
    metadata: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None,
) -> list[Entry]:
    """Entries [count]; see `Gallery.enrol`.

    Raises:
        ShapeError: A list of another length.
        OptionError: A name, time or value that cannot be kept.
    """
    columns = {
        "identities": identities,
        "times": time.time() if times is None else times,
        "cameras": cameras,
        "tracks": tracks,
        "metadata": {} if metadata is None else metadata,
    }
    rows = zip(*(_spread(value, count, name) for name, value in columns.items()), strict=True)
    return [_make_entry(*row) for row in rows]


def _spread(value: Any, count: int, name: str) -> list[Any]:
    if isinstance(value, str | Mapping | Set) or not np.iterable(value):  # a set has no order, and is refused as a value
        return [value] * count
    values = list(value)
    if len(values) != count:
        raise ShapeError(f"{name} must be {count}, one of each embedding, or one for all; got {len(values)}")
    return values


def _make_entry(identity: Any, moment: Any, camera: Any, track: Any, metadata: Any) -> Entry:
    return Entry(
        check_name(identity, "identities"),
        _check_time(moment),
        None if camera is None else check_name(camera, "cameras"),
        None if track is None else check_name(track, "tracks"),
        _check_metadata(metadata),
    )


def check_name(name: Any, option: str) -> str:
    """The name, or OptionError."""
    if not isinstance(name, str) or not name or not is_text(name):  # SQLite keeps UTF-8
        raise OptionError(option, name, "names: text that is not empty")
    return name


def _check_time(moment: Any) -> float:
    seconds = as_number(moment)
    if not math.isfinite(seconds):
        raise OptionError("times", moment, "finite numbers of seconds")
    return seconds


def _check_metadata(metadata: Any) -> dict[str, Any]:
    found: dict[str, Any] | None = None
    try:
        found = json.loads(json.dumps(dict(metadata), allow_nan=False))  # as a reader will have it: keys are strings
    except RecursionError:
        pass
    except (TypeError, ValueError):
        raise OptionError("metadata", metadata, "objects that JSON can say") from None
    if found is None or _is_deeper(found, _DEEPEST):
        raise OptionError("metadata", reprlib.repr(metadata), f"at most {_DEEPEST} lists or objects deep")
    return found


def _is_deeper(value: Any, most: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is not None and (most == 0 or any(_is_deeper(one, most - 1) for one in inner))
