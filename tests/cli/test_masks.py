"""`stcanet masks` as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from stcanet.data.masks import MaskFolder


def test_label_maps_to_masks(stcanet: Callable, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    Image.fromarray(np.full((6, 3), 13, np.uint8)).save(labels / "0001.png")
    done = stcanet("masks", labels, "--out", tmp_path / "masks", "--json", without=("torch", "onnx"))
    assert done.returncode == 0, done.stderr
    facts = {"out": str(tmp_path / "masks"), "masks": 1, "written": 1, "sheet": None}
    assert done.stdout == json.dumps(facts, indent=2) + "\n"
    (tmp_path / "images").mkdir()
    Image.new("RGB", (3, 6)).save(tmp_path / "images" / "0001.png")
    sheet = tmp_path / "sheet.png"
    done = stcanet("masks", labels, "--out", tmp_path / "masks", "--images", tmp_path / "images", "--sheet", sheet)
    assert done.stdout.splitlines() == [f"{tmp_path / 'masks'}: 0 masks written, 1 was there", f"wrote {sheet}"]
    assert (MaskFolder(tmp_path / "masks").read("0001.jpg", 6, 3) == 1).all()


def test_wrong_options_are_one_line(stcanet: Callable, tmp_path: Path) -> None:
    (labels := tmp_path / "labels").mkdir()
    wrong = [
        ([], "LABELS"),
        ([labels, "--sheet", "x.png"], "--images"),
        ([labels], "no label maps"),
        ([tmp_path], "--out"),
        (["--parser", "x.onnx", "--images", tmp_path], "--out"),
        ([labels, "--images", tmp_path, "--sheet", tmp_path / "x.png"], "--out"),
        ([labels, "--provider", "cuda"], "--provider"),
    ]
    for arguments, word in wrong:
        done = stcanet("masks", *arguments, "--out", tmp_path / "masks")
        assert done.returncode != 0
        assert done.stderr.startswith("error: ")
        assert word in done.stderr
        assert len(done.stderr.splitlines()) == 1
