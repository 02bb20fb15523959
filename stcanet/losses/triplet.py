"""Batch-hard triplet loss (Hermans, Beyer, Leibe, "In Defense of the Triplet Loss", 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stcanet.config import Distance


def batch_hard_triplet(features: Tensor, labels: Tensor, margin: float, distance: Distance) -> Tensor:
    """``mean_i max(0, d(i, hardest positive) − d(i, hardest negative) + margin)``.

    An image counts as its own positive, as in the reference; an anchor whose batch has no other identity gives 0.

    Args:
        features: ``[B, D]``.
        labels: ``[B]`` class indices.
        margin: In units of the distance.
        distance: 'cosine' (1 − cos, in [0, 2]) or 'euclidean' (not squared).

    Returns:
        A scalar.
    """
    with torch.autocast(features.device.type, enabled=False):
        distances = pairwise(features.float(), distance)
        same = labels[:, None] == labels[None, :]
        positive = distances.masked_fill(~same, -torch.inf).amax(dim=1)
        negative = distances.masked_fill(same, torch.inf).amin(dim=1)
        return F.relu(positive - negative + margin).mean()


def pairwise(features: Tensor, distance: Distance) -> Tensor:
    """Distances ``[B, B]`` between the rows of ``[B, D]``."""
    if distance == "cosine":
        unit = F.normalize(features, dim=1)
        return 1.0 - unit @ unit.T
    square = features.square().sum(dim=1)
    squared = square[:, None] + square[None, :] - 2.0 * features @ features.T
    # The gradient of the root is infinite at 0, where every row meets itself.
    return squared.clamp(min=1e-12).sqrt()
