"""The demo's script, with commands that do nothing: what it removes; and rows of its page."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder with a `stcanet` and a `python` that succeed at nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("stcanet", "python"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


def run(commands: Path, out: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
    command = ["sh", str(ROOT / "demo" / "run.sh"), str(out)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("names", [("thesis.txt",), (".hidden",), ("commands.txt",)])
def test_a_folder_of_something_else_is_refused(commands: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    for name in names:
        (out / name).write_text("kept\n")
    done = run(commands, out)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {out} is not empty")
    assert [path.read_text() for path in out.iterdir()] == ["kept\n"] * len(names)


def test_a_file_is_refused(commands: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    assert run(commands, tmp_path / "mine").returncode == 1
    assert (tmp_path / "mine").read_text() == "kept"


def test_an_earlier_demo_and_an_empty_folder_are_replaced(commands: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    out.mkdir()
    for _ in range(2):
        done = run(commands, out)
        assert done.returncode == 0, done.stderr
        assert len((out / "commands.txt").read_text().splitlines()) == 7
        (out / "old").touch()
    run(commands, out)
    assert not (out / "old").exists()


@pytest.mark.parametrize(("value", "shown"), [(0.99999, "0.99999"), (None, "–")])
def test_a_check_that_had_nothing_to_compare_is_a_row(value: float | None, shown: str) -> None:
    spec = importlib.util.spec_from_file_location("demo_report", ROOT / "demo" / "report.py")
    assert spec is not None
    assert spec.loader is not None
    report = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(report)
    row = report.check_row({"name": "ties <1e-6", "value": value, "rule": ">=", "bound": 0.9})
    assert row == f"<tr><td>ties &lt;1e-6</td><td>{shown}</td><td>&gt;= 0.9</td></tr>"
