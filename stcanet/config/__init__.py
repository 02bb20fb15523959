"""All settings and all their defaults. No torch in here, so that a mistake shows at once."""

from stcanet.config.load import load_toml, make_config, parse_override
from stcanet.config.model import PARTS, PRESETS, ModelConfig, check_blocks, preset_config
from stcanet.config.training import (
    IMAGENET,
    NO_WEIGHTS,
    AugmentConfig,
    Cache,
    ClipConfig,
    Distance,
    LossConfig,
    OptimConfig,
    PartLoss,
    TrainConfig,
    check_device,
)

__all__ = [
    "IMAGENET",
    "NO_WEIGHTS",
    "PARTS",
    "PRESETS",
    "AugmentConfig",
    "Cache",
    "ClipConfig",
    "Distance",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "PartLoss",
    "TrainConfig",
    "check_blocks",
    "check_device",
    "load_toml",
    "make_config",
    "parse_override",
    "preset_config",
]
