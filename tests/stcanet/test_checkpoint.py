"""Checkpoints: written whole, read without running code, refused where they are damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stcanet.config import ModelConfig
from stcanet.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from stcanet.model import build_model
from stcanet_runtime.errors import CheckpointError, StcanetError


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    model = build_model("stcanet-tiny", num_classes=7)
    save_checkpoint(Checkpoint.of(model, 3, metrics={"val_mAP": 0.5}, training={"dataset": "x"}), tmp_path / "a.pt")
    loaded = load_checkpoint(tmp_path / "a.pt")
    assert (loaded.epoch, loaded.num_classes, loaded.metrics, loaded.training) == (3, 7, {"val_mAP": 0.5}, {"dataset": "x"})
    images = torch.rand(2, 3, 128, 64)
    torch.testing.assert_close(loaded.build()(images).features, model.eval()(images).features)
    assert loaded.build().num_classes is None
    assert loaded.build(classifier=True).num_classes == 7


def test_settings_without_an_end_are_no_damage(tmp_path: Path) -> None:
    training = {"config": {"checkpoint_minutes": float("inf")}}
    save_checkpoint(Checkpoint(ModelConfig("stcanet-tiny"), None, {}, 0, training=training), tmp_path / "a.pt")
    assert load_checkpoint(tmp_path / "a.pt").training == training


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")  # of torch, which says how long it takes
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state_dict": [torch.zeros(2)]}, "its state_dict is not names to tensors"),
        ({"state_dict": {1: torch.zeros(2)}}, "its state_dict is not names to tensors"),
        ({"state_dict": {"a": torch.eye(2).to_sparse()}}, "its state_dict is not names to tensors"),
        ({"model_config": {"preset": "stcanet-tiny", "height": 128.5}}, r"model\.height must be a whole number, got 128\.5"),
        ({"model_config": {"preset": "stcanet-tiny", "num_parts": 10**9}}, "num_parts must be from 1 to"),
        ({"model_config": {"height": 128}}, r"model\.preset is missing"),
        ({"model_config": 5}, "damaged"),
        ({"num_classes": 10**12}, "does not have the 1000000000000 classes"),
        ({"num_classes": "3"}, "does not have the 3 classes"),
        ({"epoch": "x"}, "its epoch is of type str"),
        ({"metrics": [1]}, "its metrics is of type list"),
        ({"metrics": {"mAP": float("nan")}}, "damaged"),
        ({"metrics": {"mAP": "x"}}, "its metrics must be names and numbers, got 'mAP': 'x'"),
        ({"metrics": {"mAP": None}}, "got 'mAP': None"),
        ({"metrics": {1: 0.5}}, r"got 1: 0\.5"),
        ({"metrics": {"mAP": 10**400}}, "damaged"),
        ({"training": {"a": {1, 2}}}, "damaged"),
        ({"training": {"dataset": "no text: \ud800"}}, "damaged"),
    ],
)
def test_damaged_checkpoints_are_refused_before_a_network_is_made(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    save_checkpoint(Checkpoint(ModelConfig("stcanet-tiny"), None, {}, 0), tmp_path / "a.pt")
    torch.save({**torch.load(tmp_path / "a.pt", weights_only=True), **change}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "a.pt")


def test_a_disk_that_is_full_is_told_as_such_and_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    """By a limit on the size of files, which to a program is a disk without room; torch alone says 'unexpected pos'."""
    resource = pytest.importorskip("resource")
    checkpoint = Checkpoint.of(build_model("stcanet-tiny"))
    save_checkpoint(checkpoint, tmp_path / "a.pt")
    before, limits = (tmp_path / "a.pt").read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            save_checkpoint(replace(checkpoint, epoch=9), tmp_path / "a.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value).endswith(f"File too large: '{tmp_path / 'a.pt'}'")
    assert (tmp_path / "a.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


class Hostile:
    """Unpickling this would run code that leaves a file in the working directory."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch code-was-run",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        {"state_dict": {}},
        {"format": "stcanet-checkpoint", "version": 99},
        {"format": "stcanet-checkpoint", "version": 1},
        Hostile(),
    ],
    ids=["empty", "text", "foreign", "future", "damaged", "hostile"],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"x\.pt") as caught:
        load_checkpoint(path)
    assert ("'stcanet convert' makes one" in str(caught.value)) == (not isinstance(content, dict) or "format" not in content)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.pt"]


def test_facts_of_a_run_are_as_a_package_keeps_them(tmp_path: Path) -> None:
    training = {1: 2, "train_images": {3: (4, 5)}}
    save_checkpoint(Checkpoint(ModelConfig("stcanet-tiny"), None, {}, 0, {"val_mAP": 1}, training), tmp_path / "a.pt")  # type: ignore[arg-type]
    loaded = load_checkpoint(tmp_path / "a.pt")
    assert (loaded.metrics, loaded.training) == ({"val_mAP": 1.0}, {"1": 2, "train_images": {"3": [4, 5]}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.to(torch.int8), "int8 for float32"),
        (lambda weights: weights.to(torch.complex64), "complex64 for float32"),
        (lambda weights: weights.double() * 1e300, "no finite numbers"),
        (lambda weights: weights * torch.nan, "no finite numbers"),
        (
            lambda weights: weights[:1, :1, :1, :1].expand(10**9, 64, 3, 3),
            r"1 of another shape \(the first is 'backbone\..*', \[10+, 64, 3, 3\] for \[64, 64, 3, 3\]\)",
        ),
    ],
)
def test_weights_that_torch_would_make_into_others(change: Callable[[Tensor], Tensor], message: str) -> None:
    checkpoint, name = Checkpoint.of(build_model("stcanet-tiny")), "backbone.stages.0.0.conv1.weight"
    state = {**checkpoint.state_dict, name: change(checkpoint.state_dict[name])}
    with pytest.raises(CheckpointError, match=f"do not fit .*{message}") as caught:
        replace(checkpoint, state_dict=state).build()
    assert name in str(caught.value)
    half = {key: value.bfloat16() if value.is_floating_point() else value for key, value in checkpoint.state_dict.items()}
    replace(checkpoint, state_dict=half).build()


def test_weights_that_do_not_fit_their_settings() -> None:
    checkpoint = Checkpoint.of(build_model("stcanet-tiny"))
    with pytest.raises(StcanetError, match="do not fit"):
        replace(checkpoint, model_config=replace(checkpoint.model_config, blocks=(2,))).build()
