"""Writes golden vectors: inputs and what the network gives for them, for a check on the target box."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stcanet_export.probes import drawn_inputs
from stcanet_export.sides import Side
from stcanet_runtime.files import atomic_path
from stcanet_runtime.golden import EMBEDDINGS
from stcanet_runtime.manifest import NORMS

_MAX_CLIPS = 4


def write_golden(path: Path, reference: Side) -> None:
    """Write procedural crops (drawn, no real people) with the reference's embeddings, each computed by itself.

    Arrays: the input under its name, uint8 ``[N, H, W, 3]`` or ``[N, T, H, W, 3]``; "embeddings" ``[N, D]``; and "norms"
    ``[N]``, the lengths of the features.
    """
    spec, inputs = reference.spec, drawn_inputs(reference.spec)
    if spec.clip_length is not None:
        inputs = inputs[-_MAX_CLIPS:]
    rows = [reference.embed(inputs[index : index + 1]) for index in range(len(inputs))]
    arrays: dict[str, Any] = {spec.name: inputs, EMBEDDINGS: np.concatenate([embeddings for embeddings, _ in rows])}
    if norms := [norm for _, norm in rows if norm is not None]:
        arrays[NORMS] = np.concatenate(norms)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)
