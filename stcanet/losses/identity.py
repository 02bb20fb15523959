"""Class logits for the identity loss; the loss itself is torch's cross entropy with label smoothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cosine_logits(features: Tensor, class_weights: Tensor, scale: float) -> Tensor:
    """``scale · cos(f, w_k)`` (Wang et al., "NormFace: L2 Hypersphere Embedding for Face Verification", 2017).

    A linear classifier can hold the views of one person together that lie far apart, one hyperplane each; the cosine
    cannot, and it is what retrieval compares. That matters most where training starts from scratch.

    Args:
        features: ``[B, D]``.
        class_weights: ``[K, D]``.
        scale: Above 0.

    Returns:
        ``[B, K]`` in float32.
    """
    with torch.autocast(features.device.type, enabled=False):
        return scale * F.linear(F.normalize(features.float()), F.normalize(class_weights.float()))
