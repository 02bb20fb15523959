"""``stcanet``: the whole chain on the command line. Commands live in their own modules and import lazily."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from stcanet.commands.convert import convert
from stcanet.commands.cross import cross
from stcanet.commands.datasets import app as datasets
from stcanet.commands.evaluate import evaluate
from stcanet.commands.masks import masks
from stcanet.commands.report import report
from stcanet.commands.synth import synth
from stcanet.commands.train import train
from stcanet.extras import EXTRA_OF
from stcanet_export.commands.export import export
from stcanet_export.commands.keygen import keygen
from stcanet_export.commands.parity import parity
from stcanet_runtime import cli as runtime
from stcanet_runtime.cli.gallery import app as gallery
from stcanet_runtime.errors import MissingDependencyError

app = typer.Typer(
    name="stcanet",
    help="Find people again across cameras: train, evaluate, cross, export, verify and run STCANet.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.callback(help=app.info.help)(runtime.configure)
for command in (synth, masks, train, evaluate, cross, report, convert, export, parity, keygen, *runtime.COMMANDS):
    app.command()(command)
app.add_typer(datasets, name="datasets")
app.add_typer(gallery, name="gallery")


def main() -> NoReturn:
    """Entry point of `stcanet`."""
    try:
        runtime.run(app)
    except Exception as error:
        problem = _problem(error)
        if problem is None:
            raise
        print(f"error: {problem}", file=sys.stderr)
        raise SystemExit(1) from None


def _problem(error: Exception) -> str | None:
    """What a user can do something about, of what libraries raise; None for a bug."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported for its sake
        needed = ". ".join(str(error).split(". ")[:2])
        return f"{needed}; take smaller batches: with --batch-size, or of 'train' with --set identities=N"
    package, part, _ = (getattr(error, "name", None) or "").partition(".")
    if not isinstance(error, ModuleNotFoundError) or package not in EXTRA_OF:
        return None
    if part:  # the package is there, and another wants more of it
        return f"{package} has no {error.name}: its version does not fit the others; pip install --upgrade {package}"
    return str(MissingDependencyError(package, "this command", EXTRA_OF[package]))
