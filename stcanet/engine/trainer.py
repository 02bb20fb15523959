"""The training loop.

batch of crops → normalise → augment → network → losses → Adam
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from stcanet.config import LossConfig, TrainConfig
from stcanet.data.augment import augment
from stcanet.data.crops import CropDataset, label_map
from stcanet.data.datasets import ReIDDataset, load_dataset
from stcanet.data.sampling import PKSampler
from stcanet.engine.checkpoint import Checkpoint, save_checkpoint
from stcanet.engine.run_folder import RunFolder
from stcanet.engine.schedule import lr_factor
from stcanet.engine.validation import evaluate_model, split_validation
from stcanet.losses import batch_hard_triplet, supervised_contrastive
from stcanet.model import Normalize, build_model
from stcanet_runtime.errors import ConfigError, DataError, OptionError


@dataclass(frozen=True)
class StepReport:
    """What the loop tells its observer after every step."""

    epoch: int
    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_second: float


class Observer(Protocol):
    """Follows a training run; the command line draws progress with it."""

    def on_start(self, facts: dict[str, Any]) -> None:
        """Called once, with what is about to be trained on."""

    def on_step(self, report: StepReport) -> None:
        """Called after every step."""

    def on_epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Called after every epoch, with what was recorded."""


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
        self.device = resolve_device(config.device)
        self.train_samples, self.query, self.gallery = split_validation(dataset.train, config.val_fraction, config.seed)
        if not self.train_samples:
            raise DataError(f"{dataset.root} has no training images")
        self.labels = label_map(self.train_samples)
        # The generator state is put back, so that training does not change its caller's random numbers.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.model = build_model(config.preset, len(self.labels), config.backbone_weights, **_model_overrides(config))
        self.model.to(self.device).to(memory_format=torch.channels_last)
        self.normalize = Normalize().to(self.device)
        self.autocast = config.amp == "on" or (config.amp == "auto" and has_bf16_units(self.device))
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.optim.lr, weight_decay=config.optim.weight_decay, fused=True
        )
        pids = [sample.pid for sample in self.train_samples]
        self.sampler = PKSampler(pids, config.identities, config.instances, config.seed)
        self.crops = CropDataset(
            self.train_samples,
            [self.labels[pid] for pid in pids],
            self.model.config.height,
            self.model.config.width,
            keep=config.workers == 0,
        )

    def train(self, out: Path, observer: Observer | None) -> TrainResult:
        config, start = self.config, time.perf_counter()
        if observer:
            observer.on_start(self._facts())
        best: tuple[float, int, dict[str, float]] = (-1.0, 0, {})
        with RunFolder(out, config) as folder:
            for epoch in range(1, config.epochs + 1):
                values = self._epoch(epoch, observer)
                if self._validates(epoch):
                    result = evaluate_model(self.model, self.query, self.gallery)
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
        self.model.train()
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + epoch)
        batches = list(self.sampler.batches(epoch))
        totals: Counter[str] = Counter()
        images, start = 0, time.perf_counter()
        for step, (crops, labels) in enumerate(self._load(batches), start=1):
            self._set_lr(epoch - 1 + (step - 1) / len(batches))
            values = self._step(crops, labels, generator, half_size=epoch <= self.config.half_size_epochs)
            totals.update(values)
            images += len(labels)
            if observer:
                rate = images / (time.perf_counter() - start)
                observer.on_step(StepReport(epoch, step, len(batches), values["loss"], values["accuracy"], rate))
        means = {name: total / len(batches) for name, total in totals.items()}
        seconds = time.perf_counter() - start
        return {**means, "lr": self.optimizer.param_groups[0]["lr"], "images_per_second": images / seconds, "seconds": seconds}

    def _step(self, crops: Tensor, labels: Tensor, generator: torch.Generator, half_size: bool) -> dict[str, float]:
        """One update from uint8 crops ``[B, H, W, 3]`` and class indices ``[B]``."""
        images = augment(self.normalize(crops.to(self.device)), self.config.augment, generator)
        if half_size:
            images = F.avg_pool2d(images, 2)
        labels = labels.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            output = self.model(images.contiguous(memory_format=torch.channels_last))
        assert output.logits is not None
        losses = _losses(self.config.loss, output.features, output.logits, labels)
        loss = losses["loss"]
        if not torch.isfinite(loss):
            raise ConfigError(
                f"the loss became {loss.item()}; lower the learning rate (now {self.optimizer.param_groups[0]['lr']:.2g})"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        accuracy = (output.logits.argmax(dim=1) == labels).float().mean()
        return {name: value.item() for name, value in losses.items()} | {"accuracy": accuracy.item()}

    def _load(self, batches: list[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        # Nothing is random in the workers, so their number does not change the result. The loader draws a seed for them
        # all the same: from a generator of its own, to leave the caller's alone.
        workers = self.config.workers
        return iter(DataLoader(self.crops, batch_sampler=batches, num_workers=workers, generator=torch.Generator()))

    def _set_lr(self, epoch: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.optim.lr * lr_factor(epoch, self.config.epochs, self.config.optim)

    def _checkpoint(self, epoch: int, values: dict[str, float]) -> Checkpoint:
        metrics = {name: value for name, value in values.items() if name.startswith("val_")}
        return Checkpoint.of(self.model, epoch, metrics=metrics, training={"config": self.config.to_dict(), **self._facts()})

    def _facts(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset.name,
            "train_images": len(self.train_samples),
            "train_identities": len(self.labels),
            "val_queries": len(self.query),
            "val_gallery": len(self.gallery),
            "device": str(self.device),
            "precision": "bf16" if self.autocast else "fp32",
        }


def _losses(config: LossConfig, features: Tensor, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The losses that have a weight, and "loss", their weighted sum."""
    losses: dict[str, Tensor] = {}
    total = features.new_zeros(())
    if config.identity_weight > 0.0:
        losses["identity_loss"] = F.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
        total = total + config.identity_weight * losses["identity_loss"]
    if config.triplet_weight > 0.0:
        losses["triplet_loss"] = batch_hard_triplet(features, labels, config.margin, config.distance)
        total = total + config.triplet_weight * losses["triplet_loss"]
    if config.contrastive_weight > 0.0:
        losses["contrastive_loss"] = supervised_contrastive(features, labels, config.temperature)
        total = total + config.contrastive_weight * losses["contrastive_loss"]
    return {"loss": total, **losses}


def resolve_device(name: str) -> torch.device:
    """The device that a setting means; 'auto' takes a GPU if there is one.

    Raises:
        OptionError: It is no device, or it is not here. A GPU that was asked for never becomes the CPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise OptionError("device", name, "'auto', 'cpu', 'cuda' or 'cuda:N'") from None
    if device.type not in ("cpu", "cuda"):
        raise OptionError("device", name, "'auto', 'cpu', 'cuda' or 'cuda:N'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise OptionError("device", name, f"a CUDA device that torch sees here (there are {torch.cuda.device_count()})")
    return device


def has_bf16_units(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there.

    On CPUs that means AMX. With AVX-512 BF16 alone, convolutions were measured at half the speed of float32.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    probe = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return probe is not None and bool(probe())


def _model_overrides(config: TrainConfig) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in config.model.items()}
