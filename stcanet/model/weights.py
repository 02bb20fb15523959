"""Weights files of other programs: names and tensors, read without running code."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from stcanet_runtime.errors import CheckpointError

WRAPPINGS = ("state_dict", "model")
"""Entries under which programs keep their state dict, beside the epoch and the like."""

_SCALAR = np.float64().__reduce__()[0]
# torchreid and others keep rank-1 and mAP as NumPy scalars. These make numbers and nothing else; NumPy 1 wrote the old name.
_NUMPY_SCALARS: list[Any] = [
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(code)) for code in ("f4", "f8", "i4", "i8")),
]


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The state dict in a file: alone, or under one of :data:`WRAPPINGS`; without the ``module.`` that DataParallel adds.

    Raises:
        CheckpointError: The file does not exist, holds more than tensors, plain values and NumPy numbers, or no state dict.
    """
    try:
        with torch.serialization.safe_globals(_NUMPY_SCALARS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"weights {path} do not exist") from None
    except Exception as error:  # torch raises many kinds for files that are no checkpoints
        raise CheckpointError(
            f"{path} is not a weights file that is safe to load ({type(error).__name__}); if you trust it, save its state dict "
            "alone: torch.save(model.state_dict(), path)"
        ) from error
    for key in WRAPPINGS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not content or not is_state_dict(content):
        raise CheckpointError(f"{path} holds no state dict (names to tensors)")
    return {name.removeprefix("module."): value for name, value in content.items()}


def is_state_dict(content: object) -> TypeGuard[dict[str, Tensor]]:
    """Whether it is names to tensors."""
    return isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    )
