"""The help of every command has examples, which the command line takes, under the name of the program that shows them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from stcanet.cli import app
from stcanet_runtime.cli import app as runtime_app
from stcanet_runtime.cli.examples import call_program

PROGRAMS = {"stcanet": app, "stcanet-runtime": runtime_app}


def program(name: str) -> Any:
    command = typer.main.get_command(PROGRAMS[name])
    call_program(command, name)
    return command


def below(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, found in getattr(command, "commands", {}).items():
        yield (*path, name), found
        yield from below(found, (*path, name))


def examples(command: Any) -> list[str]:
    _, _, lines = (command.help or "").partition("\b\nExamples:\n")
    return [line.strip() for line in lines.splitlines()]


CASES = [(name, path) for name in PROGRAMS for path, _ in below(program(name))]


@pytest.mark.parametrize(("name", "path"), CASES, ids=[" ".join((name, *path)) for name, path in CASES])
def test_examples_are_taken(name: str, path: tuple[str, ...]) -> None:
    root = program(name)
    lines = examples(dict(below(root))[path])
    assert lines
    assert lines[0].startswith(" ".join((name, *path)))
    for line in lines:
        # Without what explains it or takes its output.
        words = shlex.split(line.partition("   ")[0].partition(" > ")[0])
        assert words[0] == name or name == "stcanet"  # a box has one program only
        if words[1] != "--config":  # else a file has what is missing
            parse(program(words[0]), words)


def parse(command: Any, words: list[str], parent: Any = None) -> None:
    """As the program does before it runs a command: unknown options, missing arguments and bad values are errors."""
    context = command.make_context(words[0], words[1:], parent=parent)
    if rest := [*getattr(context, "_protected_args", []), *context.args]:
        _, found, others = command.resolve_command(context, rest)
        parse(found, [rest[0], *others], context)


def test_parse_sees_what_is_wrong() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(program("stcanet"), ["stcanet", "gallery", "stats", "a.gallery", "--chek"])
    with pytest.raises(Exception, match="Missing parameter"):
        parse(program("stcanet-runtime"), ["stcanet-runtime", "infer"])


@pytest.mark.parametrize("name", PROGRAMS)
def test_options_of_all_commands_stand_before_them(name: str) -> None:
    parse(program(name), [name, "--config", "box.toml", "--log-level", "info", "--log-json", "health", "watch.json"])


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_paragraph_of_a_help_text_is_indented(name: str) -> None:
    for path, command in below(program(name)):
        text = (command.help or "").partition("\b")[0]
        assert not [line for line in text.splitlines() if line.startswith(" ")], path
