"""What a run folder records besides the network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stcanet.config import make_config
from stcanet.engine import environment, run_files
from stcanet.engine.run_folder import RunFolder
from stcanet_runtime import files
from stcanet_runtime.errors import DataError, OptionError


def test_environment_metrics_and_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/stcanet", "train", "--data", "my people/"])
    with RunFolder(tmp_path / "run", make_config({"data": "people"})) as folder:
        folder.record(1, {"loss": 0.5, "lr": 0.001})
        folder.log("a remark")
    facts = json.loads((folder.root / "environment.json").read_text())
    assert facts["command"] == "stcanet train --data 'my people/'"
    assert facts["versions"]["torch"]
    assert facts["cores"] >= 1
    assert json.loads((folder.root / "metrics.jsonl").read_text()) == {"epoch": 1, "loss": 0.5, "lr": 0.001}
    lines = (folder.root / "log.txt").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["epoch 1: loss 0.5, lr 0.001", "a remark", "finished"]


def test_what_was_recorded_is_on_the_board_before_a_kill(tmp_path: Path) -> None:
    with RunFolder(tmp_path, make_config({"data": "people"})) as folder:
        (board,) = (tmp_path / "tensorboard").iterdir()
        sizes = [board.stat().st_size]
        for epoch in (1, 2, 3):
            folder.record(epoch, {"loss": 0.5})
            sizes.append(board.stat().st_size)
    assert sizes == sorted(set(sizes))


def test_the_log_says_why_a_run_stopped(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no more"), RunFolder(tmp_path / "run", make_config({"data": "people"})):
        raise ValueError(os.fsdecode(b"no more: caf\xe9.png"))
    assert (tmp_path / "run" / "log.txt").read_text().endswith(" stopped: ValueError: no more: caf\\udce9.png\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that always is full")
def test_a_log_that_cannot_be_written_leaves_nothing_locked(tmp_path: Path) -> None:
    config = make_config({"data": "people"})
    (tmp_path / "log.txt").symlink_to("/dev/full")
    folder = RunFolder(tmp_path, config)
    with pytest.raises(OSError, match="No space left"), folder:
        pass
    (tmp_path / "log.txt").unlink()
    with RunFolder(tmp_path, config, resume_after=0):
        pass


def test_the_commit_is_that_of_this_program_or_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "site-packages" / "stcanet" / "engine" / "environment.py"))
    assert environment.commit() is None


def test_going_on_drops_what_comes_again(tmp_path: Path) -> None:
    config = make_config({"data": "people"})
    with RunFolder(tmp_path / "run", config) as folder:
        for epoch in (1, 2, 3):
            folder.record(epoch, {"loss": 1.0 / epoch})
    metrics, half = tmp_path / "run" / "metrics.jsonl", tmp_path / "run" / ".last.0123abcd.tmp.pt"
    metrics.write_text(metrics.read_text() + '{"epoch": 4, "lo')  # killed while it wrote
    half.touch()
    with RunFolder(tmp_path / "run", config, resume_after=2) as folder:
        assert not half.exists()
        folder.record(3, {"loss": 0.25})
    assert [json.loads(line)["loss"] for line in metrics.read_text().splitlines()] == [1.0, 0.5, 0.25]
    begun = json.loads((tmp_path / "run" / "environment.json").read_text())
    with RunFolder(tmp_path / "run", config, resume_after=0):
        assert metrics.read_text() == ""
    facts = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert [resumed["after_epoch"] for resumed in facts["resumed"]] == [2, 0]
    assert {**facts, "resumed": facts["resumed"][:1]} == begun
    assert facts["resumed"][1].keys() - {"after_epoch"} == begun.keys() - {"resumed"}


def test_a_run_that_another_process_trains_is_left_alone_until_that_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    config, writing = make_config({"data": "people"}), tmp_path / ".last.0123abcd.tmp.pt"
    with RunFolder(tmp_path, config) as folder:
        folder.record(1, {"loss": 1.0})
    writing.touch()
    code = f"import sys\nsys.path.insert(0, {str(Path(files.__file__).parents[1])!r})\nfrom stcanet_runtime.files import lock\n"
    code += "with lock(sys.argv[1]) as held: print(held, flush=True), sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / run_files.LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with pytest.raises(OptionError, match="no other process is training in"):
            RunFolder(tmp_path, config, resume_after=0)
        assert writing.exists()
        assert (tmp_path / "metrics.jsonl").read_text()
        holder.kill()
    with RunFolder(tmp_path, config, resume_after=0):
        assert not writing.exists()


def test_a_garbage_line_is_an_error_and_stays_for_who_corrects_it(tmp_path: Path) -> None:
    config, metrics = make_config({"data": "people"}), tmp_path / "metrics.jsonl"
    metrics.write_text('{"epoch": 1}\ngarbage\n{"epoch": 2}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl is damaged: line 2"):
        RunFolder(tmp_path, config, resume_after=2)
    assert "garbage" in metrics.read_text()


@pytest.mark.parametrize("damaged", ["[]", "[" * 5000])
def test_a_damaged_environment_stays_for_who_corrects_it(tmp_path: Path, damaged: str) -> None:
    (tmp_path / run_files.ENVIRONMENT).write_text(damaged)
    with pytest.raises(DataError, match=r"environment\.json is damaged: .*; correct it or remove it"):
        RunFolder(tmp_path, make_config({"data": "people"}), resume_after=0)
    assert (tmp_path / run_files.ENVIRONMENT).read_text() == damaged
