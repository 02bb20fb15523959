"""The same slip is the same error in every command that has the option: one line, status 2, and before anything is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import pytest
import typer

from stcanet.cli import app
from stcanet.commands.options import parse_blocks
from stcanet.config import PRESETS
from stcanet_export.native import NATIVE
from stcanet_runtime.cli import app as runtime_app
from stcanet_runtime.cli import run
from stcanet_runtime.cli.options import parse_size
from stcanet_runtime.errors import OptionError
from stcanet_runtime.inference.providers import EP_NAMES
from stcanet_runtime.inference.tracklets import FRAMES
from stcanet_runtime.retrieval.calibration import KINDS
from stcanet_runtime.retrieval.distance import METRICS
from stcanet_runtime.retrieval.figures import AP_RULES

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
    "--reference-provider": ["parity none"],
    "--ap": ["evaluate none --data none", "cross none --data none"],
    "--frames": ["evaluate none --data none", "cross none --data none"],
    "--device": ["train --data none --out run", "evaluate none --data none", "cross none --data none", "report none"],
    "--preset": ["train --data none --out run", "convert none --out none.pt", "export"],
    "--blocks": ["train --data none --out run", "convert none --out none.pt"],
    "--kind": ["calibrate none.npz"],
    "--templates": ["gallery search none none.npz"],
    "--far": ["calibrate none.npz"],
    "--threshold": [
        "gallery search none none.npz",
        "identify none none.mp4=none.txt",
        "watch none door=none.mp4 --detector none.onnx --gallery none",
    ],
    "--same-camera-margin": ["identify none none.mp4=none.txt"],
    "--input": ["export none.pt"],
    "--opset": ["export none.pt"],
    "--precision": ["export none.pt"],
    "--target": ["export none.pt"],
    "--calibration-method": ["export none.pt"],
}
WRONG = {
    "--provider": "tpu",
    "--metric": "manhattan",
    "--device": "gpu",
    "--blocks": "2,9",
    "--templates": "median",
    "--far": "5.0",
    "--threshold": "-1.0",
    "--same-camera-margin": "nan",
}
"""Else 9, which is no value of any of them."""
CHOICES = {
    "--provider": ("auto", *EP_NAMES),
    "--reference-provider": ("auto", *EP_NAMES, NATIVE),
    "--metric": METRICS,
    "--ap": AP_RULES,
    "--frames": FRAMES,
    "--device": ("auto", "cpu", "cuda"),
    "--preset": tuple(PRESETS),
    "--kind": KINDS,
    "--templates": ("all", "mean"),
    "--input": ("uint8", "float32"),
    "--opset": ("17", "27"),
    "--precision": ("fp32", "fp16", "int8"),
    "--target": ("cpu", "openvino", "tensorrt", "jetson"),
    "--calibration-method": ("percentile", "entropy"),
}
FREE = {
    *("--after", "--at", "--before", "--older-than", "--time"),
    *("--calibration", "--data", "--evaluate", "--gallery", "--public-key", "--save-embeddings"),
    *("--backbone-weights", "--camera", "--identity", "--licence", "--meta", "--metrics-address", "--set", "--travel"),
}
"""Times, places, and what anybody may call as they like."""


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in getattr(group, "commands", {}).items():
        yield (*path, name), command
        yield from commands(command, (*path, name))


def commands_with(option: str) -> dict[tuple[str, ...], Any]:
    found = {}
    for path, command in commands(typer.main.get_command(app)):
        for parameter in command.params:
            if option in parameter.opts:
                found[path] = parameter
    return found


@pytest.mark.parametrize(("option", "command"), [(option, command) for option in COMMANDS for command in COMMANDS[option]])
def test_a_value_that_is_none_has_status_two(stcanet: Callable, option: str, command: str) -> None:
    wrong = WRONG.get(option, "9")
    done = stcanet(*command.split(), option, wrong)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: Invalid value for '{option}': '{wrong}' is ")
    assert all(value in line for value in CHOICES.get(option, ()))


@pytest.mark.parametrize("option", COMMANDS)
def test_no_command_with_the_option_is_left_out(option: str) -> None:
    assert {path[0] for path in commands_with(option)} == {command.split()[0] for command in COMMANDS[option]}


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("masks --out masks", "LABELS"),
        ("masks labels --out masks --sheet sheet.png", "--images"),
        ("masks labels --out masks --images images", "--images"),
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


def test_every_text_of_an_option_is_one_of_a_few_or_free() -> None:
    known = {*COMMANDS, *FREE}
    for path, command in commands(typer.main.get_command(app)):
        kinds = get_type_hints(command.callback) if command.callback else {}
        texts = [parameter.opts for parameter in command.params if "str" in str(kinds[parameter.name])]
        assert not [opts for opts in texts if opts[0].startswith("-") and known.isdisjoint(opts)], path


@pytest.mark.parametrize("program", [app, runtime_app], ids=["stcanet", "stcanet-runtime"])
def test_a_level_that_is_none_has_status_two(program: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run(program, ["--log-level", "loud", "info"])
    assert left.value.code == 2
    wanted = "error: Invalid value for '--log-level': 'loud' is not known; take 'debug', 'info', 'warning' or 'error'\n"
    assert capsys.readouterr() == ("", wanted)


@pytest.mark.parametrize(("option", "values"), CHOICES.items())
def test_the_help_names_all_values(option: str, values: tuple[str, ...]) -> None:
    for path, parameter in commands_with(option).items():
        assert all(value in parameter.help for value in values), path


def test_parse_blocks() -> None:
    assert parse_blocks("none") == ()
    assert parse_blocks("2,3") == (2, 3)
    for text in ("", "2,", "2,2", "-1", "2 3"):
        with pytest.raises(OptionError, match="distinct stages out of 1, 2, 3, 4"):
            parse_blocks(text)


def test_parse_size() -> None:
    assert parse_size("256x128") == (256, 128)
    assert parse_size("64X32") == (64, 32)
