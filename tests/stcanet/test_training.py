"""The training loop on drawn people: it learns, it repeats, it leaves a whole run behind."""

from __future__ import annotations

import json
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import stcanet
from stcanet.cli import app
from stcanet.config import TrainConfig, load_toml, make_config
from stcanet.data.datasets import load_dataset
from stcanet.data.synthetic import SynthConfig, generate
from stcanet.engine.batches import TrainBatches
from stcanet.engine.checkpoint import load_checkpoint
from stcanet.engine.devices import resolve_device
from stcanet.engine.embedding import evaluate_model
from stcanet.engine.learner import Learner
from stcanet.engine.run_state import RunState
from stcanet.engine.trainer import train
from stcanet.engine.validation import choose_validation
from stcanet.evaluation import EvaluationSettings
from stcanet.model import build_model
from stcanet_runtime.errors import CheckpointError, ConfigError, DataError, ImageError, OptionError
from stcanet_runtime.retrieval.rerank import Reranking


def settings(people: Path, **changes: object) -> TrainConfig:
    small = {
        "data": str(people),
        "preset": "stcanet-tiny",
        "model": {"height": 32, "width": 32},
        "backbone_weights": "none",
        "epochs": 2,
        "half_size_epochs": 0,
        "eval_every": 1,
        "identities": 4,
        "instances": 4,
        "device": "cpu",
        "optim": {"lr": 1e-3},
    }
    return make_config(small, changes)


LARGER = {"model": {"height": 64, "width": 32}}


def test_from_python_as_by_the_commands(people: Path, tmp_path: Path) -> None:
    run = stcanet.train(settings(people, epochs=1, val_fraction=0.0), str(tmp_path / "run"))
    result = stcanet.evaluate(run.checkpoint, people, EvaluationSettings(reranking=Reranking()), device="cpu")
    arguments = ["--data", str(people), "--rerank", "--device", "cpu", "--json"]
    found = CliRunner().invoke(app, ["evaluate", str(run.checkpoint), *arguments])
    assert json.loads(found.stdout) == json.loads(json.dumps(result.to_dict()))
    with pytest.raises(DataError, match="nobody"):
        stcanet.evaluate(run.checkpoint, tmp_path / "nobody")


def test_a_run_leaves_everything_behind(people: Path, tmp_path: Path) -> None:
    result = train(settings(people, val_fraction=0.25), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert {"loss", "identity_loss", "triplet_loss", "accuracy", "lr", "images_per_second", "val_mAP"} <= set(lines[0])
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    assert make_config(load_toml(tmp_path / "run" / "config.toml")) == settings(people, val_fraction=0.25)
    assert result.checkpoint == tmp_path / "run" / "best.pt"
    assert result.metrics["val_mAP"] == max(line["val_mAP"] for line in lines)
    assert load_checkpoint(result.checkpoint).epoch == result.best_epoch


def test_training_learns(people: Path, tmp_path: Path) -> None:
    """Six short epochs cut the loss and put mAP on unseen people clearly above an untrained network."""
    dataset = load_dataset(people)
    torch.manual_seed(1)
    untrained = evaluate_model(build_model("stcanet-tiny", height=64, width=32), dataset.query, dataset.gallery).mAP
    result = train(settings(people, **LARGER, epochs=6, val_fraction=0.0), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    assert result.checkpoint.name == "last.pt"
    trained = evaluate_model(load_checkpoint(result.checkpoint).build(), dataset.query, dataset.gallery).mAP
    assert trained > untrained + 0.05


def test_the_same_seed_gives_the_same_weights(people: Path, tmp_path: Path) -> None:
    def weights(name: str, **changes: object) -> dict[str, torch.Tensor]:
        # Whatever the caller's random state is, and however many workers read the images.
        torch.manual_seed(random.randrange(1000))
        np.random.seed(random.randrange(1000))  # noqa: NPY002
        config = settings(people, epochs=1, val_fraction=0.0, **changes)
        return load_checkpoint(train(config, tmp_path / name).checkpoint).state_dict

    first, again, workers, other = weights("a"), weights("b"), weights("c", workers=1), weights("d", seed=2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(torch.equal(first[name], workers[name]) for name in first)
    assert not torch.equal(first["head.classifier.weight"], other["head.classifier.weight"])


def test_training_leaves_the_callers_random_numbers_alone(people: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(settings(people, epochs=1, val_fraction=0.0), tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


def test_half_size_and_bf16_run(people: Path, tmp_path: Path) -> None:
    config = settings(people, **LARGER, half_size_epochs=1, amp="on", loss={"distance": "euclidean"}, val_fraction=0.0)
    checkpoint = load_checkpoint(train(config, tmp_path / "run").checkpoint)
    assert checkpoint.training["precision"] == "bf16"
    assert all(torch.isfinite(value).all() for value in checkpoint.state_dict.values())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no folder here in which even root writes nothing")
def test_a_place_where_nothing_can_be_written_is_found_before_the_images_are_read(people: Path) -> None:
    watcher = Watcher()
    with pytest.raises(OSError, match="/proc/run"):
        train(settings(people), Path("/proc/run"), watcher)
    assert not watcher.read


def test_weights_that_are_not_there_are_found_before_the_images_are_read(people: Path, tmp_path: Path) -> None:
    for start in ("init", "backbone_weights"):
        watcher = Watcher()
        with pytest.raises(CheckpointError, match="nowhere"):
            train(settings(people, **{start: "nowhere.pt"}), tmp_path / "run", watcher)
        assert not watcher.read


def manifest_of_tracklets(people: Path, path: Path) -> Path:
    """The same people as tracklets: all images of one person by one camera."""
    lines = ["path,pid,camid,split,track,frame"]
    for split in ("train", "query", "gallery"):
        samples = getattr(load_dataset(people), split)
        tracks = sorted({(sample.pid, sample.camid) for sample in samples})
        for frame, sample in enumerate(samples):
            track = tracks.index((sample.pid, sample.camid))
            lines.append(f"{sample.path},{sample.pid},{sample.camid},{split},{track},{frame}")
    path.write_text("\n".join(lines))
    return path


VIDEO = {"preset": "stcanet-video", "model": {"backbone": "resnet18", "clip_length": 2}, "epochs": 1}


def test_a_clip_preset_trains_on_tracklets_and_repeats(people: Path, tmp_path: Path) -> None:
    data = str(manifest_of_tracklets(people, tmp_path / "people.csv"))
    changes = {**VIDEO, "data": data, "instances": 2, "val_fraction": 0.25, "clips": {"sampling": "random"}}
    changes["eval_every"] = 5  # the last epoch is validated all the same
    watcher = Watcher()
    first = train(settings(people, **changes), tmp_path / "a", watcher)
    again = train(settings(people, **changes, workers=1, cache="none"), tmp_path / "b")
    assert first.metrics["val_mAP"] == again.metrics["val_mAP"] > 0
    states = [load_checkpoint(result.checkpoint).state_dict for result in (first, again)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert watcher.facts["kind"] == "tracklets"
    # Two frames of each tracklet that is held back, then all frames of the twelve identities that are trained on.
    assert watcher.read == [(done, frames) for frames in (24, 108) for done in range(1, frames + 1)]
    recorded = json.loads((tmp_path / "a" / "metrics.jsonl").read_text())
    assert recorded["images_per_second"] * recorded["seconds"] == pytest.approx(2 * 8 * watcher.steps)


class Watcher:
    """An observer that remembers what it was told."""

    def __init__(self) -> None:
        self.read: list[tuple[int, int]] = []
        self.facts: dict[str, object] = {}
        self.steps = 0

    def on_read(self, done: int, total: int) -> None:
        self.read.append((done, total))

    def on_start(self, facts: dict[str, object]) -> None:
        self.facts = facts

    def on_step(self, _: object) -> None:
        self.steps += 1

    def on_epoch(self, epoch: int, values: object) -> None: ...


class StoppedError(Exception):
    """Raised before the first batch."""


class Stopper(Watcher):
    """One that wants to know how a run starts, and no more."""

    def on_start(self, facts: dict[str, object]) -> None:
        super().on_start(facts)
        raise StoppedError


@pytest.mark.parametrize(
    ("camid", "reason"),
    [("0", "identities that two cameras see is 0, and it takes 4"), ("", "identities that have two images is 0")],
)
def test_why_nothing_is_held_back_is_said(people: Path, tmp_path: Path, camid: str, reason: str) -> None:
    first = {sample.pid: sample.path for sample in load_dataset(people).train}
    lines = [f"{path},{pid},{camid},train" for pid, path in first.items()]
    (tmp_path / "people.csv").write_text("\n".join(["path,pid,camid,split", *lines]))
    watcher = Stopper()
    for fraction, notes in ((0.5, [reason]), (0.001, ["val_fraction = 0.001 of "]), (0.0, [])):
        with pytest.raises(StoppedError):
            train(settings(people, data=str(tmp_path / "people.csv"), val_fraction=fraction), tmp_path / "run", watcher)
        said = [note for note in watcher.facts["notes"] if "held back" in note]
        assert [why in note for why, note in zip(notes, said, strict=True)] == [True] * len(notes)


def test_epochs_that_leave_out_most_images_are_said(people: Path, tmp_path: Path) -> None:
    first = {sample.pid: sample.path for sample in load_dataset(people).train}
    times = dict(zip(first, (40, 40, 40, 2, 2), strict=False))
    lines = [f"{first[pid]},{pid},0,train" for pid, count in times.items() for _ in range(count)]
    (tmp_path / "people.csv").write_text("\n".join(["path,pid,camid,split", *lines]))
    watcher = Stopper()
    with pytest.raises(StoppedError):
        train(settings(people, data=str(tmp_path / "people.csv"), val_fraction=0.0, instances=2), tmp_path / "run", watcher)
    assert re.match(r"an epoch takes \d+ % of the images", watcher.facts["notes"][0])


def test_what_comes_to_nothing_in_so_few_epochs_is_said(people: Path, tmp_path: Path) -> None:
    schedule = {"optim": {"freeze_epochs": 9}, "loss": {"mask_start_epoch": 3}, "val_fraction": 0.9}
    watcher = Stopper()
    with pytest.raises(StoppedError):
        train(settings(people, **schedule), tmp_path / "run", watcher)
    assert watcher.facts["notes"] == [
        "val_fraction = 0.9 of 16 identities is 14, and 8 are held back: half of the 16 that two cameras see",
        "of 2 epochs, optim.freeze_epochs = 9: the backbone is not trained",
        "of 2 epochs, optim.milestones begin at 20: the learning rate does not drop",
    ]


def test_nobody_to_train_on(people: Path, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(f"path,pid,camid,split\n{load_dataset(people).query[0].path},1,1,query\n")
    with pytest.raises(DataError, match="has no images to train on"):
        train(settings(people, data=str(tmp_path / "people.csv")), tmp_path / "run")


def test_a_damaged_image_of_the_validation_stops_before_the_first_epoch(people: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(people, tmp_path / "people")
    config = settings(copy, val_fraction=0.25)
    held_back = choose_validation(load_dataset(copy), 0.25, config.seed).gallery[0].path
    held_back.write_bytes(held_back.read_bytes()[:300])
    with pytest.raises(ImageError, match=held_back.name):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_is_free_after_a_run_without_an_epoch(people: Path, tmp_path: Path) -> None:
    """Its settings may be mended, and then the same command is given again."""
    failing = settings(people, val_fraction=0.0, epochs=1, optim={"lr": 1e30})
    for _ in range(2):
        with pytest.raises(ConfigError, match="lower the learning rate"):
            train(failing, tmp_path / "run")
    train(replace(failing, optim=replace(failing.optim, lr=1e-3)), tmp_path / "run")
    with pytest.raises(OptionError, match="without an earlier run"):
        train(failing, tmp_path / "run")


def test_weights_that_are_no_numbers_are_not_kept(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverged(learner: Learner, *_: object) -> dict[str, float]:
        learner.model.head.neck.running_var.fill_(float("inf"))
        return {"loss": 1.0, "accuracy": 0.0}

    monkeypatch.setattr(Learner, "step", diverged)
    with pytest.raises(ConfigError, match=r"weights became nan or inf in epoch 1; lower optim\.lr \(now 0\.001\)"):
        train(settings(people, val_fraction=0.25), tmp_path / "run")
    assert not (tmp_path / "run" / "last.pt").exists()
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == ""


def test_a_batch_without_any_part_leaves_the_figure_of_the_epoch() -> None:
    state = RunState()
    for overlap in (0.25, float("nan"), 0.75):
        state.add({"loss": 3.0, "part_iou": overlap}, 8)
    assert state.means() == {"loss": 3.0, "part_iou": 0.5}
    state.end_epoch()
    state.add({"loss": 1.0, "part_iou": float("nan")}, 8)
    assert state.means() == {"loss": 1.0}


def test_half_size_clips(people: Path, tmp_path: Path) -> None:
    """Of single images, too: a clip shows one several times."""
    train(settings(people, **VIDEO, half_size_epochs=1, val_fraction=0.0), tmp_path / "run")


@pytest.fixture(scope="module")
def masked_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "people"
    counts = {"identities": 8, "test_identities": 2, "cameras": 2, "images_per_camera": 3}
    generate(root, SynthConfig(**counts, height=64, width=32, masks=True))
    return root


def test_masks_teach_the_part_maps(masked_people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch, again and again; the mask loss starts with the second epoch."""
    loss = {"triplet_weight": 0.0, "mask_start_epoch": 2}
    config = settings(masked_people, masks=str(masked_people / "masks"), optim={"lr": 1e-2}, loss=loss)
    torch.manual_seed(0)
    device = torch.device("cpu")
    batches = TrainBatches(load_dataset(masked_people).train, config, device)
    learner = Learner(build_model("stcanet-tiny", 6, height=64, width=32).train(), config, device)
    batch = next(batches.read(batches.plan(1), 1))
    assert batch.masks is not None
    assert batch.masks.unique().tolist() == [0, 1, 2, 3, 4]
    assert "mask_loss" not in learner.step(batch, 1, 0, 1)
    values = [learner.step(batch, 2, 0, 1) for _ in range(16)]
    assert values[-1]["mask_loss"] < 0.9 * values[0]["mask_loss"]
    assert values[-1]["part_iou"] > values[0]["part_iou"]
    assert values[0]["loss"] == pytest.approx(values[0]["identity_loss"] + 0.5 * values[0]["mask_loss"])
    # A part that neither the maps nor the masks of a batch have does not count.
    monkeypatch.setattr("stcanet.engine.learner.part_overlap", lambda *_: torch.tensor([[[1, 2], [0, 0]]]))
    assert learner.step(batch, 2, 0, 1)["part_iou"] == 0.5


def test_other_losses_train(people: Path, tmp_path: Path) -> None:
    loss = {"triplet_weight": 0.0, "circle_weight": 1.0, "center_weight": 0.0005}
    train(settings(people, epochs=1, val_fraction=0.0, loss=loss), tmp_path / "run")
    values = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    expected = values["identity_loss"] + values["circle_loss"] + 0.0005 * values["center_loss"]
    assert values["loss"] == pytest.approx(expected, rel=1e-5)
    assert not {"mask_loss", "part_iou"} & set(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (VIDEO, "single images; preset 'stcanet-video' takes clips"),
        ({"model": {"blocks": []}}, "has none"),
        ({"model": {"num_parts": 5}}, "num_parts = 5"),
    ],
)
def test_masks_need_part_maps(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config({"data": "x", "masks": "y", **changes})


def test_missing_masks_stop_a_run_before_it_starts(people: Path, masked_people: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="have no part mask"):
        train(settings(people, masks=str(masked_people / "masks")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_too_few_identities(people: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a batch takes 40 identities"):
        train(settings(people, identities=40), tmp_path / "run")


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "mps", "gpu"])
def test_a_device_that_is_not_here(device: str) -> None:
    with pytest.raises(OptionError, match="device"):
        resolve_device(device)


def test_loss_that_explodes_is_an_error(people: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lower the learning rate"):
        train(settings(people, epochs=30, val_fraction=0.0, optim={"lr": 1e18}), tmp_path / "run")
