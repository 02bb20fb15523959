"""Weights files of other programs: names and tensors, read without running code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from stcanet_runtime.errors import CheckpointError, quote_choices

WRAPPINGS = ("state_dict", "model_state_dict", "model")
"""Entries under which programs keep their state dict, beside the epoch and the like."""
_PREFIXES = re.compile(r"(?:module\.|model\.|_orig_mod\.)*")
"""What DataParallel, Lightning and `torch.compile` put before all names."""

_SCALAR = np.float64().__reduce__()[0]
# torchreid and others keep rank-1 and mAP as NumPy scalars. These make numbers and nothing else; NumPy 1 wrote the old name.
_NUMPY_SCALARS: list[Any] = [
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(code)) for code in ("f4", "f8", "i4", "i8")),
]


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The state dict in a file: alone, or under one of :data:`WRAPPINGS`; names without what wrappers add, as ``module.``.

    Raises:
        CheckpointError: The file cannot be read, holds more than tensors, plain values and NumPy numbers, no state dict, or two
            entries of one name.
    """
    try:
        with torch.serialization.safe_globals(_NUMPY_SCALARS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"cannot read the weights {path}: {error.strerror or error}") from error
    except Exception as error:  # torch raises many kinds for files that are no checkpoints
        raise CheckpointError(
            f"{path} is not a weights file that is safe to load ({type(error).__name__}); if you trust it, save its state dict "
            "alone: torch.save(model.state_dict(), path)"
        ) from error
    for key in WRAPPINGS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not is_state_dict(content) or not content:
        raise CheckpointError(f"{path} holds no state dict (names to dense tensors, alone or as {quote_choices(WRAPPINGS)})")
    state: dict[str, Tensor] = {}
    for name, value in content.items():
        if state.setdefault(bare := _PREFIXES.sub("", name, count=1), value) is not value:
            raise CheckpointError(f"{path} has two entries for '{bare}', of which one is '{name}'; remove one of them")
    return state


def is_state_dict(content: object) -> TypeGuard[dict[str, Tensor]]:
    """Whether it is names to tensors that have their values: dense ones."""
    return isinstance(content, dict) and all(isinstance(name, str) and _is_dense(value) for name, value in content.items())


def _is_dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and not (value.is_quantized or value.is_meta)
