"""How well part maps lie on part masks: intersection over union of each part, for each attention block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stcanet.losses import part_targets


@torch.no_grad()
def part_overlap(part_logits: Sequence[Tensor], masks: Tensor) -> Tensor:
    """Pixels in which a part map and its mask agree, and pixels that at least one of them has.

    Counts can be added over batches; :func:`part_iou` of the sum is the IoU of the whole set. Maps are a few pixels wide, so
    their logits are brought to the size of the masks, as segmentation is judged: bilinear with aligned corners, which is how
    the masks come to the size of the maps in the loss. A pixel belongs to a part where its probability is above one half.
    Maps are judged one by one: several may claim a pixel.

    Args:
        part_logits: One ``[B, T, N, h, w]`` for each block, as ``ReIDOutput.part_logits``.
        masks: uint8 ``[B, H, W]`` or ``[B, T, H, W]``: 0 background, k part k, as ``MaskFolder.read``.

    Returns:
        int64 ``[blocks, N, 2]``: intersection and union.
    """
    masks = masks.reshape(-1, *masks.shape[-2:])  # [B·T, H, W]
    counts = []
    for logits in part_logits:
        size = (int(masks.shape[-2]), int(masks.shape[-1]))
        inside = F.interpolate(logits.flatten(0, 1).float(), size, mode="bilinear", align_corners=True) > 0.0
        truth = masks[:, None] == torch.arange(1, logits.shape[2] + 1, device=masks.device)[:, None, None]
        counts.append(torch.stack([(inside & truth).sum((0, 2, 3)), (inside | truth).sum((0, 2, 3))], dim=-1))
    return torch.stack(counts)


def best_overlap(sizes: Sequence[Sequence[int]], num_parts: int, masks: Tensor) -> Tensor:
    """The overlap of maps that are exactly what the loss asks for, which is what training can be expected to reach.

    A map of 4 × 2 pixels has no pixel for a shoe; an IoU means little without what can be had.

    Args:
        sizes: Height and width of the maps of each block.
        num_parts: N.
        masks: As for :func:`part_overlap`.

    Returns:
        int64 ``[blocks, N, 2]``, as :func:`part_overlap`.
    """
    perfect = [target.logit(eps=1e-2).unsqueeze(1) for target in part_targets(masks, num_parts, sizes)]
    return part_overlap(perfect, masks)


def part_iou(overlap: Tensor) -> Tensor:
    """Intersection over union from :func:`part_overlap`.

    Args:
        overlap: ``[…, 2]``.

    Returns:
        float32 ``[…]``; NaN where neither map nor mask has a pixel. ``torch.nanmean`` is the mean over parts that occur.
    """
    return overlap[..., 0].float() / overlap[..., 1].float()
