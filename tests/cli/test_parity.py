"""``stcanet parity``: report, exit status, one-line errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper


def _error(done, *words: str) -> None:
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


@pytest.fixture
def other(package: Path, tmp_path: Path) -> Path:
    """The model with one weight changed, as a single file: a folder would be refused for its checksum."""
    model = onnx.load(package / "model.onnx")
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "model.head.neck.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.5), bias.name))
    onnx.save(model, tmp_path / "other.onnx")
    return tmp_path / "other.onnx"


def test_a_package_with_its_checkpoint(
    stcanet: Callable, package: Path, checkpoint: Path, people: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    done = stcanet("parity", package, "--checkpoint", checkpoint, "--images", people / "query", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads(out.read_text())
    assert report["passed"] is True
    assert report["reference"]["kind"] == "pytorch"
    assert any(name.endswith(".jpg") for name in report["crops"])


def test_a_difference_is_a_table_and_an_error(stcanet: Callable, package: Path, other: Path, tmp_path: Path) -> None:
    done = stcanet("parity", other, "--against", package, "--html", tmp_path / "parity.html")
    assert "they part at: head.neck" in done.stdout
    assert done.stdout.splitlines()[-1] == f"wrote {tmp_path / 'parity.html'}"
    assert "<b>head.neck</b>" in (tmp_path / "parity.html").read_text(encoding="utf-8")
    _error(done, "parity failed", "min cosine")
    assert done.returncode == 1
    assert "FAIL  batch 1: min cosine" in done.stdout
    report = stcanet("parity", other, "--against", package, "--json")
    assert report.returncode == 1
    assert json.loads(report.stdout)["passed"] is False


def test_bounds_can_be_set(stcanet: Callable, package: Path) -> None:
    done = stcanet("parity", package, "--against", package, "--min-cosine", "1.5")
    _error(done, "min_cosine must be above 0 and at most 1")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ["--checkpoint"]),
        (("--against", "nowhere"), ["nowhere"]),
        (("--against", "a", "--checkpoint", "b"), ["--against"]),
        (("--checkpoint", "b", "--reference-provider", "openvino"), ["--reference-provider", "PyTorch"]),
        (("--provider", "abacus"), ["--provider", "'abacus' is not known"]),
        (("--reference-provider", "abacus"), ["--reference-provider", "'abacus' is not known"]),
    ],
)
def test_wrong_options(stcanet: Callable, package: Path, options: tuple[str, ...], words: list[str]) -> None:
    _error(stcanet("parity", package, *options), *words)


@pytest.mark.parametrize("damage", ["byte", "cut", "text", "gone"])
def test_a_damaged_package(stcanet: Callable, package: Path, tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(package, copy)
    model = copy / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        model.unlink()
    else:
        model.write_bytes({"byte": bytes(content), "cut": bytes(content[:1000]), "text": b"hello"}[damage])
    _error(stcanet("parity", copy, "--against", package), "altered" if damage != "gone" else "package")


def test_verify(stcanet: Callable, package: Path, tmp_path: Path) -> None:
    done = stcanet("verify", package, "--provider", "cpu")
    assert done.returncode == 0, done.stderr
    assert "golden embeddings on 'cpu'" in done.stdout
    shutil.copytree(package, tmp_path / "copy")
    with (tmp_path / "copy" / "model.onnx").open("ab") as file:
        file.write(b"x")
    _error(stcanet("verify", tmp_path / "copy"), "was altered")
