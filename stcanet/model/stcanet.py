"""STCANet: one network for images and clips, of any of the presets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stcanet.config import NO_WEIGHTS
from stcanet.config.model import Attention, ModelConfig, preset_config
from stcanet.model.attention import ChannelAttention, PartAttention, STCABlock
from stcanet.model.backbone import Backbone
from stcanet.model.head import Head
from stcanet_runtime.errors import ShapeError
from stcanet_runtime.preprocess import IMAGENET_MEAN, IMAGENET_STD


class ReIDOutput(NamedTuple):
    """What one forward pass gives."""

    features: Tensor
    """``[B, D]``, after the neck, not of unit length: for losses and retrieval."""
    logits: Tensor | None
    """``[B, K]`` class logits; None where the model has no classifier."""
    part_logits: tuple[Tensor, ...]
    """One ``[B, T, N, h, w]`` for each attention block: part maps before the sigmoid, for supervision and pictures."""


class STCANet(nn.Module):
    """ResNet with STCA blocks. See :func:`build_model`."""

    def __init__(self, config: ModelConfig, num_classes: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.backbone = Backbone(config.backbone)
        channels = self.backbone.stage_channels
        self.blocks = nn.ModuleDict({str(stage): STCABlock(channels[stage - 1], config) for stage in config.blocks})
        self.feature_dim = channels[-1]
        self.head = Head(self.feature_dim, num_classes, config.pool, config.head_init)

    def forward(self, images: Tensor) -> ReIDOutput:
        """Run the network.

        Args:
            images: Normalised images ``[B, 3, H, W]`` or clips ``[B, T, 3, H, W]``, any T.

        Raises:
            ShapeError: The input is neither.
        """
        if images.dim() not in (4, 5) or images.shape[-3] != 3:
            raise ShapeError(f"expected images [B, 3, H, W] or clips [B, T, 3, H, W], got {list(images.shape)}")
        frames = images.shape[1] if images.dim() == 5 else 1
        x = self.backbone.stem(images.flatten(0, 1) if images.dim() == 5 else images)
        part_logits = []
        for stage, layers in enumerate(self.backbone.stages, start=1):
            x = layers(x)
            if str(stage) in self.blocks:
                x, parts = self.blocks[str(stage)](x, frames)
                part_logits.append(parts.unflatten(0, (-1, frames)))
        features, logits = self.head(x, frames)
        return ReIDOutput(features, logits, tuple(part_logits))

    def use_attention(self, attention: Attention) -> None:
        """Compute attention by another implementation from now on, as the setting of this name says; the weights stay."""
        self.config = replace(self.config, attention=attention)
        for module in self.modules():
            if isinstance(module, (ChannelAttention, PartAttention)):
                module.attention = attention


class Normalize(nn.Module):
    """uint8 RGB ``[…, H, W, 3]`` to normalised float32 ``[…, 3, H, W]``."""

    def __init__(self) -> None:
        super().__init__()
        # (x / 255 − mean) / std as one multiplication and one addition per value.
        self.register_buffer("scale", 1.0 / (255.0 * torch.tensor(IMAGENET_STD)), persistent=False)
        self.register_buffer("shift", -torch.tensor(IMAGENET_MEAN) / torch.tensor(IMAGENET_STD), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Any number of leading dimensions.

        Raises:
            ShapeError: It is something else. Floats, mostly in 0..1 or normalised already, would give embeddings, too.
        """
        if images.dtype != torch.uint8 or images.shape[-1] != 3:
            raise ShapeError(f"expected uint8 RGB […, H, W, 3], got {images.dtype} {list(images.shape)}")
        scaled = images.float() * self.get_buffer("scale") + self.get_buffer("shift")
        return scaled.movedim(-1, -3)


class Embedder(nn.Module):
    """The deployed contract: crops in, embeddings out. This is what gets exported.

    For clips the length of the feature before normalisation comes too: weighting the clips of a tracklet by it gives
    the average of the features themselves, as the published test computes it.

    Args:
        model: The network.
        normalized_input: Take float32 images that are normalised already, ``[B, (T,) 3, H, W]``.
        unit: Give embeddings of unit length; else the features as they are, and no lengths beside them.
        part_maps: Give the part maps of each block behind them, ``[B, (T,) N, h, w]`` in 0..1.
    """

    def __init__(self, model: STCANet, normalized_input: bool = False, unit: bool = True, part_maps: bool = False) -> None:
        super().__init__()
        self.normalize = None if normalized_input else Normalize()
        self.model = model
        self.unit, self.part_maps = unit, part_maps

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """uint8 ``[B, H, W, 3]`` to embeddings ``[B, D]``; ``[B, T, H, W, 3]`` to embeddings and norms ``[B]``."""
        output = self.model(images if self.normalize is None else self.normalize(images))
        features = output.features.float()
        results = [F.normalize(features, dim=-1) if self.unit else features]
        if self.unit and images.dim() == 5:
            results.append(features.norm(dim=-1))
        if self.part_maps:
            maps = [logits.sigmoid() for logits in output.part_logits]
            results += maps if images.dim() == 5 else [values.squeeze(1) for values in maps]
        return results[0] if len(results) == 1 else tuple(results)


def build_model(
    preset: str = "stcanet-image",
    num_classes: int | None = None,
    backbone_weights: str | Path = NO_WEIGHTS,
    **overrides: Any,
) -> STCANet:
    """Build a network; nothing is trained, and nothing is downloaded unless asked for.

    Args:
        preset: 'stcanet-image', 'stcanet-video' or 'stcanet-tiny'.
        num_classes: Identities K of the classifier; None for a model that only embeds.
        backbone_weights: 'none', 'imagenet' (downloads through torchvision) or a weights file.
        **overrides: Settings of :class:`~stcanet.config.model.ModelConfig` to replace, as ``blocks=()``.

    Raises:
        OptionError: An unknown preset, or a setting out of range.
        CheckpointError: The backbone weights cannot be had.

    Example:
        >>> model = build_model("stcanet-tiny", num_classes=751)
        >>> model(torch.zeros(2, 3, 128, 64)).features.shape
        torch.Size([2, 512])
    """
    model = STCANet(preset_config(preset, **overrides), num_classes)
    if str(backbone_weights) != NO_WEIGHTS:
        model.backbone.load_imagenet(backbone_weights, model.config.backbone)
    return model
