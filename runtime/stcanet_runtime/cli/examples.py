"""Examples in the help of commands: every command has some, and they stand there as they are typed."""

from __future__ import annotations

from collections.abc import Callable
from inspect import cleandoc
from typing import Any, TypeVar

_Command = TypeVar("_Command", bound=Callable[..., object])


def examples(lines: str) -> Callable[[_Command], _Command]:
    """Decorate a command: its help ends with `lines`, a command line each."""

    def add(command: _Command) -> _Command:
        command.__doc__ = with_examples(command.__doc__ or "", lines)
        return command

    return add


def with_examples(text: str, lines: str) -> str:
    """`text` of a help, and `lines` below it."""
    indented = "\n".join(f"  {line}" for line in cleandoc(lines).splitlines())
    return f"{cleandoc(text)}\n\n\b\nExamples:\n{indented}"  # \b: the parser leaves this paragraph's lines alone


def call_program(command: Any, name: str) -> None:
    """Have the examples of `command` and of those below it call the program `name`: a box has no `stcanet`."""
    command.help = (command.help or "").replace("\n  stcanet ", f"\n  {name} ")
    for below in getattr(command, "commands", {}).values():
        call_program(below, name)
