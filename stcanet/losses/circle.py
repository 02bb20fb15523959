"""Circle loss (Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", 2020, eq. 4 and 8)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def circle(features: Tensor, labels: Tensor, margin: float, scale: float) -> Tensor:
    """``mean_i log(1 + Σ_n exp(γ [s_n + m]₊ (s_n − m)) · Σ_p exp(−γ [1 + m − s_p]₊ (s_p − 1 + m)))``.

    s_p and s_n are the cosines of anchor i with the others of its identity and with those of other identities. The factors in
    brackets weigh a pair by how far it is from where it should be; no gradient flows through them. An anchor without a
    positive or without a negative costs nothing.

    Args:
        features: ``[B, D]``, of any length.
        labels: ``[B]`` class indices.
        margin: m, the relaxation; positives are drawn above 1 − m, negatives below m.
        scale: γ.

    Returns:
        A scalar.
    """
    with torch.autocast(features.device.type, enabled=False):
        unit = F.normalize(features.float(), dim=1)
        cosines = unit @ unit.T
        same = labels[:, None] == labels[None, :]
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        weighed = cosines.detach()
        toward = -scale * F.relu(1.0 + margin - weighed) * (cosines - 1.0 + margin)
        away = scale * F.relu(weighed + margin) * (cosines - margin)
        # Finite, so that the gradient of an empty sum is 0 and not NaN.
        lowest = torch.finfo(torch.float32).min
        positives = toward.masked_fill(~same | itself, lowest).logsumexp(dim=1)
        negatives = away.masked_fill(same, lowest).logsumexp(dim=1)
        return F.softplus(positives + negatives).mean()
