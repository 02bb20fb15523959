"""The learning rate as a function of how far the run is: no state, nothing to restore."""

from __future__ import annotations

import math

from stcanet.config import OptimConfig

WARMUP_START = 0.01


def lr_factor(epoch: float, epochs: int, config: OptimConfig) -> float:
    """What the base learning rate is multiplied by.

    Args:
        epoch: Epochs done so far, with the fraction of the current one (0 at the first step).
        epochs: Epochs of the whole run.
        config: Schedule and its numbers.
    """
    warmup = 1.0
    if epoch < config.warmup_epochs:
        warmup = WARMUP_START + (1.0 - WARMUP_START) * epoch / config.warmup_epochs
    if config.schedule == "multistep":
        return float(warmup * config.gamma ** sum(epoch >= milestone for milestone in config.milestones))
    span = max(epochs - config.warmup_epochs, 1e-9)
    progress = max((epoch - config.warmup_epochs) / span, 0.0)
    return warmup * (config.final + (1.0 - config.final) * 0.5 * (1.0 + math.cos(math.pi * progress)))
