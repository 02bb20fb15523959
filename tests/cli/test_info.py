"""`stcanet-runtime info`, and the entry point itself."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import typer
from commands import call

from stcanet_runtime import StcanetError, __version__
from stcanet_runtime.cli import run
from stcanet_runtime.cli.info import collect


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call("info", "--json"), *capsys.readouterr()
    assert (status, err) == (0, "")
    facts: dict[str, Any] = json.loads(out)
    assert facts["version"] == __version__
    assert facts["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert facts["backends"]["available"]["reference"] is None
    assert facts["backends"]["auto"]
    assert facts["cuda_kernels"] is None or isinstance(facts["cuda_kernels"], str)
    assert facts["providers"]["available"]["cpu"] is None
    assert facts["providers"]["available"][facts["providers"]["auto"]] is None


def test_text_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call("info"), *capsys.readouterr()
    assert (status, err) == (0, "")
    for name in ("reference", "compiled", "jit", "cpu", "openvino", "cuda", "tensorrt", "auto:", "fused", __version__):
        assert name in out


def test_both_wheels_are_warned_about(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    facts = collect()
    facts["versions"] |= {"onnxruntime": "1.0", "onnxruntime-gpu": "1.0"}
    monkeypatch.setattr("stcanet_runtime.cli.info.collect", lambda: facts)
    assert call("info") == 0
    assert "they overwrite each other" in capsys.readouterr().out


def test_no_command_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(), *capsys.readouterr()
    assert status == 2
    assert "infer" in out + err
    assert "info" in out + err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert (call("--version"), *capsys.readouterr()) == (0, f"stcanet {__version__}\n", "")


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call("infre"), *capsys.readouterr()
    assert (status, out) == (2, "")
    assert err.startswith("error: No such command 'infre'")
    assert err.count("\n") == 1


def raising(error: BaseException) -> typer.Typer:
    broken = typer.Typer()

    @broken.command()
    def command() -> None:
        raise error

    return broken


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (StcanetError("two\nlines"), 1, "error: two lines\n"),
        (PermissionError(13, "Permission denied", "/a"), 1, "error: /a: Permission denied\n"),
        (MemoryError("Unable to allocate"), 1, "error: there is not enough memory: Unable to allocate\n"),
        (typer.Exit(3), 3, ""),
        (typer.Abort(), 1, "error: aborted\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_exit_status_and_one_line(capsys: pytest.CaptureFixture[str], error: BaseException, status: int, text: str) -> None:
    with pytest.raises(SystemExit) as left:
        run(raising(error), [])
    assert left.value.code == status
    assert capsys.readouterr() == ("", text)


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()), [])
