"""A run that was killed and resumed ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stcanet.config import TrainConfig, make_config
from stcanet.data.datasets import load_dataset
from stcanet.engine.checkpoint import load_checkpoint
from stcanet.engine.places import located
from stcanet.engine.run_folder import run_config
from stcanet.engine.run_state import RunState, changes
from stcanet.engine.trainer import train
from stcanet.engine.validation import choose_validation
from stcanet_runtime.errors import CheckpointError, DataError, OptionError

ROOT = Path(__file__).parents[2]
SOURCES = os.pathsep.join(str(ROOT / folder) for folder in ("", "runtime", "export", "tests/stcanet"))

pytestmark = pytest.mark.usefixtures("narrow_network")

# Runs in a process of its own, which kills itself at one of three moments.
VICTIM = """
import json, os, signal, sys
from pathlib import Path
import narrow, torch
from stcanet.config import make_config
from stcanet.engine import checkpoint, run_state, trainer

moment, out, resume, config = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "resume", make_config(json.loads(sys.argv[4]))
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
save, step, record = torch.save, trainer.Learner.step, trainer.RunFolder.record
calls = {"save": 0, "step": 0}

def half_save(content, file):
    calls["save"] += 1
    save(content, file)
    if moment == "write" and calls["save"] == 5:
        file.truncate(1000)
        die()

def counted_step(*args):
    calls["step"] += 1
    if moment == "step" and calls["step"] == 6:
        die()
    return step(*args)

def recorded(self, epoch, values):
    record(self, epoch, values)
    if moment == "recorded" and epoch == 2:
        self._metrics.write('{"epoch": 3, "lo')
        self._metrics.flush()
        die()

torch.save, trainer.Learner.step, trainer.RunFolder.record = half_save, counted_step, recorded
narrow.install()
trainer.train(config, out, resume=resume)
"""


def settings(people: Path, **changes: object) -> TrainConfig:
    small = {
        "data": str(people),
        "preset": "stcanet-tiny",
        "model": {"height": 32, "width": 32},
        "backbone_weights": "none",
        "epochs": 3,
        "eval_every": 1,
        "val_fraction": 0.25,
        "identities": 4,
        "instances": 2,
        "device": "cpu",
        "checkpoint_minutes": 0.0,
        "optim": {"lr": 1e-3, "accumulate": 2, "ema_decay": 0.9, "freeze_epochs": 1},
    }
    return make_config(small, changes)


def weights(run: Path, name: str = "last.pt") -> dict[str, torch.Tensor]:
    return load_checkpoint(run / name).state_dict


def assert_same_run(run: Path, other: Path) -> None:
    for name in ("last.pt", "best.pt"):
        first, second = weights(run, name), weights(other, name)
        assert all(torch.equal(first[key], second[key]) for key in first), name
        assert load_checkpoint(run / name).metrics == load_checkpoint(other / name).metrics
    assert figures(run) == figures(other)


def figures(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in ("seconds", "images_per_second")} for line in lines]


def test_killed_three_times_it_ends_with_the_same_bits(people: Path, tmp_path: Path) -> None:
    """In the middle of an epoch, with a line of figures written and nothing else, and while a checkpoint is half written."""
    config, run, untouched = settings(people, checkpoint_minutes=1e-9), tmp_path / "killed", tmp_path / "untouched"
    for number, moment in enumerate(("step", "recorded", "write")):
        arguments = [moment, str(run), "resume" if number else "new", json.dumps(config.to_dict())]
        done = subprocess.run(
            [sys.executable, "-c", VICTIM, *arguments],
            env={**os.environ, "PYTHONPATH": SOURCES},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        if moment == "recorded":
            assert (run / "metrics.jsonl").read_text().endswith('{"epoch": 3, "lo')
    assert [path.name.split(".")[1] for path in run.glob(".*.tmp.pt")] == ["resume"]
    train(config, run, resume=True)
    train(replace(config, checkpoint_minutes=0.0), untouched)
    assert_same_run(run, untouched)
    assert [line["epoch"] for line in figures(run)] == [1, 2, 3]
    assert not list(run.glob(".*.tmp*"))


class InterruptedRunError(Exception):
    """Raised by an observer."""


class Interrupter:
    """An observer that stops a run after a number of steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def on_read(self, done: int, total: int) -> None: ...

    def on_start(self, facts: object) -> None: ...

    def on_epoch(self, epoch: int, values: object) -> None: ...

    def on_step(self, _: object) -> None:
        self.left -= 1
        if not self.left:
            raise InterruptedRunError


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_every_optimiser_resumes(people: Path, tmp_path: Path, optimizer: str) -> None:
    optim = {"optimizer": optimizer, "clip_norm": 1.0, "decay_norms": False, "ema_decay": 0.0}
    config = settings(people, epochs=1, checkpoint_minutes=1e-9, optim=optim)
    with pytest.raises(InterruptedRunError):
        train(config, tmp_path / "run", Interrupter(3))
    assert torch.load(tmp_path / "run" / "resume.pt", weights_only=True)["run"]["step"] == 2
    config = replace(config, checkpoint_minutes=0.0)
    train(config, tmp_path / "run", resume=True)
    train(config, tmp_path / "untouched")
    assert_same_run(tmp_path / "run", tmp_path / "untouched")


def test_more_epochs_continue_a_finished_run(people: Path, tmp_path: Path) -> None:
    short, long = settings(people, epochs=1), settings(people, epochs=2)
    train(short, tmp_path / "run")
    result = train(replace(long, workers=1), tmp_path / "run", resume=True)
    train(long, tmp_path / "long")
    assert_same_run(tmp_path / "run", tmp_path / "long")
    assert result.epochs == 2
    assert "epochs = 2" in (tmp_path / "run" / "config.toml").read_text()
    again = train(long, tmp_path / "run", resume=True)  # finished: nothing to do
    assert (again.best_epoch, again.metrics) == (result.best_epoch, result.metrics)
    with pytest.raises(OptionError, match="at least 2"):
        train(short, tmp_path / "run", resume=True)


def test_the_epochs_that_are_done_can_be_all_and_are_validated_then(people: Path, tmp_path: Path) -> None:
    class StopsAfterAnEpoch(Interrupter):
        def on_epoch(self, *_: object) -> None:
            raise InterruptedRunError

    config, run = settings(people, epochs=2, eval_every=2, checkpoint_minutes=1e-9), tmp_path / "run"
    with pytest.raises(InterruptedRunError):
        train(config, run, StopsAfterAnEpoch(0))
    assert not (run / "best.pt").exists()
    short = replace(config, epochs=1)
    result = train(short, run, resume=True)
    assert replace(result, seconds=0.0) == replace(train(short, run, resume=True), was_finished=False)
    train(short, tmp_path / "untouched")
    assert_same_run(run, tmp_path / "untouched")
    with pytest.raises(InterruptedRunError):
        train(config, run, Interrupter(3), resume=True)
    with pytest.raises(OptionError, match="epochs must be at least 2, which the run has begun"):
        train(short, run, resume=True)
    (run / "best.pt").unlink()
    with pytest.raises(CheckpointError, match=r"best\.pt, of epoch 1, is gone"):
        train(config, run, resume=True)


def test_what_a_run_started_from_is_remembered(people: Path, tmp_path: Path) -> None:
    first = train(settings(people, epochs=1, val_fraction=0.0), tmp_path / "first").checkpoint
    config = settings(people, epochs=1, val_fraction=0.0, init=str(first))
    told = [load_checkpoint(train(config, tmp_path / "run").checkpoint).training["init"]]
    longer = train(replace(config, epochs=2), tmp_path / "run", resume=True)
    told.append(load_checkpoint(longer.checkpoint).training["init"])
    assert told[0] == told[1]
    assert told[0].startswith("first/last.pt: ")


def test_what_would_make_another_run_is_refused_before_images_are_read(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(people, epochs=1, optim={"schedule": "cosine"})
    train(config, tmp_path / "run")
    before = (tmp_path / "run" / "last.pt").read_bytes()
    (tmp_path / "file").touch()
    monkeypatch.setattr("stcanet.engine.trainer.TrainBatches", lambda *_: pytest.fail("images were read"))
    with pytest.raises(OptionError, match="the folder of a run"):
        train(config, tmp_path / "none", resume=True)
    for out, word in (("run", "without an earlier run"), ("file", "a file is in its way"), ("file/run", "in its way")):
        with pytest.raises(OptionError, match=word):
            train(config, tmp_path / out)
    rate = replace(config.optim, lr=0.5)
    for changed, word in (
        ({"seed": 2}, "seed must be 1"),
        ({"identities": 5}, "identities must be 4"),
        ({"epochs": 2}, "cosine schedule"),
        ({"optim": rate}, r"^optim\.lr must be 0\.001, as the run that is resumed has it; .*, got 0\.5$"),
        ({"model": {"height": 32, "width": 32, "blocks": []}}, r"^model\.blocks must be left out, .*, got \[\]$"),
        ({"masks": "masks"}, "masks must be ''"),
    ):
        with pytest.raises(OptionError, match=word):
            train(replace(config, **changed), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def test_masks_may_move_with_the_data() -> None:
    before, now = (make_config({"data": "d", "masks": masks}) for masks in ("old/masks", "new/masks"))
    assert changes(before, now) == {"masks": ("old/masks", "new/masks")}
    with pytest.raises(OptionError, match="masks must be 'old/masks'"):
        changes(before, replace(now, masks=""))


def test_a_run_resumes_from_any_working_folder(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(people.parent)
    (tmp_path / "elsewhere").mkdir()
    first = train(settings(people, epochs=1, data="people", val_fraction=0.0), tmp_path / "first").checkpoint
    monkeypatch.chdir(tmp_path)
    given = {"data": f"market1501={os.path.relpath(people)}", "init": os.path.relpath(first), "cache_dir": "cache"}
    train(settings(people, epochs=1, **given), tmp_path / "run")
    kept = run_config(tmp_path / "run")
    label, _, path = kept.data.partition("=")
    assert label == "market1501"
    assert Path(path).is_absolute()
    assert Path(path).samefile(people)
    assert (kept.init, kept.cache_dir) == (str(first), str(tmp_path / "cache"))
    assert kept.backbone_weights == "none"
    assert located(settings(people, epochs=1, **given)) == kept
    monkeypatch.chdir("elsewhere")
    train(replace(kept, epochs=2), tmp_path / "run", resume=True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_other_validation_images_are_refused(people: Path, tmp_path: Path) -> None:
    """The best checkpoint would be chosen between figures of different galleries."""
    copy = shutil.copytree(people, tmp_path / "people")
    train(settings(copy, epochs=1), tmp_path / "run")
    split = choose_validation(load_dataset(copy), 0.25, settings(copy).seed)
    next(sample for sample in split.gallery if sample not in split.query).path.unlink()
    with pytest.raises(CheckpointError, match="other training or validation images"):
        train(settings(copy, epochs=2), tmp_path / "run", resume=True)


def test_other_training_images_are_refused(people: Path, tmp_path: Path) -> None:
    config = settings(people, epochs=1)
    train(config, tmp_path / "run")
    lines = ["path,pid,camid,split"]
    lines += [f"{sample.path},{sample.pid},{sample.camid},train" for sample in load_dataset(people).train[:-1]]
    (tmp_path / "fewer.csv").write_text("\n".join(lines))
    for epochs in (2, 1):  # also where nothing is left to train
        with pytest.raises(CheckpointError, match="other training or validation images"):
            train(replace(config, data=str(tmp_path / "fewer.csv"), epochs=epochs), tmp_path / "run", resume=True)
    (tmp_path / "moved").symlink_to(people)
    moved = replace(config, data=str(tmp_path / "moved"))
    assert train(moved, tmp_path / "run", resume=True).was_finished
    with pytest.raises(DataError, match="gone"):
        train(replace(config, data=str(tmp_path / "gone")), tmp_path / "run", resume=True)


def test_a_run_killed_before_its_first_state_starts_again(people: Path, tmp_path: Path) -> None:
    config = settings(people, epochs=1)
    with pytest.raises(InterruptedRunError):
        train(config, tmp_path / "run", Interrupter(2))
    assert not (tmp_path / "run" / "resume.pt").exists()
    train(config, tmp_path / "run", resume=True)
    train(config, tmp_path / "untouched")
    assert_same_run(tmp_path / "run", tmp_path / "untouched")


def test_a_finished_run_is_finished_with_or_without_its_state(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = settings(people, epochs=1), tmp_path / "run"
    first = train(config, run)
    (run / "resume.pt").unlink()
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with pytest.raises(CheckpointError, match=r"has 1 epoch behind it, but no resume\.pt"):
        train(replace(config, epochs=2), run, resume=True)
    monkeypatch.setattr("stcanet.engine.trainer.load_dataset", lambda *_: pytest.fail("images were read"))
    again = train(replace(config, workers=1), run, resume=True)
    assert again == replace(first, seconds=0.0, was_finished=True)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("missing", ["last.pt", "best.pt"])
def test_a_run_killed_between_its_figures_and_its_checkpoints_is_not_finished(
    people: Path, tmp_path: Path, missing: str
) -> None:
    config, run = settings(people, epochs=1), tmp_path / "run"
    train(config, run)
    for name in (missing, "resume.pt"):
        (run / name).unlink()
    assert not train(config, run, resume=True).was_finished
    assert (run / missing).exists()


def test_a_run_whose_state_is_gone_is_not_trained_over(people: Path, tmp_path: Path) -> None:
    config, run = settings(people, epochs=2, val_fraction=0.0), tmp_path / "run"
    train(config, run)
    (run / "resume.pt").unlink()
    before = {name: (run / name).read_bytes() for name in ("last.pt", "metrics.jsonl")}
    assert train(config, run, resume=True).was_finished
    with pytest.raises(CheckpointError, match=r"has 2 epochs behind it, but no resume\.pt"):
        train(replace(config, epochs=3), run, resume=True)
    assert {name: (run / name).read_bytes() for name in before} == before
    (run / "last.pt").unlink()  # killed in its last epoch, or so it seems
    with pytest.raises(CheckpointError, match=r"has 2 epochs behind it, but no resume\.pt"):
        train(config, run, resume=True)


def test_a_checkpoint_is_not_the_state_of_a_run(people: Path, tmp_path: Path) -> None:
    config = settings(people, epochs=1)
    train(config, tmp_path / "run")
    (tmp_path / "run" / "last.pt").replace(tmp_path / "run" / "resume.pt")
    with pytest.raises(CheckpointError, match=r"not the state of a run"):
        train(config, tmp_path / "run", resume=True)


def test_the_state_sums_zero_losses_too() -> None:
    state = RunState()
    state.add({"loss": 1.0, "triplet_loss": 0.0}, 8)
    state.add({"loss": 0.5, "triplet_loss": 0.0}, 8)
    assert (state.totals, state.step, state.images) == ({"loss": 1.5, "triplet_loss": 0.0}, 2, 16)
