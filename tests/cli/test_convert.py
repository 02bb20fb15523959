"""`stcanet convert` as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from stcanet.model import build_model


def test_what_became_of_every_entry(stcanet: Callable, tmp_path: Path) -> None:
    torch.save(build_model("stcanet-tiny", blocks=()).state_dict(), tmp_path / "x.pth")
    options = ("-o", tmp_path / "ours.pt", "--preset", "stcanet-tiny", "--blocks", "none")
    done = stcanet("convert", tmp_path / "x.pth", *options, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert done.stdout == json.dumps(facts, indent=2) + "\n"
    assert (facts["out"], facts["last_stride"], facts["missing"]) == (str(tmp_path / "ours.pt"), 1, [])
    assert (tmp_path / "ours.pt").is_file()
