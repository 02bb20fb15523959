"""What is minimised: the weighted sum of the losses that have a weight."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from stcanet.config import LossConfig
from stcanet.losses import batch_hard_triplet, supervised_contrastive


def losses_of(config: LossConfig, features: Tensor, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The losses that have a weight, and "loss", their weighted sum.

    Args:
        config: Weights and margins.
        features: ``[B, D]``.
        logits: ``[B, K]``.
        labels: ``[B]`` class indices.
    """
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
