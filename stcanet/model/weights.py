"""Weights files of other programs: names and tensors, read without running code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from stcanet_runtime.errors import CheckpointError, quote_choices

WRAPPINGS = ("state_dict", "model_state_dict", "model")
"""Entries under which programs keep their state dict, beside the epoch and the like."""
NOT_FINITE = "has values that are no finite numbers; the training that wrote it diverged"
"""Of a tensor that would fill a network with them."""
_MOST_NAMES, _LONG_NAME = 5, 60  # of a file of anybody, in a message
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
    advice = "if you trust it, save its state dict alone: torch.save(model.state_dict(), path)"
    with torch.serialization.safe_globals(_NUMPY_SCALARS):
        content = load_plain(path, "a weights file", advice)
    for key in WRAPPINGS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not is_state_dict(content) or not content:
        wanted = f"names to dense tensors, alone or as {quote_choices(WRAPPINGS)}"
        raise CheckpointError(f"{path} holds no state dict ({wanted}), but {_described(content)}")
    state: dict[str, Tensor] = {}
    for name, value in content.items():
        if state.setdefault(bare := _PREFIXES.sub("", name, count=1), value) is not value:
            raise CheckpointError(f"{path} has two entries for '{bare}', of which one is '{name}'; remove one of them")
    return state


def load_plain(path: Path | str, what: str, advice: str) -> Any:
    """What is in a file of torch: tensors and plain values. Anything else in it is refused, unread.

    Raises:
        CheckpointError: It cannot be read, or is not `what`; with the `advice`.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}; expected a .pt file") from error
    except Exception as error:  # torch raises many kinds for files that are no checkpoints
        reason = type(error).__name__
        raise CheckpointError(f"{path} is not {what} that is safe to load ({reason}); {advice}") from error


def fill(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load all of a state dict. torch alone would take int8 weights without their scale, and infinities.

    Raises:
        ValueError: It has other names, shapes or kinds of numbers than the module, or values that are not finite.
    """
    for name, place in module.state_dict().items():
        if name in state and (kinds := other_kind(state[name], place)):
            raise ValueError(f"'{name}' is {kinds}")
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(_unfit(module.state_dict(), state) or str(error).splitlines()[-1].strip()) from error
    for name, value in module.state_dict().items():
        if not value.isfinite().all():
            raise ValueError(f"'{name}' {NOT_FINITE}")


def _unfit(ours: dict[str, Tensor], state: dict[str, Tensor]) -> str:
    """What differs, in one line, where torch would name every entry. It does without counters of batches."""
    kinds = {
        "missing": [f"'{name}'" for name in ours if name not in state and not name.endswith("num_batches_tracked")],
        "without a place here": [f"'{name}'" for name in state if name not in ours],
        "of another shape": [
            f"'{name}', {list(state[name].shape)} for {list(ours[name].shape)}"
            for name in state
            if name in ours and state[name].shape != ours[name].shape
        ],
    }
    return "; ".join(f"{len(names)} {kind} (the first is {names[0]})" for kind, names in kinds.items() if names)


def other_kind(value: Tensor, place: Tensor) -> str:
    """``int8 for float32``, say, where a tensor cannot be copied into another as numbers; else nothing."""
    if (value.is_floating_point(), value.is_complex()) == (place.is_floating_point(), place.is_complex()):
        return ""
    return " for ".join(str(tensor.dtype).removeprefix("torch.") for tensor in (value, place))


def _described(content: object) -> str:
    """What a file holds, for a message: its entries, or of what type it is."""
    if not isinstance(content, dict):
        return f"an object of type {type(content).__name__}"
    names = ", ".join(repr(name)[:_LONG_NAME] for name in list(content)[:_MOST_NAMES])
    return f"entries {names}{', …' if len(content) > _MOST_NAMES else ''}" if content else "nothing"


def is_state_dict(content: object) -> TypeGuard[dict[str, Tensor]]:
    """Whether it is names to tensors that have their values: dense ones."""
    return isinstance(content, dict) and all(isinstance(name, str) and _is_dense(value) for name, value in content.items())


def _is_dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and not (value.is_quantized or value.is_meta)
