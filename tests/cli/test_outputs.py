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


@pytest.mark.parametrize(
    ("command", "option", "name"),
    [
        ("calibrate a.npz", "--out", "a.npz"),
        ("calibrate a.npz --gallery a.gallery", "--out", "a.gallery"),
        ("infer a.zip a.png --gallery b.png", "--sheet", "a.png"),
        ("infer a.zip a.png --gallery a.npz", "--out", "a.npz"),
        ("rank a.npz a.png", "--sheet", "a.png"),
        ("gallery search a.gallery b.png --package a.zip", "--sheet", "b.png"),
        ("gallery export a.gallery", "--out", "a.gallery"),
        ("bench a.zip", "--out", "a.zip"),
        ("watch a.zip door=a.mp4 --detector a.onnx", "--out", "a.mp4"),
        ("watch a.zip door=a.mp4 --detector a.onnx", "--health", "a.onnx"),
        ("evaluate a.pt --data a.csv", "--out", "a.pt"),
        ("cross a.pt --data a.csv", "--out", "a.csv"),
        ("convert a.pt", "--out", "a.pt"),
        ("parity a.zip --against b.zip", "--html", "b.zip"),
    ],
)
def test_no_input_is_written_over(
    stcanet: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, option: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for input_ in ("a.npz", "a.gallery", "a.zip", "b.zip", "a.png", "b.png", "a.mp4", "a.onnx", "a.pt", "a.csv"):
        (tmp_path / input_).touch()
    done = stcanet(*command.split(), option, name)
    message = f"error: Invalid value for '{option}': {name} is an input and would be written over; take another place\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


@pytest.mark.parametrize("name", ["a.gallery-wal", "link.gallery-wal", "a.gallery-shm", "a.gallery-journal"])
@pytest.mark.parametrize("command", ["gallery export a.gallery", "gallery export link.gallery"])
def test_no_file_takes_the_place_of_a_log(
    stcanet: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.gallery").touch()
    (tmp_path / "link.gallery").symlink_to("a.gallery")
    (tmp_path / "link.gallery-wal").symlink_to("a.gallery-wal")
    done = stcanet(*command.split(), "--out", name)
    source = command.split()[-1]
    message = f"error: Invalid value for '--out': {name} has the name of a log of {source}; take another place\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


@pytest.mark.parametrize(
    ("command", "option", "name"),
    [
        ("parity package --against other.onnx", "--out", "package/parity.json"),
        ("parity other.onnx --against link", "--html", "package/parity.html"),
        ("evaluate package/model.onnx --data a.csv", "--out", "package/result.json"),
        ("evaluate package --data a.csv", "--save-embeddings", "package"),
        ("infer package a.png", "--out", "link/a.npz"),
        ("bench other.onnx package", "--out", "package/new/bench.json"),
    ],
)
def test_a_package_is_left_as_it_is(
    stcanet: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, option: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package").mkdir()
    (tmp_path / "link").symlink_to("package")
    for input_ in ("package/manifest.json", "package/model.onnx", "other.onnx", "a.png", "a.csv"):
        (tmp_path / input_).touch()
    done = stcanet(*command.split(), option, name)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: Invalid value for '{option}': {name}" in done.stderr
    assert "is inside a model package" in done.stderr


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_an_output_that_is_closed_is_no_error() -> None:
    command = ["sh", "-c", 'exec "$0" -m stcanet_runtime info >&-', sys.executable]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
