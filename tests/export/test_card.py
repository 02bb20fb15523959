"""The model card says what manifest and report hold, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stcanet.config import ModelConfig
from stcanet.engine.checkpoint import Checkpoint
from stcanet_export.card import model_card
from stcanet_export.evaluations import read_evaluation
from stcanet_export.package import _describe
from stcanet_export.parity.report import Check, ParityReport
from stcanet_export.parity.tolerance import Tolerance
from stcanet_runtime import InputSpec, Manifest, OutputSpec
from stcanet_runtime.errors import DataError
from stcanet_runtime.files import sha256_file

RESULT = {
    "model": "/home/somebody/runs/best.pt",
    "runs_on": "pytorch, cpu",
    "checkpoint_sha256": None,
    "data": "Market-1501",
    "mAP": 0.875,
    "mINP": 0.5,
    "cmc": [0.9, 0.91, 0.92, 0.93, 0.94] + [0.95] * 45,
    "num_valid_queries": 3368,
    "protocol": {
        "num_query": 3368,
        "num_gallery": 15913,
        "queries_in_gallery": 0,
        "num_distractors": 2798,
        "num_junk": 0,
        "data": {},
        "same_camera_rule": "off",
        "ap_rule": "rectangle",
        "metric": "cosine",
        "frames": "single image",
        "clip_length": None,
        "averaged": None,
        "flip": False,
    },
}
MANIFEST = Manifest(
    "stcanet-video",
    InputSpec("clips", 256, 128, 4, dynamic_time=True),
    OutputSpec(2048),
    18,
    "2026-01-01T00:00:00+00:00",
    "stcanet 0.1.0",
    model_sha256="0" * 64,
    licence="CC-BY-4.0",
    source={
        "trained": True,
        "epoch": 7,
        "checkpoint_sha256": "a" * 64,
        "metrics": {"val_mAP": 0.5, "val_rank1": 0.75},
        "training": {"dataset": "MARS | evil\n# title", "train_images": 12, "val_queries": 8},
    },
)
REPORT = ParityReport(
    {}, {}, ["a", "b"], Tolerance(), [Check.at_least("batch 1: min cosine", 0.9999991, 0.99999)], notes=["something"]
)


@pytest.fixture
def result(tmp_path: Path) -> Path:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(RESULT))
    return path


def test_everything_is_there(result: Path) -> None:
    source = {**MANIFEST.source, "evaluation": [read_evaluation(result)]}
    figures = {"fp32": {"mAP": 0.875, "rank1": 0.9}, "int8": {"mAP": 0.87, "rank1": 0.89, "delta_mAP": -0.005}}
    lowered = {"precision": "int8", "conversion": {"evaluation": {"data": "Market-1501", **figures}}}
    card = model_card(replace(MANIFEST, source=source, **lowered), REPORT)
    for text in (
        "# stcanet-video",
        "CC-BY-4.0",
        "any, any, 256, 128, 3",
        "4 recommended",
        "| Market-1501 | 87.50 | 90.00 |",
        "Protocol of Market-1501: 3368 queries, 15913 in the gallery (2798 distractors); camera rule: off; AP rectangle;",
        "mAP 50.00 %, rank-1 75.00 %.",
        "| epochs | 7 |",
        "| training samples | 12 |",
        "| queries held back for validation | 8 |",
        "0.9999991",
        "* something",
        "Computes in int8.",
        "* on Market-1501: fp32 mAP 87.50, rank-1 90.00; int8 mAP 87.00, rank-1 89.00\n",
    ):
        assert text in card
    assert "/home/somebody" not in card
    # What a file says cannot change what the card looks like.
    assert "| dataset | MARS \\| evil # title |" in card


def test_what_is_not_known_is_said() -> None:
    card = model_card(replace(MANIFEST, licence=None, source={"trained": False}), REPORT)
    assert "The weights are random" in card
    assert card.count("Not stated.") == 2
    assert "stcanet export --result" in card


def test_converted_weights_are_trained_for_nobody_knows_how_long() -> None:
    converted = Checkpoint(ModelConfig("stcanet-tiny"), None, {}, epoch=0, training={"converted_from": "other.pth"})
    card = model_card(replace(MANIFEST, source=_describe(converted)), REPORT)
    assert "| converted from | other.pth |" in card
    assert "random" not in card
    assert "epochs" not in card


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        json.dumps({**RESULT, "mAP": "high"}),
        json.dumps({**RESULT, "cmc": []}),
        json.dumps({**RESULT, "num_valid_queries": "many"}),
        json.dumps({**RESULT, "mINP": float("nan")}),
        json.dumps({**RESULT, "protocol": {}}),
        json.dumps({**RESULT, "protocol": {**RESULT["protocol"], "metric": float("nan")}}),
        json.dumps({**RESULT, "data": "no text: \ud800"}),
        '{"mAP": 1',
        "[" * 100_000,
    ],
)
def test_other_files_are_no_results(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    reason = "it has no field 'model'" if text == "{}" else ""
    with pytest.raises(DataError, match=f"no result of 'stcanet evaluate --out': {reason}"):
        read_evaluation(tmp_path / "result.json")


def test_figures_of_another_checkpoint_are_refused(tmp_path: Path) -> None:
    for name in ("ours.pt", "other.pt"):
        (tmp_path / name).write_text(name)
    result = tmp_path / "result.json"
    result.write_text(json.dumps({**RESULT, "checkpoint_sha256": sha256_file(tmp_path / "ours.pt")}))
    assert read_evaluation(result, tmp_path / "ours.pt") == read_evaluation(result)
    with pytest.raises(DataError, match=r"of another checkpoint than .*other\.pt"):
        read_evaluation(result, tmp_path / "other.pt")
