"""Writes golden vectors: inputs and what the network gives for them, a file and its pixels, for a check on the target box."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stcanet_export.parity.probes import drawn_inputs
from stcanet_export.parity.sides import TorchSide
from stcanet_runtime.arrays import UInt8Array
from stcanet_runtime.files import atomic_path
from stcanet_runtime.inference.golden import EMBEDDINGS, JPEG, PIXELS
from stcanet_runtime.package.manifest import NORMS
from stcanet_runtime.preprocess import load_image

_MAX_CLIPS = 4
_SIZE = (64, 32, 3)


def write_golden(path: Path, reference: TorchSide) -> None:
    """Write procedural crops (drawn, no real people) with the reference's embeddings, each computed by itself.

    Arrays: the input under its name, uint8 ``[N, H, W, 3]`` or ``[N, T, H, W, 3]``; "embeddings" ``[N, D]``; and "norms"
    ``[N]``, the lengths of the features. "jpeg", the bytes of a file of noise, and "jpeg_pixels" ``[H, W, 3]``, as they are
    decoded here.
    """
    spec, inputs = reference.spec, drawn_inputs(reference.spec)
    if spec.clip_length is not None:
        inputs = inputs[-_MAX_CLIPS:]
    rows = [reference.embed(inputs[index : index + 1]) for index in range(len(inputs))]
    embeddings, norms = map(np.concatenate, zip(*rows, strict=True))
    file, pixels = _decoded()
    arrays: dict[str, Any] = {spec.name: inputs, EMBEDDINGS: embeddings, NORMS: norms, JPEG: file, PIXELS: pixels}
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def _decoded() -> tuple[UInt8Array, UInt8Array]:
    """Bytes ``[B]`` and pixels of a JPEG of noise, in which decoders differ most; its colours are halved, as is common."""
    noise = np.random.default_rng(0).integers(0, 256, _SIZE, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.jpg"
        Image.fromarray(noise).save(path, subsampling="4:2:0")
        return np.frombuffer(path.read_bytes(), np.uint8), load_image(path)
