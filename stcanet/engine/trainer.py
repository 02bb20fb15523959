"""The training loop.

epochs of batches → learner → validation → run folder
"""

from __future__ import annotations

import hashlib
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from stcanet.config import NO_WEIGHTS, TrainConfig
from stcanet.data.datasets import load_dataset
from stcanet.data.frames import check_readable
from stcanet.data.loader import label_map
from stcanet.data.scoring import embed_sides, score
from stcanet.engine import run_files
from stcanet.engine.batches import TrainBatches
from stcanet.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from stcanet.engine.distributed import World, joined
from stcanet.engine.embedding import embed
from stcanet.engine.foreign import LoadReport, load_foreign
from stcanet.engine.learner import Learner
from stcanet.engine.observer import Observer, StepReport
from stcanet.engine.part_maps import record_part_maps
from stcanet.engine.places import located
from stcanet.engine.run_folder import RunFolder, check_unused, run_config, saved_state
from stcanet.engine.run_state import RunState, changes, load_state, save_state
from stcanet.engine.validation import Split, choose_validation, validation_frames
from stcanet.model import STCANet, build_model
from stcanet_runtime.errors import CheckpointError, ConfigError, DataError, OptionError

BATCH_SIZE = 64
"""Images of a forward pass of the validation."""


@dataclass(frozen=True)
class TrainResult:
    """Where a run ended."""

    checkpoint: Path
    """The checkpoint to use: the best by validation mAP, or the last without a validation split."""
    epochs: int
    best_epoch: int
    metrics: dict[str, float]
    seconds: float
    was_finished: bool = False
    """Whether the run was finished before, so that nothing was trained now."""


def train(config: TrainConfig, out: Path | str, observer: Observer | None = None, resume: bool = False) -> TrainResult:
    """Train a network and leave a run folder.

    Args:
        config: What to train, on what, and how.
        out: The run folder; must not hold an earlier run, or with `resume` must.
        observer: Told about progress.
        resume: Go on with the run in `out`, wherever it was interrupted. The weights become those of a run that never was.
            Of a run that is finished nothing is read but its figures and checkpoints, and `data` where it has moved.

    Raises:
        DataError: The data cannot be read, or is too small for a batch.
        ConfigError: The settings ask for what cannot be done here.
        CheckpointError: Backbone weights cannot be had, or the state of a run is gone or cannot be read.
        OptionError: There is an earlier run where none should be or none where one should; or a run is to be resumed
            with settings that would make it another run.
    """
    config, out = located(config), Path(out)
    changed, state = None, None
    if resume:
        before = located(run_config(out))
        changed, done = changes(before, config), _finished(out, before.epochs)
        if done and "epochs" not in changed:
            if "data" in changed:
                _check_same_images(config, out / run_files.STATE)
            return done
        state = saved_state(out, done is not None)
    else:
        check_unused(out)
    with joined(config.device) as (world, device):
        watching = observer if world.is_main else None
        run = _Run(config, state, changed, world, device, watching)
        world.wait()  # until all have read what the main process is about to write
        return run.train(out, watching)


def _finished(out: Path, epochs: int) -> TrainResult | None:
    """What a run of so many epochs has left; None where something is missing. What it would go on from may be gone."""
    rows = run_files.read_metrics(out / run_files.METRICS)
    if max((row["epoch"] for row in rows), default=0) != epochs:
        return None
    best = run_files.best_epoch(rows)
    validated = "val_mAP" in best
    used = out / (run_files.BEST if validated else run_files.LAST)
    try:  # a run may be killed between its figures and its checkpoints
        left = load_checkpoint(out / run_files.LAST).epoch, load_checkpoint(used).epoch
    except CheckpointError:
        return None
    if left != (epochs, best["epoch"]):
        return None
    metrics = {name: value for name, value in best.items() if name != "epoch"} if validated else {}
    return TrainResult(used, epochs, best["epoch"], metrics, 0.0, was_finished=True)


def _check_same_images(config: TrainConfig, state: Path) -> None:
    """Raise where a finished run is resumed with data that is not its own, as for one that goes on.

    Without a state, which a finished run need not have, nothing says which images were its own.
    """
    split = choose_validation(load_dataset(config.data), config.val_fraction, config.seed)
    if state.is_file():
        load_state(state, _fingerprint(split))


class _Run:
    """The parts of one run, put together once; with the file of a state, as they were when it was saved.

    Args:
        config: Settings.
        state_file: To go on from; None for a run from its beginning.
        changed: Settings that a run which is resumed has otherwise than before; None for a new one.
        world: The processes.
        device: This one's.
        observer: Told about the images that are read.
    """

    def __init__(
        self,
        config: TrainConfig,
        state_file: Path | None,
        changed: dict[str, Any] | None,
        world: World,
        device: torch.device,
        observer: Observer | None,
    ) -> None:
        dataset = load_dataset(config.data)
        self.config, self.dataset, self.world = config, dataset, world
        self.split = choose_validation(dataset, config.val_fraction, config.seed)
        self.train_samples, self.query, self.gallery, _ = self.split
        if not self.train_samples:
            raise DataError(f"{dataset.root} has no images to train on")
        self.fingerprint, self.clip_length = _fingerprint(self.split), config.model_config.clip_length or 1
        self.state, learnt = load_state(state_file, self.fingerprint) if state_file else (RunState(), None)
        # Where a run that is resumed goes on, and with what; None for a new one.
        where = {"epoch": self.state.epoch, "step": self.state.step, "changed": changed}
        self.resumed = None if changed is None else where
        begun = self.state.epoch + (self.state.step > 0)
        if config.epochs < begun:
            raise OptionError("epochs", config.epochs, f"at least {begun}, which the run has begun")
        if state_file and self.state.best_epoch and not (best := state_file.with_name(run_files.BEST)).exists():
            raise CheckpointError(
                f"{best}, of epoch {self.state.best_epoch}, is gone; put it back, or train anew into another folder"
            )
        # What is restored anyway need not be downloaded or read once more.
        start = replace(config, backbone_weights=NO_WEIGHTS, init="") if learnt else config
        model, taken = _build(start, len(label_map(self.train_samples)))
        if taken:
            # It goes into packages, to which the folders of this machine are of no concern.
            self.state.init = f"{Path(*Path(config.init).parts[-2:])}: {taken}"
        self.learner = Learner(model, config, device, world)
        if learnt:
            self.learner.load_state_dict(learnt)
        # Last, since it decodes all images, which takes long. Those of the validation would stop a run after hours.
        progress = observer.on_read if observer else None
        check_readable(validation_frames(self.split, self.clip_length), progress)
        self.batches = TrainBatches(self.train_samples, config, device, world, progress)

    def train(self, out: Path, observer: Observer | None) -> TrainResult:
        """Train to the end."""
        start = time.perf_counter()
        if observer:
            told = {"images_from": self.batches.where, "notes": self._notes(), "resumed": self.resumed}
            observer.on_start({**self._facts(), **told})
        with self._folder(out) as folder:
            if folder and not self.state.epoch:
                record_part_maps(self.learner.model, self.query or self.train_samples, folder.root / run_files.PART_MAPS)
            # Of a run that is resumed: its last epoch was not to be the last, so it is not validated yet; or last.pt is gone.
            if self.state.epoch == self.config.epochs:
                self._save(folder, self.state.last | (self._validate() if self.query else {}))
            while self.state.epoch < self.config.epochs:
                values = self._epoch(folder, observer)
                self._save(folder, values)
                if observer:
                    observer.on_epoch(self.state.epoch, values)
        best_epoch = self.state.best_epoch or self.state.epoch
        used = out / (run_files.BEST if self.query else run_files.LAST)
        return TrainResult(used, self.config.epochs, best_epoch, self.state.best, time.perf_counter() - start)

    def _folder(self, out: Path) -> AbstractContextManager[RunFolder | None]:
        """The run folder of the main process; the others have none."""
        if not self.world.is_main:
            return nullcontext()
        if self.resumed is None:
            return RunFolder(out, self.config)
        # The last epoch may be validated only now; its figures are then recorded again.
        folder = RunFolder(out, self.config, min(self.state.epoch, self.config.epochs - 1))
        folder.log(f"resumed: {self.resumed}")
        return folder

    def _epoch(self, folder: RunFolder | None, observer: Observer | None) -> dict[str, float]:
        """The next epoch, or the rest of it; returns its mean losses, accuracy, speed and validation."""
        state, epoch, saved = self.state, self.state.epoch + 1, time.perf_counter()
        self.learner.begin_epoch(epoch)
        plan = self.batches.plan(epoch)
        start = time.perf_counter() - state.seconds
        for batch in self.batches.read(plan, epoch, skip=state.step):
            values = self.learner.step(batch, epoch, state.step, len(plan))
            done = self.learner.ends_update(state.step, len(plan))
            state.add(values, len(batch.labels) * self.clip_length * self.world.size)
            state.seconds = time.perf_counter() - start
            if observer:
                rate = state.images / state.seconds
                observer.on_step(StepReport(epoch, state.step, len(plan), values["loss"], values["accuracy"], rate))
            if folder and done and 0.0 < self.config.checkpoint_minutes * 60.0 < time.perf_counter() - saved:
                self._save_state(folder)
                saved = time.perf_counter()
        values = state.means()
        values |= {"lr": self.learner.rate, "images_per_second": state.images / state.seconds}
        values["seconds"] = state.seconds
        # The loss may be finite still, of features that a normalisation brought back.
        if not all(value.isfinite().all() for value in self.learner.model.state_dict().values()):
            raise ConfigError(f"weights became nan or inf in epoch {epoch}; lower optim.lr (now {self.config.optim.lr:.2g})")
        state.end_epoch()
        return values | (self._validate() if self._validates(epoch) else {})

    def _validates(self, epoch: int) -> bool:
        if not self.query or epoch == self.config.epochs:
            return bool(self.query)
        # A network that has only seen half-size images does badly on full-size ones, whatever it has learnt.
        return epoch > self.config.half_size_epochs and epoch % self.config.eval_every == 0

    def _validate(self) -> dict[str, float]:
        model = self.learner.model
        self.world.agree_on_buffers(model)
        images = max(1, BATCH_SIZE // self.clip_length)
        mine = partial(embed, model, batch_size=BATCH_SIZE)
        sides = embed_sides(lambda samples: self.world.embed(mine, samples, images), self.query, self.gallery)
        if not self.world.is_main:
            return self.world.broadcast(None)
        result = score(self.query, self.gallery, *sides)
        return self.world.broadcast({"val_mAP": result.mAP, "val_rank1": result.rank(1)})

    def _save(self, folder: RunFolder | None, values: dict[str, float]) -> None:
        """Leave what an epoch leaves; the state comes last, so that whatever is missing is made again."""
        if folder is None:
            return
        checkpoint = self._checkpoint(self.state.epoch, values)
        self.state.last = values
        folder.record(self.state.epoch, values)
        save_checkpoint(checkpoint, folder.root / run_files.LAST)
        if self.state.improves(values):
            save_checkpoint(checkpoint, folder.root / run_files.BEST)
        self._save_state(folder)

    def _save_state(self, folder: RunFolder) -> None:
        save_state(folder.root / run_files.STATE, self.state, self.learner.state_dict(), self.fingerprint)

    def _checkpoint(self, epoch: int, values: dict[str, float]) -> Checkpoint:
        metrics = {name: value for name, value in values.items() if name.startswith("val_")}
        training = {"config": self.config.to_dict(), **self._facts()}
        return Checkpoint.of(self.learner.model, epoch, metrics=metrics, training=training)

    def _notes(self) -> list[str]:
        """What was asked for and cannot be, and what could be a surprise."""
        return [*self.split.notes, *self.batches.notes(), *self.learner.notes()]

    def _facts(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset.name,
            "dataset_notes": list(self.dataset.notes),
            "train_images": len(self.train_samples),
            "kind": "tracklets" if self.dataset.tracklets else "images",
            "train_identities": len(self.batches.labels),
            "val_queries": len(self.query),
            "val_gallery": len(self.gallery),
            **({"init": self.state.init} if self.state.init else {}),
            "device": str(self.learner.device),
            "processes": self.world.size,
            "precision": "bf16" if self.learner.autocast else "fp32",
        }


def _build(config: TrainConfig, classes: int) -> tuple[STCANet, LoadReport | None]:
    """A network as the settings start it, and what became of the checkpoint that it starts from."""
    # The generator state is put back, so that training does not change its caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        weights = NO_WEIGHTS if config.init else config.backbone_weights
        model = build_model(config.preset, classes, weights, **config.model)
    return model, load_foreign(Path(config.init), model) if config.init else None


def _fingerprint(split: Split) -> str:
    """Tells apart what is trained on and what chooses the checkpoint, wherever the folder of the data stands."""
    lines = (f"{sample.pid} {sample.camid} {[frame.name for frame in sample.frames]}\n" for sample in sum(split[:3], ()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
