"""``stcanet``: the whole chain on the command line. Commands live in their own modules and import lazily."""

from __future__ import annotations

from typing import NoReturn

import typer

from stcanet.commands.evaluate import evaluate
from stcanet.commands.synth import synth
from stcanet.commands.train import train
from stcanet_export.commands import export, parity
from stcanet_runtime import cli as runtime
from stcanet_runtime.cli.infer import infer
from stcanet_runtime.cli.info import info

app = typer.Typer(
    name="stcanet",
    help="Find people again across cameras: train, evaluate, export, verify and run STCANet.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (synth, train, evaluate, export, parity, infer, info):
    app.command()(command)


def main() -> NoReturn:
    """Entry point of `stcanet`."""
    runtime.run(app)
