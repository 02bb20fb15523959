"""``stcanet export``: what it prints, and one-line errors."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stcanet.cli import app
from stcanet_runtime.cli import run
from stcanet_runtime.manifest import load_manifest


def _error(done, *words: str) -> None:
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


def test_json(exported: subprocess.CompletedProcess[str]) -> None:
    assert (exported.returncode, exported.stderr) == (0, "")
    facts = json.loads(exported.stdout)
    assert set(facts["files"]) == {"model.onnx", "manifest.json", "parity.json", "golden.npz"}
    assert facts["manifest"]["opset"] == 19
    assert facts["manifest"]["source"]["trained"] is True
    assert facts["parity"]["passed"] is True
    assert facts["parity"]["min_cosine"] >= 0.99999


def test_an_untrained_preset(stcanet: Callable, tmp_path: Path) -> None:
    done = stcanet("export", "--preset", "stcanet-tiny", "-o", tmp_path / "package")
    assert done.returncode == 0, done.stderr
    assert "the weights are random" in done.stdout
    assert "attention is not exercised" in done.stdout
    assert load_manifest(tmp_path / "package").source["trained"] is False


def test_there_already(stcanet: Callable, checkpoint: Path, package: Path) -> None:
    _error(stcanet("export", checkpoint, "-o", package), "--force")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "CHECKPOINT"),
        (("nowhere.pt",), "does not exist"),
        (("nowhere.pt", "--preset", "stcanet-tiny"), "CHECKPOINT"),
        (("--preset", "stcanet-huge"), "preset must be"),
        (("--preset", "stcanet-tiny", "--opset", "9"), "opset must be from 18 to 23"),
        (("--preset", "stcanet-tiny", "--clip-length", "4"), "takes single images"),
        (("--preset", "stcanet-tiny", "--images", "nowhere"), "nowhere"),
        (("--preset", "stcanet-tiny", "--precision", "bf16"), "no bfloat16 convolution"),
        (("--preset", "stcanet-tiny", "--precision", "int8"), "calibration must be given for int8"),
        (("--preset", "stcanet-tiny", "--target", "coral"), "target must be"),
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


def test_help_has_examples(stcanet: Callable) -> None:
    done = stcanet("export", "--help", without=("torch", "onnx"))
    assert done.returncode == 0
    assert "stcanet export runs/market/best.pt -o package/" in done.stdout
