"""Supervised contrastive loss (Khosla et al., "Supervised Contrastive Learning", 2020, eq. 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def supervised_contrastive(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """``−mean_i mean_{p of i's identity} log( exp(cos_ip / t) / Σ_{a ≠ i} exp(cos_ia / t) )``.

    Every pair of the batch takes part, where batch-hard triplets use two for each anchor: that is what a network without
    ImageNet weights needs to bring the cameras of a person together. An anchor without a second image of its identity
    counts nowhere; a batch without any positive gives 0.

    Args:
        features: ``[B, D]``, of any length.
        labels: ``[B]`` class indices.
        temperature: t; smaller looks at the hardest pairs only.

    Returns:
        A scalar.
    """
    with torch.autocast(features.device.type, enabled=False):
        unit = F.normalize(features.float(), dim=1)
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        logits = (unit @ unit.T / temperature).masked_fill(itself, torch.finfo(torch.float32).min)
        positive = (labels[:, None] == labels[None, :]) & ~itself
        shares = (logits.log_softmax(dim=1) * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
        return -shares.sum() / positive.any(dim=1).sum().clamp(min=1)
