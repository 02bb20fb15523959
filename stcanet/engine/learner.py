"""A network and what trains it: batch → network → losses → gradients → optimiser."""

from __future__ import annotations

import torch
from torch import Tensor

from stcanet.config import TrainConfig
from stcanet.engine.batches import Batch
from stcanet.engine.devices import has_bf16_units
from stcanet.engine.objective import losses_of
from stcanet.engine.schedule import lr_factor
from stcanet.model import STCANet
from stcanet_runtime.errors import ConfigError


class Learner:
    """Trains `model`, which it moves to `device`, one batch at a time.

    Args:
        model: With a classifier.
        config: Losses, optimiser, schedule and precision.
        device: Where to train.
    """

    def __init__(self, model: STCANet, config: TrainConfig, device: torch.device) -> None:
        self.model = model.to(device).to(memory_format=torch.channels_last)
        self.device = device
        self.autocast = config.amp == "on" or (config.amp == "auto" and has_bf16_units(device))
        self._config = config
        self._optimizer = torch.optim.Adam(
            model.parameters(), lr=config.optim.lr, weight_decay=config.optim.weight_decay, fused=True
        )

    @property
    def rate(self) -> float:
        """The present learning rate."""
        return float(self._optimizer.param_groups[0]["lr"])

    def begin_epoch(self) -> None:
        """Make ready to train, whatever happened to the model since the last epoch."""
        self.model.train()

    def step(self, batch: Batch, progress: float) -> dict[str, float]:
        """One update.

        Args:
            batch: What to learn from.
            progress: Epochs done, with the fraction of the present one: where the run is in its schedule.

        Returns:
            The losses, and the accuracy of the classifier on the batch.

        Raises:
            ConfigError: The loss is no longer finite.
        """
        self._set_rate(progress)
        losses, accuracy = self._losses(batch)
        if not torch.isfinite(losses["loss"]):
            raise ConfigError(f"the loss became {losses['loss'].item()}; lower the learning rate (now {self.rate:.2g})")
        self._optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        self._optimizer.step()
        return {name: value.item() for name, value in losses.items()} | {"accuracy": accuracy.item()}

    def _losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            output = self.model(batch.images.contiguous(memory_format=torch.channels_last))
        assert output.logits is not None
        accuracy = (output.logits.argmax(dim=1) == batch.labels).float().mean()
        return losses_of(self._config.loss, output.features, output.logits, batch.labels), accuracy

    def _set_rate(self, progress: float) -> None:
        factor = lr_factor(progress, self._config.epochs, self._config.optim)
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.optim.lr * factor
