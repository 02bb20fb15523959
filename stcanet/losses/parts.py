"""Supervision of the part maps by part masks: what shows the attention where head, clothes and shoes are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stcanet.config import PartLoss


def part_loss(part_logits: Sequence[Tensor], masks: Tensor, kind: PartLoss) -> Tensor:
    """Mean over parts of the mean over blocks of the distance between a part map and the mask of that part.

    Every block has its own loss (deep supervision), and all count the same, as published. The published cross entropy of
    probabilities is computed from logits, which is the same number and does not saturate; 'l1' and 'l2' compare
    probabilities. Autocast does not reach in here.

    Args:
        part_logits: Of each attention block ``[B, T, N, h, w]``, before the sigmoid.
        masks: uint8 ``[B, H, W]`` or ``[B, T, H, W]``: 0 background, k for part k of 1 … N. A mask takes the size of the map
            by bilinear interpolation with aligned corners, so targets lie between 0 and 1.
        kind: 'bce', 'l1' or 'l2'.

    Returns:
        A scalar.
    """
    # In float32 whatever the autocast, which takes none of these operations. Maps of all parts have the same size, so that one
    # mean over everything is the mean of the parts' means.
    targets = part_targets(masks, part_logits[0].shape[2], [logits.shape[-2:] for logits in part_logits])
    losses = [
        _distance(logits.flatten(0, 1).float(), target, kind) for logits, target in zip(part_logits, targets, strict=True)
    ]
    return torch.stack(losses).mean()


def part_targets(masks: Tensor, num_parts: int, sizes: Sequence[Sequence[int]]) -> list[Tensor]:
    """What part maps of `sizes` (h, w) should be: the share of each part, bilinear with aligned corners as published.

    Args:
        masks: uint8 ``[B, H, W]`` or ``[B, T, H, W]``: 0 background, k for part k of 1 … N.
        num_parts: N.
        sizes: Of the maps.

    Returns:
        float32 ``[B·T, N, h, w]`` in 0 … 1, one for each size.
    """
    numbers = torch.arange(1, num_parts + 1, dtype=masks.dtype, device=masks.device)
    parts = (masks.reshape(-1, 1, *masks.shape[-2:]) == numbers[:, None, None]).float()
    return [F.interpolate(parts, tuple(size), mode="bilinear", align_corners=True) for size in sizes]


def _distance(logits: Tensor, target: Tensor, kind: PartLoss) -> Tensor:
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, target)
    return (F.l1_loss if kind == "l1" else F.mse_loss)(logits.sigmoid(), target)
