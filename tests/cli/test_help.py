"""The command line takes the examples of every help text, which name the program that shows them, and of the documents."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from stcanet.cli import app
from stcanet_runtime.cli import app as runtime_app
from stcanet_runtime.cli import run
from stcanet_runtime.cli.examples import call_program

ROOT = Path(__file__).parents[2]
DOCUMENTS = [path for kind in ("*.md", "*/README.md", "recipes/*.toml") for path in sorted(ROOT.glob(kind))]
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
        words = shlex.split(line.partition("   ")[0].partition(" > ")[0])  # without what explains it or takes its output
        assert words[0] == name or name == "stcanet"  # a box has one program only
        take(words)


def take(words: list[str]) -> None:
    if words[1] != "--config":  # else a file has what is missing
        parse(program(words[0]), words)


def parse(command: Any, words: list[str], parent: Any = None) -> None:
    """As the program does before it runs a command: unknown options, missing arguments and bad values are errors."""
    context = command.make_context(words[0], words[1:], parent=parent)
    if rest := [*getattr(context, "_protected_args", []), *context.args]:
        _, found, others = command.resolve_command(context, rest)
        parse(found, [rest[0], *others], context)


def test_commands_of_the_documents_are_taken() -> None:
    found = [
        line.partition(" > ")[0]
        for document in DOCUMENTS
        for line in re.findall(
            r"^(?: {4}|#   |\$ )?(stcanet(?:-runtime)? .+)", document.read_text(encoding="utf-8"), re.MULTILINE
        )
    ]
    assert len(found) > 60
    for line in found:
        take(shlex.split(line, comments=True))


def test_parse_sees_what_is_wrong() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(program("stcanet"), ["stcanet", "gallery", "stats", "a.gallery", "--chek"])
    with pytest.raises(Exception, match="Missing parameter"):
        parse(program("stcanet-runtime"), ["stcanet-runtime", "infer"])


@pytest.mark.parametrize("name", PROGRAMS)
def test_options_of_all_commands_stand_before_them(name: str) -> None:
    parse(program(name), [name, "--config", "box.toml", "--log-level", "info", "--log-json", "health", "watch.json"])


@pytest.mark.parametrize("words", [["-h"], ["rank", "-h"], ["gallery", "search", "-h"]])
def test_help_is_short_to_ask_for(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run(runtime_app, words)
    assert left.value.code == 0
    usage, _, _ = capsys.readouterr().out.partition("OPTIONS")
    assert " ".join(words[:-1]) in usage.partition("Usage:")[2]


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_paragraph_of_a_help_text_is_indented(name: str) -> None:
    for path, command in below(program(name)):
        text = (command.help or "").partition("\b")[0]
        assert not [line for line in text.splitlines() if line.startswith(" ")], path
