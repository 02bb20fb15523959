"""``stcanet keygen``: keys to sign packages with, where the minisign program is not at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
        return ask_password("password for the secret key", "'--no-password'", confirm=True)

    secret, public = write_keys(name, None if no_password else ask)
    typer.echo(f"{secret}: keep it secret; stcanet export --sign {secret}")
    typer.echo(f"{public}: stcanet-runtime verify --public-key {public}")


def ask_password(question: str, option: str, confirm: bool = False) -> str:
    """What is typed, unseen. Raises BadParameter of the option where there is no terminal: getpass would show it, or wait."""
    import warnings
    from getpass import GetPassWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", GetPassWarning)
        try:
            return str(typer.prompt(question, hide_input=True, confirmation_prompt=confirm))
        except GetPassWarning:
            raise typer.BadParameter("there is no terminal to ask for the password", param_hint=option) from None
