"""The same slip is the same error in every command that has the option: one line, status 2, and before anything is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer

from stcanet.cli import app
from stcanet_runtime.cli.options import parse_size
from stcanet_runtime.distance import METRICS
from stcanet_runtime.providers import EP_NAMES

COMMANDS = {
    "--provider": [
        "infer none none.jpg",
        "verify none",
        "identify none none.mp4=none.txt",
        "watch none door=none.mp4 --detector none.onnx",
        "bench none",
        "masks --parser none.onnx --images none --out masks",
        "evaluate none --data none",
        "cross none --data none",
        "parity none",
    ],
    "--metric": ["rank none.npz none.npz", "calibrate none.npz", "evaluate none --data none", "cross none --data none"],
    "--size": ["export none.pt", "synth people"],
}
WRONG = {"--provider": "tpu", "--metric": "manhattan", "--size": "9"}


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in getattr(group, "commands", {}).items():
        yield (*path, name), command
        yield from commands(command, (*path, name))


def commands_with(option: str) -> dict[tuple[str, ...], Any]:
    every = commands(typer.main.get_command(app))
    return {path: parameter for path, command in every for parameter in command.params if option in parameter.opts}


@pytest.mark.parametrize(("option", "command"), [(option, command) for option in COMMANDS for command in COMMANDS[option]])
def test_a_value_that_is_none_has_status_two(stcanet: Callable, option: str, command: str) -> None:
    done = stcanet(*command.split(), option, WRONG[option])
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: Invalid value for '{option}': '{WRONG[option]}' is ")


@pytest.mark.parametrize("option", COMMANDS)
def test_no_command_with_the_option_is_left_out(option: str) -> None:
    assert {path[0] for path in commands_with(option)} == {command.split()[0] for command in COMMANDS[option]}


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("masks --out masks", "LABELS"),
        ("masks labels --out masks --sheet sheet.png", "--images"),
        ("train", "--out"),
        ("train --out run --resume run", "--out"),
        ("train --resume run --config run.toml", "--config"),
    ],
)
def test_options_that_do_not_go_together_are_named(stcanet: Callable, command: str, name: str) -> None:
    done = stcanet(*command.split())
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: Invalid value for '{name}': ")


def test_one_name_for_one_idea() -> None:
    assert commands_with("--distance") == commands_with("--output") == {}  # --metric and --out


@pytest.mark.parametrize(("option", "values"), [("--provider", EP_NAMES), ("--metric", METRICS)])
def test_the_help_names_all_values(option: str, values: tuple[str, ...]) -> None:
    for path, parameter in commands_with(option).items():
        assert all(value in parameter.help for value in values), path


def test_parse_size() -> None:
    assert parse_size("256x128") == (256, 128)
    assert parse_size("64X32") == (64, 32)
