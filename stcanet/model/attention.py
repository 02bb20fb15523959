"""The STCA block: channel attention, then part-based spatio-temporal attention, for clips of any length.

Shapes: B clips, T frames (1 for images), C channels, D = C / 2, H × W positions, P = H·W, N parts, M = T·N nodes.
A clip batch travels folded as ``[B·T, C, H, W]``, so that the trunk stays an ordinary 2D network; blocks get T beside it.
Formulas: Zulfiqar, Bajwa, Raza, "Multi-Camera Person Re-Identification using Spatiotemporal Context Modeling", 2023.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stcanet.config.model import Attention, ModelConfig
from stcanet.model.mixing import channel_mix, part_relation

LEAST_AREA = 1.0
"""In pixels, of a part whose mean is taken. The tail of a sigmoid is not the same in every program, and the mean over a part
that is nowhere would be made of nothing else."""


class ChannelAttention(nn.Module):
    """CAM: every (frame, channel) pair attends to all others of its clip; ``X + BN(Conv(softmax(G Gᵀ) G))``.

    G is the clip as T·C rows of P values. The published order of the rows is (c, t), here it is (t, c), which saves a
    transposed copy: attention commutes with any permutation of its rows.
    """

    def __init__(self, channels: int, attention: Attention = "auto") -> None:
        super().__init__()
        self.attention = attention
        self.out = nn.Conv2d(channels, channels, kernel_size=1)
        self.out_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """``[B·T, C, H, W]`` to the same shape."""
        rows = x.flatten(2).unflatten(0, (-1, frames)).flatten(1, 2)  # [B, T·C, P]
        mixed = channel_mix(rows, self.attention).to(x.dtype)
        mixed = mixed.unflatten(1, (frames, -1)).flatten(0, 1).unflatten(2, x.shape[2:])
        update: Tensor = self.out_norm(self.out(mixed))
        return x + update


class PartAttention(nn.Module):
    """STAM: pools N soft body parts per frame, relates them across parts and frames, adds the result per channel."""

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__()
        reduced, num_parts = channels // 2, config.num_parts
        self.attention, self.num_parts = config.attention, num_parts
        self.part_pool = config.part_pool
        self.part_conv = nn.Conv2d(channels, num_parts, kernel_size=1)
        self.part_norm = nn.BatchNorm2d(num_parts)
        self.reduce = nn.Linear(channels, reduced)
        self.relation = nn.Linear(2 * reduced if config.relation_clip else reduced, 1)
        self.relation_norm = nn.BatchNorm1d(1)
        self.update = nn.Linear(2 * reduced, reduced)
        self.update_norm = nn.BatchNorm1d(reduced)
        self.out = nn.Conv2d(channels, channels, kernel_size=1)
        self.out_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """``[B·T, C, H, W]`` to the same shape, and the part logits ``[B·T, N, H, W]`` (before the sigmoid)."""
        part_logits = self.part_norm(self.part_conv(x))
        maps = part_logits.sigmoid().flatten(2)
        if self.part_pool == "mean":
            maps = maps / maps.sum(dim=2, keepdim=True).clamp_min(LEAST_AREA)
        pooled = maps @ x.flatten(2).mT  # [B·T, N, C]
        nodes = self.reduce(pooled).unflatten(0, (-1, frames)).flatten(1, 2)  # [B, M, D]
        whole = self.reduce(x.mean(dim=(2, 3)).unflatten(0, (-1, frames)).mean(dim=1))  # [B, D]
        weights = self.relation_weights(nodes, whole, frames)
        updated = self._update(nodes, weights.to(nodes.dtype) @ nodes)
        parts = updated.unflatten(1, (frames, self.num_parts)).mean(dim=2)  # [B, T, D]
        context = torch.cat([parts, whole.unsqueeze(1).expand_as(parts)], dim=-1)  # [B, T, C]
        bias = self.out_norm(self.out(context.flatten(0, 1)[:, :, None, None]))
        return x + bias, part_logits

    def relation_weights(self, nodes: Tensor, whole: Tensor, frames: int) -> Tensor:
        """Softmax weights ``[B, M, M]`` of every node ``[B, M, D]`` over its neighbours, in float32.

        ``w · [|x_i − x_j| ; u] + b`` is computed as two products, which never builds the ``[B, M, M, 2D]`` tensor.
        The second one and b are the same for all j and cancel in the softmax: they act only through the statistics of
        the normalisation while training, as published. Without ``relation_clip`` there is no second one.
        """
        # Slices, not chunk(): the exporter folds them, and ONNX's Split cannot be written for opset 17.
        by_pair, by_clip = self.relation.weight[:, : nodes.shape[-1]], self.relation.weight[:, nodes.shape[-1] :]
        logits = part_relation(nodes, by_pair, self.attention)
        shift = F.linear(whole, by_clip, self.relation.bias) if by_clip.shape[1] else self.relation.bias
        logits = logits + shift.unsqueeze(-1)  # [B, M, M] + [B, 1, 1], or [1, 1]
        normalised: Tensor = self.relation_norm(logits.flatten(1).unsqueeze(1)).view_as(logits).float()
        neighbours = neighbour_mask(frames, self.num_parts, nodes.device)
        # Finite, so that a node without neighbours (one part, one frame) attends to itself instead of giving NaN.
        return normalised.masked_fill(~neighbours, torch.finfo(torch.float32).min).softmax(dim=-1)

    def _update(self, nodes: Tensor, gathered: Tensor) -> Tensor:
        updated = self.update(torch.cat([nodes, gathered], dim=-1))  # [B, M, D]
        normalised: Tensor = self.update_norm(updated.mT)
        return torch.relu(normalised).mT


def neighbour_mask(frames: int, num_parts: int, device: torch.device | None = None) -> Tensor:
    """Boolean ``[M, M]``: nodes that may interact, for node (t, k) at t·N + k.

    Either another part of the same frame or the same part of another frame: (N − 1) + (T − 1) neighbours each.
    """
    # Not repeat_interleave, which torch 2.8 does not export.
    frame = torch.arange(frames, device=device)[:, None].expand(-1, num_parts).flatten()
    part = torch.arange(num_parts, device=device).repeat(frames)
    same_frame = frame[:, None] == frame[None, :]
    same_part = part[:, None] == part[None, :]
    return same_frame ^ same_part


class STCABlock(nn.Module):
    """CAM, then STAM, both residual. The identity at initialisation, since both output norms start at zero."""

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, config.attention)
        self.part = PartAttention(channels, config)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                # A Linear here is a published 1×1 convolution: fan-out normal for all of them, biases as the framework does.
                nn.init.normal_(module.weight, 0.0, (2.0 / module.weight.shape[0]) ** 0.5)
        for norm in (self.channel.out_norm, self.part.out_norm):
            nn.init.zeros_(norm.weight)

    def forward(self, x: Tensor, frames: int = 1) -> tuple[Tensor, Tensor]:
        """Apply the block.

        Args:
            x: Folded features ``[B·T, C, H, W]``.
            frames: T.

        Returns:
            The features ``[B·T, C, H, W]`` and the part logits ``[B·T, N, H, W]``.
        """
        mixed: Tensor = self.channel(x, frames)
        result: tuple[Tensor, Tensor] = self.part(mixed, frames)
        return result
