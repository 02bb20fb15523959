"""What commands print: names, tables, and what they wrote."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

_ENDLESS = 1 << 16


def printable(text: str) -> str:
    """`text` with escapes for what a terminal would obey and not show: names in a file may come from anybody."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def print_json(value: Any) -> None:
    """What `--json` gives, one object or list, indented."""
    typer.echo(json.dumps(value, indent=2))


def say(facts: Mapping[str, Any], as_json: bool, text: str) -> None:
    """Print facts as `--json` gives them, or else what people read."""
    if as_json:
        print_json(dict(facts))
    else:
        typer.echo("\n".join(map(printable, text.split("\n"))))


def say_written(*paths: Path | str | None) -> None:
    """A line for each file that was asked for."""
    for path in paths:
        if path is not None:
            typer.echo(printable(f"wrote {path}"))


def table_console() -> Console:
    """Prints tables: folded to a terminal's width, and as wide as they are into a pipe or file, which wants whole names."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _ENDLESS)
