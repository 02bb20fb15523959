"""A network and what trains it: batch → network → losses → gradients → optimiser → average of the weights."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stcanet.config import TrainConfig
from stcanet.engine.average import WeightAverage
from stcanet.engine.batches import Batch
from stcanet.engine.batchnorm import synchronise_batchnorm
from stcanet.engine.devices import has_bf16_units
from stcanet.engine.distributed import ALONE, World
from stcanet.engine.objective import Objective
from stcanet.engine.optim import freeze_backbone, make_optimizer, set_rate
from stcanet.engine.overlap import part_iou, part_overlap
from stcanet.engine.schedule import lr_factor
from stcanet.model import ReIDOutput, STCANet
from stcanet_runtime.errors import ConfigError
from stcanet_runtime.wording import counted


class Learner:
    """Trains `model`, which it moves to `device`, one batch at a time.

    Args:
        model: With a classifier.
        config: Losses, optimiser, schedule and precision.
        device: Where to train.
        world: The processes that train the same network, each on its share of a batch.
    """

    def __init__(self, model: STCANet, config: TrainConfig, device: torch.device, world: World = ALONE) -> None:
        self.device, self._world = device, world
        self.autocast = config.amp == "on" or (config.amp == "auto" and has_bf16_units(device))
        if world.size > 1 and config.sync_bn:
            model = synchronise_batchnorm(model, device, world)
        self._model = model.to(device).to(memory_format=torch.channels_last)
        self._compiled: nn.Module = self._model
        if config.compile:
            self._compiled = cast("nn.Module", torch.compile(self._model))
        self._network: nn.Module = self._compiled
        assert model.num_classes is not None
        self._objective = Objective(config.loss, model.num_classes, model.feature_dim).to(device)
        self._optimizer = make_optimizer(self._model, config.optim)
        self._average = WeightAverage(self._model, config.optim.ema_decay) if config.optim.ema_decay else None
        self._wrapped_frozen: bool | None = None
        self._config = config

    @property
    def model(self) -> STCANet:
        """The network to evaluate and to keep: with the averaged weights, where they are averaged."""
        return self._average.model if self._average else self._model

    @property
    def rate(self) -> float:
        """The present base learning rate."""
        group = self._optimizer.param_groups[0]
        return float(group["lr"] / group["factor"])

    def notes(self) -> list[str]:
        """What is slower here than it need be, by up to ten times, and what comes to nothing in so few epochs."""
        config, epochs, optim = self._config, self._config.epochs, self._config.optim
        drops = optim.schedule == "multistep" and optim.gamma < 1.0
        late = {
            f"optim.freeze_epochs = {optim.freeze_epochs}: the backbone is not trained": optim.freeze_epochs >= epochs,
            f"loss.mask_start_epoch = {config.loss.mask_start_epoch}: masks teach nothing": config.masks
            and config.loss.mask_start_epoch > epochs,
            f"optim.milestones begin at {min(optim.milestones, default=0)}: the learning rate does not drop": drops
            and min(optim.milestones, default=0) >= epochs,
        }
        notes = [f"of {counted(epochs, 'epoch', 'epochs')}, {text}" for text, found in late.items() if found]
        if config.amp == "on" and not has_bf16_units(self.device):
            notes.append(f"bf16 is slower than fp32 on this {self.device.type.upper()}, and amp = 'auto' would take fp32")
        return notes

    def begin_epoch(self, epoch: int) -> None:
        """Make ready to train epoch 1, 2, …, whatever happened to the model since the last one."""
        frozen = epoch <= self._config.optim.freeze_epochs
        freeze_backbone(self._model, frozen)
        if self._world.size > 1 and frozen != self._wrapped_frozen:
            # It looks once at which parameters have gradients.
            unused = self._config.loss.identity_weight == 0.0
            self._network = DistributedDataParallel(self._compiled, find_unused_parameters=unused)
            self._wrapped_frozen = frozen

    def step(self, batch: Batch, epoch: int, step: int, steps: int) -> dict[str, float]:
        """Learn from one batch; weights move after the last batch of an update (see :meth:`ends_update`).

        Args:
            batch: What to learn from; this process's share of it.
            epoch: 1, 2, …
            step: Number of the batch in its epoch, from 0.
            steps: Batches of the epoch.

        Returns:
            The losses, the accuracy of the classifier and, with masks, the IoU of the part maps on the batch, of all processes.

        Raises:
            ConfigError: The loss is no longer finite.
        """
        first = step - step % self._config.optim.accumulate
        size = min(self._config.optim.accumulate, steps - first)
        factor = lr_factor(epoch - 1 + first / steps, self._config.epochs, self._config.optim)
        set_rate(self._optimizer, self._config.optim.lr * factor)
        with self._gradients_stay_here(not self.ends_update(step, steps)):
            losses, measures = self._losses(batch, epoch)
            (losses["loss"] / size).backward()
        if not torch.isfinite(losses["loss"]):
            raise ConfigError(f"the loss became {losses['loss'].item()}; lower the learning rate (now {self.rate:.2g})")
        if self.ends_update(step, steps):
            self._update()
        values = {name: value.item() for name, value in {**losses, **measures}.items()}
        return values if self._config.loss.gather else self._world.mean(values)

    def ends_update(self, step: int, steps: int) -> bool:
        """Whether this batch is the last of an update: then :meth:`state_dict` is everything."""
        return (step + 1) % self._config.optim.accumulate == 0 or step + 1 == steps

    def state_dict(self) -> dict[str, Any]:
        """Weights, centres, optimiser and average. bfloat16 needs no loss scaling, so there is no scaler."""
        return {
            "model": self._model.state_dict(),
            "objective": self._objective.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": self._average.state_dict() if self._average else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict` of the same settings."""
        self._model.load_state_dict(state["model"])
        self._objective.load_state_dict(state["objective"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._average:
            self._average.load_state_dict(state["average"])

    def _losses(self, batch: Batch, epoch: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            output = self._network(batch.images)
        features, logits, part_logits = output
        labels, masks = batch.labels, batch.masks
        if self._config.loss.gather:
            features, logits, labels = map(self._world.gather, (features, logits, labels))
        if self._config.loss.gather and masks is not None:
            masks, part_logits = self._world.gather(masks), tuple(map(self._world.gather, part_logits))
        measures = {"accuracy": (logits.argmax(dim=1) == labels).float().mean()}
        if masks is not None:
            measures["part_iou"] = part_iou(part_overlap(part_logits, masks)).nanmean()
        return self._objective(ReIDOutput(features, logits, part_logits), labels, masks, epoch), measures

    def _gradients_stay_here(self, stay: bool) -> AbstractContextManager[None]:
        """Whether gradients are only summed in this process for now, and averaged over all of them later."""
        return self._network.no_sync() if stay and isinstance(self._network, DistributedDataParallel) else nullcontext()

    def _update(self) -> None:
        if self._config.optim.clip_norm:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._config.optim.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average:
            self._average.update(self._model)
