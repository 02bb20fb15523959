"""STCANet: person re-identification with spatio-temporal context, from training to the camera box.

Importing this package does not import torch; the names below do, when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stcanet.extras import EXTRA_OF
from stcanet_runtime._version import __version__
from stcanet_runtime.lazy import lazy_names

if TYPE_CHECKING:
    from stcanet.config import ModelConfig, TrainConfig
    from stcanet.data.datasets import load_dataset
    from stcanet.engine.checkpoint import load_checkpoint
    from stcanet.engine.trainer import train
    from stcanet.evaluation import evaluate
    from stcanet.model import Embedder, STCANet, build_model

_LAZY = {
    "config": ("ModelConfig", "TrainConfig"),
    "data.datasets": ("load_dataset",),
    "engine.checkpoint": ("load_checkpoint",),
    "engine.trainer": ("train",),
    "evaluation": ("evaluate",),
    "model": ("Embedder", "STCANet", "build_model"),
}

__all__ = [
    "Embedder",
    "ModelConfig",
    "STCANet",
    "TrainConfig",
    "__version__",
    "build_model",
    "evaluate",
    "load_checkpoint",
    "load_dataset",
    "train",
]

if not TYPE_CHECKING:  # else every misspelt name would be an object to mypy
    __getattr__, __dir__ = lazy_names(__name__, _LAZY, EXTRA_OF)
