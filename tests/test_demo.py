"""The demo's script, with commands that do nothing: what it removes; and its page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from stcanet_runtime.files import write_json

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


def test_the_page_holds_figures_checks_picture_and_commands(tmp_path: Path) -> None:
    protocol = {"num_query": 8, "num_gallery": 20, "num_distractors": 3}
    for name, rank in (("torch", 0.5), ("runtime", 0.25)):
        write_json(tmp_path / f"{name}.json", {"cmc": [rank] * 5, "mAP": rank, "mINP": rank, "protocol": protocol})
    checks = [
        {"name": name, "value": value, "rule": ">=", "bound": 0.9} for name, value in (("a <b>", 0.99999), ("ties", None))
    ]
    (tmp_path / "package").mkdir()
    write_json(tmp_path / "package" / "parity.json", {"crops": ["a", "b"], "checks": checks})
    Image.new("RGB", (8, 8)).save(tmp_path / "ranks.png")
    (tmp_path / "commands.txt").write_text("stcanet info\n")
    command = [sys.executable, str(ROOT / "demo" / "report.py"), str(tmp_path), "90"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "rank-1 25.0 %, mAP 25.0 %, 1.5 minutes in all" in done.stdout
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for text in (
        "<b>25.0 %</b><span>rank-1</span>",
        "rank-1 50.0 %, rank-5 50.0 %",
        "of them 3 distractors",
        "a &lt;b&gt;</td><td>0.99999, has to be &gt;= 0.9",
        "ties</td><td>nothing to compare",
        'alt="ranked lists" src="data:image/jpeg;base64,',
        "<pre>stcanet info\n</pre>",
    ):
        assert text in page
