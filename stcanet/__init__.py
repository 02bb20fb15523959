"""STCANet: person re-identification with spatio-temporal context, from training to the camera box.

Importing this package does not import torch; the names below do, when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from stcanet_runtime._version import __version__

if TYPE_CHECKING:
    from stcanet.config import ModelConfig, TrainConfig
    from stcanet.data.datasets import load_dataset
    from stcanet.engine.checkpoint import load_checkpoint
    from stcanet.engine.trainer import train
    from stcanet.evaluation import evaluate
    from stcanet.model import Embedder, STCANet, build_model

_HOMES = {
    "build_model": "stcanet.model",
    "STCANet": "stcanet.model",
    "ModelConfig": "stcanet.config",
    "TrainConfig": "stcanet.config",
    "Embedder": "stcanet.model",
    "evaluate": "stcanet.evaluation",
    "load_checkpoint": "stcanet.engine.checkpoint",
    "load_dataset": "stcanet.data.datasets",
    "train": "stcanet.engine.trainer",
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

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
