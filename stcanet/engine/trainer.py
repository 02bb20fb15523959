"""The training loop.

epochs of batches → learner → validation → run folder
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stcanet.config import TrainConfig
from stcanet.data.datasets import ReIDDataset, load_dataset
from stcanet.engine.batches import TrainBatches
from stcanet.engine.checkpoint import Checkpoint, save_checkpoint
from stcanet.engine.devices import resolve_device
from stcanet.engine.learner import Learner
from stcanet.engine.observer import Observer, StepReport
from stcanet.engine.run_folder import RunFolder
from stcanet.engine.validation import evaluate_model, split_validation
from stcanet.model import STCANet, build_model
from stcanet_runtime.errors import ConfigError, DataError


@dataclass(frozen=True)
class TrainResult:
    """Where a run ended."""

    checkpoint: Path
    """The checkpoint to use: the best by validation mAP, or the last without a validation split."""
    epochs: int
    best_epoch: int
    metrics: dict[str, float]
    seconds: float


def train(config: TrainConfig, out: Path, observer: Observer | None = None) -> TrainResult:
    """Train a network and leave a run folder.

    Args:
        config: What to train, on what, and how.
        out: The run folder; must not hold an earlier run.
        observer: Told about progress.

    Raises:
        DataError: The data cannot be read, or is too small for a batch.
        ConfigError: The settings ask for what cannot be done here.
        CheckpointError: Backbone weights cannot be had.
    """
    if config.model_config.clip_length is not None:
        raise ConfigError(f"preset '{config.preset}' takes tracklets; this version trains on single images only")
    return _Run(config, load_dataset(config.data)).train(out, observer)


class _Run:
    """The parts of one run, put together once."""

    def __init__(self, config: TrainConfig, dataset: ReIDDataset) -> None:
        self.config, self.dataset = config, dataset
        device = resolve_device(config.device)
        self.train_samples, self.query, self.gallery = split_validation(dataset.train, config.val_fraction, config.seed)
        if not self.train_samples:
            raise DataError(f"{dataset.root} has no training images")
        self.batches = TrainBatches(self.train_samples, config, device)
        self.learner = Learner(_build(config, len(self.batches.labels)), config, device)

    def train(self, out: Path, observer: Observer | None) -> TrainResult:
        config, start = self.config, time.perf_counter()
        if observer:
            observer.on_start(self._facts())
        best: tuple[float, int, dict[str, float]] = (-1.0, 0, {})
        with RunFolder(out, config) as folder:
            for epoch in range(1, config.epochs + 1):
                values = self._epoch(epoch, observer)
                if self._validates(epoch):
                    result = evaluate_model(self.learner.model, self.query, self.gallery)
                    values |= {"val_mAP": result.mAP, "val_rank1": result.rank(1)}
                folder.record(epoch, values)
                checkpoint = self._checkpoint(epoch, values)
                save_checkpoint(checkpoint, folder.last)
                if values.get("val_mAP", -1.0) > best[0]:
                    best = (values["val_mAP"], epoch, values)
                    save_checkpoint(checkpoint, folder.best)
                if observer:
                    observer.on_epoch(epoch, values)
        _, best_epoch, metrics = best if self.query else (0.0, config.epochs, values)
        used = folder.best if self.query else folder.last
        return TrainResult(used, config.epochs, best_epoch, metrics, time.perf_counter() - start)

    def _validates(self, epoch: int) -> bool:
        if not self.query or epoch == self.config.epochs:
            return bool(self.query)
        # A network that has only seen half-size images does badly on full-size ones, whatever it has learnt.
        return epoch > self.config.half_size_epochs and epoch % self.config.eval_every == 0

    def _epoch(self, epoch: int, observer: Observer | None) -> dict[str, float]:
        """One pass; returns the mean losses, the accuracy and the rate of the epoch."""
        self.learner.begin_epoch()
        plan = self.batches.plan(epoch)
        totals: Counter[str] = Counter()
        images, start = 0, time.perf_counter()
        for step, batch in enumerate(self.batches.read(plan, epoch), start=1):
            values = self.learner.step(batch, epoch - 1 + (step - 1) / len(plan))
            totals.update(values)
            images += len(batch.labels)
            if observer:
                rate = images / (time.perf_counter() - start)
                observer.on_step(StepReport(epoch, step, len(plan), values["loss"], values["accuracy"], rate))
        means = {name: total / len(plan) for name, total in totals.items()}
        seconds = time.perf_counter() - start
        return {**means, "lr": self.learner.rate, "images_per_second": images / seconds, "seconds": seconds}

    def _checkpoint(self, epoch: int, values: dict[str, float]) -> Checkpoint:
        metrics = {name: value for name, value in values.items() if name.startswith("val_")}
        training = {"config": self.config.to_dict(), **self._facts()}
        return Checkpoint.of(self.learner.model, epoch, metrics=metrics, training=training)

    def _facts(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset.name,
            "train_images": len(self.train_samples),
            "train_identities": len(self.batches.labels),
            "val_queries": len(self.query),
            "val_gallery": len(self.gallery),
            "device": str(self.learner.device),
            "precision": "bf16" if self.learner.autocast else "fp32",
        }


def _build(config: TrainConfig, classes: int) -> STCANet:
    # The generator state is put back, so that training does not change its caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        overrides = {key: tuple(value) if isinstance(value, list) else value for key, value in config.model.items()}
        return build_model(config.preset, classes, config.backbone_weights, **overrides)
