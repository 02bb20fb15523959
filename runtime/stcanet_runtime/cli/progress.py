"""How far every command is, on stderr, so that stdout can be piped: a bar that is gone at the end, or now and then a line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from stcanet_runtime.cli.text import printable
from stcanet_runtime.progress import Progress

LINE_SECONDS = 30.0
"""Between two lines where stderr is no terminal. What is done sooner says nothing."""


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """What this yields is called with (done, total): it moves a bar, or where stderr is no terminal may print a line."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(label)
        return
    # Names of the user's, which may look like markup.
    label_column = progress.TextColumn("{task.description}", markup=False)
    columns = (label_column, progress.BarColumn(), progress.MofNCompleteColumn(), progress.TimeRemainingColumn())
    with progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(label: str) -> Progress:
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            of = f" of {total:,}" if total > done else ""  # a camera has no end, and gives its frames so far as the total
            typer.echo(printable(f"{label}: {done:,}{of}"), err=True)

    return report
