"""What a command shall write is checked before it reads anything, and named when it is there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("command", "option", "name"),
    [
        ("calibrate none.npz", "--out", "folder"),
        ("calibrate none.npz", "--picture", "curves.xyz"),
        ("rank none.npz none.npz", "--sheet", "sheet.xyz"),
        ("infer none none.jpg --gallery none", "--sheet", "sheet.xyz"),
        ("gallery search none.gallery none.npz", "--sheet", "sheet.xyz"),
        ("gallery export none.gallery", "--out", "folder"),
        ("masks none --out masks --images none", "--sheet", "sheet.xyz"),
        ("parity none --against nowhere", "--out", "folder"),
        ("parity none --against nowhere", "--html", "folder"),
        ("identify none none.mp4=none.txt", "--out", "folder"),
        ("identify none no.mp4=none.txt", "--video", "file"),
        ("watch none door=none.mp4 --detector none.onnx", "--out", "folder"),
    ],
)
def test_outputs_are_checked_first(
    stcanet: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, option: str, name: str
) -> None:
    """None of the inputs is there, which would be the error otherwise."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    done = stcanet(*command.split(), option, name)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert name in line
    assert "none" not in line


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_an_output_that_is_closed_is_no_error() -> None:
    command = ["sh", "-c", 'exec "$0" -m stcanet_runtime info >&-', sys.executable]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
