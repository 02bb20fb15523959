"""Options of the `gallery` commands as values: times, ages, metadata, templates and filters."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from stcanet_runtime.gallery import Where
    from stcanet_runtime.gallery.templates import Templates

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


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
        except RecursionError:
            raise typer.BadParameter(f"the value of '{key}' is too deep") from None
    return values


def parse_templates(text: str) -> Templates:
    """What stands for an identity, from ``all``, ``mean`` or ``3``; raises as `check_templates`."""
    from stcanet_runtime.gallery.templates import check_templates

    return check_templates(int(text) if re.fullmatch(r"\d{1,9}", text) else text)


def where(
    identity: Sequence[str] | None,
    camera: Sequence[str] | None,
    after: str | None,
    before: str | None,
    meta: Sequence[str] | None,
) -> Where:
    """The filter of these options."""
    from stcanet_runtime.gallery import Where

    return Where(
        tuple(identity) if identity else None,
        tuple(camera) if camera else None,
        parse_time(after),
        parse_time(before),
        parse_pairs(meta) or None,
    )
