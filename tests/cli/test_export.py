"""``stcanet export``: what it prints, and one-line errors."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stcanet.cli import app
from stcanet_export.parity.tolerance import TOLERANCES, from_bar
from stcanet_runtime.cli import run
from stcanet_runtime.inference.golden import MIN_COSINE
from stcanet_runtime.package.contents import load_manifest


def _error(done, *words: str) -> None:
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


def test_json(exported: subprocess.CompletedProcess[str]) -> None:
    assert (exported.returncode, exported.stderr) == (0, "")
    facts = json.loads(exported.stdout)
    assert set(facts["files"]) == {"model.onnx", "manifest.json", "parity.json", "golden.npz", "MODEL_CARD.md"}
    assert facts["manifest"]["opset"] == 19
    assert facts["manifest"]["source"]["trained"] is True
    assert facts["parity"]["passed"] is True
    assert facts["parity"]["min_cosine"] >= 0.99999


def test_an_untrained_preset(stcanet: Callable, tmp_path: Path) -> None:
    options = ("--input", "float32", "--part-maps", "--licence", "CC0-1.0")
    done = stcanet("export", "--preset", "stcanet-tiny", "-o", tmp_path / "package.zip", *options)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["package.zip"]
    assert "the weights are random" in done.stdout
    assert "attention is not exercised" in done.stdout
    manifest = load_manifest(tmp_path / "package.zip")
    assert manifest.source["trained"] is False
    assert manifest.licence == "CC0-1.0"
    assert manifest.input.dtype == "float32"
    assert manifest.output.part_maps == ("part_maps_2", "part_maps_3")


def test_what_int8_costs(
    stcanet: Callable, checkpoint: Path, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every other contract at once: ranges are measured on what the graph takes."""
    # Of one epoch: by the real bar the search would try each part of it, for ten times as long.
    monkeypatch.setitem(MIN_COSINE, "int8", 0.4)
    monkeypatch.setitem(TOLERANCES, "int8", from_bar(0.4, min_tau=0.1, min_top=0.1))
    contract = ("--input", "float32", "--batch", 5, "--part-maps", "--no-l2", "--target", "tensorrt")
    calibration = ("--precision", "int8", "--calibration", people, "--calibration-crops", 18)
    done = stcanet("export", checkpoint, "-o", tmp_path / "package", *contract, *calibration, "--evaluate", people)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("on people: ")]
    assert re.fullmatch(r"on people: fp32 mAP [\d.]+, rank-1 [\d.]+; int8 mAP [\d.]+, rank-1 [\d.]+", line)
    facts = load_manifest(tmp_path / "package").conversion
    costs = facts["evaluation"]
    assert costs["int8"]["delta_mAP"] == costs["int8"]["mAP"] - costs["fp32"]["mAP"]
    assert facts["target"]["checked"].startswith("static check only")
    assert facts["target"]["profile"] == {name: [5, 3, 64, 32] for name in ("min", "opt", "max")}
    assert "8 bits" in facts["scheme"]["weights"]
    assert facts["search"]["lowered"]
    # The figures are those that the finished package gives.
    done = stcanet("evaluate", tmp_path / "package", "--data", people, "--provider", "cpu", "--json")
    assert json.loads(done.stdout)["mAP"] == costs["int8"]["mAP"]


def test_there_already(stcanet: Callable, checkpoint: Path, package: Path) -> None:
    _error(stcanet("export", checkpoint, "-o", package), "--force")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "CHECKPOINT"),
        (("nowhere.pt",), "No such file or directory"),
        ((".",), "Is a directory; expected a .pt file"),
        (("nowhere.pt", "--preset", "stcanet-tiny"), "CHECKPOINT"),
        (("--preset", "stcanet-tiny", "--clip-length", "4"), "'--clip-length': must be left out: preset 'stcanet-tiny' takes"),
        (
            ("--preset", "stcanet-tiny", "--fixed-time"),
            "'--fixed-time': must be left out: preset 'stcanet-tiny' takes single images",
        ),
        (("--preset", "stcanet-tiny", "--result", "nowhere.json"), "random weights have no figures"),
        (("--preset", "stcanet-tiny", "--sign", "nowhere.key"), "error: nowhere.key: No such file or directory"),
        (("--preset", "stcanet-tiny", "--size", "256"), "HEIGHTxWIDTH"),
        (("--preset", "stcanet-tiny", "--size", "16x16"), "from 32 to 4096 pixels"),
        (("--preset", "stcanet-tiny", "--batch", "0"), "--batch"),
        (("--preset", "stcanet-tiny", "--images", "nowhere"), "nowhere"),
        (("--preset", "stcanet-tiny", "--precision", "bf16"), "no bfloat16 convolution"),
        (("--preset", "stcanet-tiny", "--precision", "int8"), "int8 is calibrated on real crops"),
        (("--preset", "stcanet-tiny", "--precision", "int8", "--calibration-crops", "32"), "needs --calibration"),
        (("--preset", "stcanet-tiny", "--calibration-method", "entropy"), "needs --calibration"),
    ],
)
def test_wrong_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        run(app, ["export", *arguments, "-o", "package"])
    assert exit_info.value.code in (1, 2)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert word in line
    assert list(tmp_path.iterdir()) == []


def test_a_text_file_as_checkpoint(stcanet: Callable, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_text("not weights\n")
    _error(stcanet("export", tmp_path / "best.pt", "-o", tmp_path / "package"), "best.pt", "not a checkpoint")


def test_keygen(stcanet: Callable, tmp_path: Path) -> None:
    pytest.importorskip("minisign")
    done = stcanet("keygen", tmp_path / "ours", "--no-password")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"ours.key", "ours.pub"}
    assert "verify --public-key" in done.stdout
    _error(stcanet("keygen", tmp_path / "ours", "--no-password"), "ours.key is there already")


def test_a_password_without_a_terminal(tmp_path: Path) -> None:
    pytest.importorskip("minisign")
    command = [sys.executable, "-m", "stcanet", "keygen", "ours"]
    # A session of its own has no terminal, whatever the tests have.
    process = {"stdin": subprocess.DEVNULL, "cwd": tmp_path, "start_new_session": True}
    done = subprocess.run(command, check=False, capture_output=True, text=True, **process)
    _error(done, "'--no-password': must be given: no terminal is here to ask for a password")
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "ignored"), [(signal.SIGTERM, False), (signal.SIGHUP, False), (signal.SIGHUP, True)])
def test_signals_leave_nothing_half_written(tmp_path: Path, number: signal.Signals, ignored: bool) -> None:
    command = [sys.executable, "-m", "stcanet", "export", "--preset", "stcanet-tiny", "-o", str(tmp_path / "package")]
    before = signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)  # as nohup does, under which tests may run
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        signal.signal(number, before)
        while not any(tmp_path.iterdir()):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        if ignored:
            time.sleep(0.2)
            assert process.poll() is None
            process.terminate()
        _, error = process.communicate()
    assert error.splitlines()[-1:] == (["error: terminated"] if ignored or number == signal.SIGTERM else [])
    assert process.returncode == (143 if ignored else 128 + number)
    assert list(tmp_path.iterdir()) == []
