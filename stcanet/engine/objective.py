"""What is minimised: the weighted sum of the losses that have a weight."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from stcanet.config import LossConfig
from stcanet.losses import CenterLoss, batch_hard_triplet, circle, part_loss, supervised_contrastive
from stcanet.model import ReIDOutput


class Objective(nn.Module):
    """Losses of the output of a network. What it learns itself (the centres of the center loss) is in its state dict.

    Args:
        config: Weights and margins.
        num_classes: K.
        dim: D.
    """

    def __init__(self, config: LossConfig, num_classes: int, dim: int) -> None:
        super().__init__()
        self.config = config
        self.center = CenterLoss(num_classes, dim, config.center_rate) if config.center_weight > 0.0 else None

    def forward(self, output: ReIDOutput, labels: Tensor, masks: Tensor | None = None, epoch: int = 1) -> dict[str, Tensor]:
        """The losses that have a weight, and "loss", their weighted sum.

        Args:
            output: Of the network, with logits.
            labels: ``[B]`` class indices.
            masks: Part masks uint8 ``[B, H, W]``; None where there are none.
            epoch: The present one, from 1.
        """
        config, features = self.config, output.features
        assert output.logits is not None
        losses: dict[str, Tensor] = {}
        total = features.new_zeros(())
        if config.identity_weight > 0.0:
            losses["identity_loss"] = F.cross_entropy(output.logits.float(), labels, label_smoothing=config.label_smoothing)
            total = total + config.identity_weight * losses["identity_loss"]
        if config.triplet_weight > 0.0:
            losses["triplet_loss"] = batch_hard_triplet(features, labels, config.margin, config.distance)
            total = total + config.triplet_weight * losses["triplet_loss"]
        if config.contrastive_weight > 0.0:
            losses["contrastive_loss"] = supervised_contrastive(features, labels, config.temperature)
            total = total + config.contrastive_weight * losses["contrastive_loss"]
        if config.circle_weight > 0.0:
            losses["circle_loss"] = circle(features, labels, config.circle_margin, config.circle_scale)
            total = total + config.circle_weight * losses["circle_loss"]
        if self.center is not None:
            losses["center_loss"] = self.center(features, labels)
            total = total + config.center_weight * losses["center_loss"]
        if masks is not None and config.mask_weight > 0.0 and epoch >= config.mask_start_epoch:
            losses["mask_loss"] = part_loss(output.part_logits, masks, config.mask_loss)
            total = total + config.mask_weight * losses["mask_loss"]
        return {"loss": total, **losses}
