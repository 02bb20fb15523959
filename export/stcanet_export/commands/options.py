"""What the commands share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

IMAGES_HELP = "A crop, or a folder of crops, to check parity on besides the built-in ones (16 are picked)."


def listed_images(images: Path | None) -> list[Path]:
    """The image files of that option; none where it was not given."""
    from stcanet_runtime.images.crops import list_images

    return [] if images is None else list_images(images)


def ask_password(question: str, otherwise: typer.BadParameter, confirm: bool = False) -> str:
    """What is typed, unseen. Raises `otherwise` where there is no terminal: getpass would show it, or wait."""
    if not _has_terminal():
        raise otherwise
    return str(typer.prompt(question, hide_input=True, confirmation_prompt=confirm))


def _has_terminal() -> bool:
    """Whether one is where getpass looks for it: that of the session, or else stdin."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return sys.stdin is not None and sys.stdin.isatty()
    return True
