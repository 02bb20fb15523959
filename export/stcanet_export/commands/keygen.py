"""``stcanet keygen``: keys to sign packages with, where the minisign program is not at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stcanet_export.commands.options import ask_password
from stcanet_runtime.cli.examples import examples

_UNPROTECTED_HELP = "Do not ask for a password: for machines. Whoever has the file can then sign."


@examples("""
    stcanet keygen ours
    stcanet keygen robot --no-password
""")
def keygen(
    name: Annotated[Path, typer.Argument(help="NAME.key (secret) and NAME.pub (public) are written.")],
    no_password: Annotated[bool, typer.Option("--no-password", help=_UNPROTECTED_HELP)] = False,
) -> None:
    """Make a pair of minisign keys: one to sign packages with, one for the boxes that run them."""
    from stcanet_runtime.package.signature import write_keys

    def ask() -> str:
        needed = typer.BadParameter("must be given: no terminal is here to ask for a password", param_hint="'--no-password'")
        return ask_password("password for the secret key", needed, confirm=True)

    secret, public = write_keys(name, None if no_password else ask)
    typer.echo(f"{secret}: keep it secret; stcanet export --sign {secret}")
    typer.echo(f"{public}: stcanet-runtime verify --public-key {public}")
