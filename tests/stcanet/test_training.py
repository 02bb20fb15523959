"""The training loop on drawn people: it learns, it repeats, it leaves a whole run behind."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import stcanet
from stcanet.cli import app
from stcanet.config import ModelConfig, TrainConfig, load_toml, make_config
from stcanet.data.datasets import Sample, load_dataset
from stcanet.data.synthetic import SynthConfig, generate
from stcanet.data.synthetic.config import MaskLayout
from stcanet.engine.batches import TrainBatches
from stcanet.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from stcanet.engine.devices import resolve_device
from stcanet.engine.embedding import embed, evaluate_model
from stcanet.engine.learner import Learner
from stcanet.engine.trainer import train
from stcanet.engine.validation import split_validation
from stcanet.evaluation import EvaluationSettings
from stcanet.model import build_model
from stcanet_runtime.errors import CheckpointError, ConfigError, DataError, OptionError, StcanetError
from stcanet_runtime.rerank import Reranking


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


def test_an_earlier_run_is_not_overwritten(people: Path, tmp_path: Path) -> None:
    config = settings(people, epochs=1, val_fraction=0.0)
    train(config, tmp_path / "run")
    before = (tmp_path / "run" / "last.pt").read_bytes()
    with pytest.raises(OptionError, match="without an earlier run"):
        train(config, tmp_path / "run")
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


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
    assert watcher.read == [(done, 108) for done in range(1, 109)]  # all frames of the twelve identities that are trained on
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
    ("camid", "reason"), [("0", "no identity that two cameras see"), ("", "no identity that there are two")]
)
def test_why_nothing_is_held_back_is_said(people: Path, tmp_path: Path, camid: str, reason: str) -> None:
    first = {sample.pid: sample.path for sample in load_dataset(people).train}
    lines = [f"{path},{pid},{camid},train" for pid, path in first.items()]
    (tmp_path / "people.csv").write_text("\n".join(["path,pid,camid,split", *lines]))
    watcher = Stopper()
    for fraction, notes in ((0.5, [reason]), (0.001, ["val_fraction = 0.001 of "]), (0.0, [])):
        with pytest.raises(StoppedError):
            train(settings(people, data=str(tmp_path / "people.csv"), val_fraction=fraction), tmp_path / "run", watcher)
        assert [why in note for why, note in zip(notes, watcher.facts["notes"], strict=True)] == [True] * len(notes)


def test_epochs_that_leave_out_most_images_are_said(people: Path, tmp_path: Path) -> None:
    first = {sample.pid: sample.path for sample in load_dataset(people).train}
    times = dict(zip(first, (40, 40, 40, 2, 2), strict=False))
    lines = [f"{first[pid]},{pid},0,train" for pid, count in times.items() for _ in range(count)]
    (tmp_path / "people.csv").write_text("\n".join(["path,pid,camid,split", *lines]))
    watcher = Stopper()
    with pytest.raises(StoppedError):
        train(settings(people, data=str(tmp_path / "people.csv"), val_fraction=0.0, instances=2), tmp_path / "run", watcher)
    assert re.match(r"an epoch takes \d+ % of the images", *watcher.facts["notes"])


def test_nobody_is_left_to_train_on(people: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"val_fraction = 0\.99 holds all of them back"):
        train(settings(people, val_fraction=0.99), tmp_path / "run")


def test_half_size_clips(people: Path, tmp_path: Path) -> None:
    """Of single images, too: a clip shows one several times."""
    train(settings(people, **VIDEO, half_size_epochs=1, val_fraction=0.0), tmp_path / "run")


@pytest.fixture(scope="module")
def masked_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "people"
    counts = {"identities": 8, "test_identities": 2, "cameras": 2, "images_per_camera": 3}
    generate(root, SynthConfig(**counts, height=64, width=32, masks=MaskLayout.INDEXED))
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


def fake(pid: int, camid: int, number: int = 0) -> Sample:
    return Sample((Path(f"{pid}_{camid}_{number}"),), pid, camid)


def test_validation_identities_are_not_trained_on() -> None:
    samples = [fake(pid, camid, number) for pid in range(20) for camid in range(3) for number in range(2)]
    train_samples, query, gallery = split_validation(samples, 0.2, seed=1)
    held = {sample.pid for sample in query}
    assert len(held) == 4
    assert held.isdisjoint(sample.pid for sample in train_samples)
    assert {(sample.pid, sample.camid) for sample in query} == {(pid, camid) for pid in held for camid in range(3)}
    assert len(query) == 12
    assert len(train_samples) + len(gallery) == len(samples)
    assert split_validation(samples, 0.2, seed=1)[1] == query
    assert split_validation(samples, 0.2, seed=2)[1] != query


def test_only_identities_with_two_cameras_are_held_back() -> None:
    samples = [fake(pid, 0, number) for pid in range(10) for number in range(3)] + [fake(99, 0), fake(99, 1)]
    _, query, gallery = split_validation(samples, 0.3, seed=0)
    assert {sample.pid for sample in query} == {99}
    assert len(gallery) == 2


def test_without_cameras_no_query_is_in_its_own_gallery() -> None:
    samples = [fake(pid, -1, number) for pid in range(10) for number in range(3)]
    train_samples, query, gallery = split_validation(samples, 0.2, seed=0)
    assert len(query) == 2
    assert len(gallery) == 4
    assert set(query).isdisjoint(gallery)
    assert len(train_samples) == 24


def test_no_validation() -> None:
    samples = [fake(pid, camid) for pid in range(4) for camid in range(2)]
    assert split_validation(samples, 0.0, seed=0) == (tuple(samples), (), ())


def test_embedding_does_not_depend_on_the_batch_and_keeps_the_mode(people: Path) -> None:
    samples = load_dataset(people).query[:5]
    model = build_model("stcanet-tiny", height=64, width=32).train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    together, alone = embed(model, samples, 5), embed(model, samples, 1)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert embed(model, []).shape == (0, 512)


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


def test_weights_that_do_not_fit_their_settings() -> None:
    checkpoint = Checkpoint.of(build_model("stcanet-tiny"))
    with pytest.raises(StcanetError, match="do not fit"):
        replace(checkpoint, model_config=replace(checkpoint.model_config, blocks=(2,))).build()
