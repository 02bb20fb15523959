"""What a model is made of, and the presets: the numbers of the architecture live here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from stcanet.config.values import check_choices, typed
from stcanet_runtime.errors import ConfigError, OptionError, quote_choices

Pool = Literal["avg", "max"]
PartPool = Literal["sum", "mean"]
HeadInit = Literal["default", "small"]
Attention = Literal["auto", "fused", "sdpa", "eager"]

MAX_SIDE, MAX_FRAMES, MAX_PARTS = 4096, 4096, 256
"""Far above any use: a damaged or hostile checkpoint shall not allocate what it likes."""
PARTS = ("head", "upper_clothes", "lower_clothes", "shoes")
"""Of the body: part k of a part map (k = 1 … 4) is ``PARTS[k - 1]``; 0 is background. Bags are background, as in LIP."""
STAGES = (1, 2, 3, 4)
BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the shape of a network, and how its attention is computed.

    Weights fit a network if and only if these agree, `attention` apart: all implementations compute the same.
    """

    preset: str
    """Name of the preset that this started from; kept for people, never interpreted."""
    backbone: str = "resnet50"
    """A torchvision ResNet; its last stride is 1 here."""
    blocks: tuple[int, ...] = (2, 3)
    """After which of the stages 1 to 4 an STCA block stands; empty for the plain backbone."""
    pool: Pool = "avg"
    """Pooling of the last feature map over time, height and width."""
    height: int = 256
    """Input height in pixels."""
    width: int = 128
    """Input width in pixels."""
    clip_length: int | None = None
    """Frames T of an input clip; None for single images. The weights do not depend on it."""
    num_parts: int = len(PARTS)
    """Body parts N of the part maps; masks have those of :data:`PARTS`."""
    part_pool: PartPool = "sum"
    """How the features of a part are pooled by its map: 'sum', as published; 'mean', divided by its area, a pixel at least."""
    relation_clip: bool = True
    """Whether the relation between two parts also sees the mean of the clip, as published. What it adds is the same for all
    pairs and cancels in the softmax; it acts through the statistics of a normalisation while training."""
    head_init: HeadInit = "default"
    """'default': as the framework does (image recipe); 'small': neck gain N(1, 0.02), classifier N(0, 0.001) (video recipe)."""
    attention: Attention = "auto"
    """How attention is computed: 'eager', by PyTorch's matrix products; 'sdpa', by its attention function (channel attention
    only); 'fused', by the CUDA kernels of this project; 'auto', by a table of what was measured. One that is named and cannot
    run is an error."""

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise OptionError("model.backbone", self.backbone, quote_choices(BACKBONES))
        check_choices(self, "model.")
        check_blocks(self.blocks, "model.blocks")
        object.__setattr__(self, "blocks", tuple(sorted(self.blocks)))  # as the network has them, and gives their part maps
        for name in ("height", "width"):
            if not 32 <= getattr(self, name) <= MAX_SIDE:
                raise OptionError(f"model.{name}", getattr(self, name), f"from 32 to {MAX_SIDE} pixels")
        if self.clip_length is not None and not 1 <= self.clip_length <= MAX_FRAMES:
            raise OptionError("model.clip_length", self.clip_length, f"from 1 to {MAX_FRAMES} frames, or none for images")
        if not 1 <= self.num_parts <= MAX_PARTS:
            raise OptionError("model.num_parts", self.num_parts, f"from 1 to {MAX_PARTS}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Rebuild from what :func:`dataclasses.asdict` gave, as stored in checkpoints.

        Raises:
            ConfigError: A field is unknown, or a value has the wrong type; or the preset is missing.
            OptionError: A value is out of range.
        """
        if "preset" not in values:
            raise ConfigError("model.preset is missing")
        return cls(**typed(cls, values, "model."))


def check_blocks(stages: Sequence[int], name: str = "blocks") -> None:
    """Raise OptionError, for an option of that name, where an attention block cannot stand after each of these stages."""
    if not set(stages) <= set(STAGES) or len(set(stages)) != len(stages):
        raise OptionError(name, stages, f"none, or distinct stages out of {', '.join(map(str, STAGES))}")


PRESETS: dict[str, ModelConfig] = {
    config.preset: config
    for config in (
        ModelConfig("stcanet-image"),
        ModelConfig("stcanet-video", blocks=(2,), pool="max", clip_length=4, head_init="small"),
        ModelConfig("stcanet-tiny", backbone="resnet18", height=128, width=64),
    )
}


def preset_config(preset: str, **overrides: Any) -> ModelConfig:
    """The settings of a preset, some of them replaced.

    Raises:
        OptionError: There is no such preset, or a value is out of range.
        ConfigError: There is no such setting, or a value has the wrong type.
    """
    if preset not in PRESETS:
        raise OptionError("preset", preset, quote_choices(tuple(PRESETS)))
    return replace(PRESETS[preset], **typed(ModelConfig, overrides, "model."))
