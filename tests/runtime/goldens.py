"""Golden vectors as a package holds them, computed here."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from stcanet_runtime import Encoder
from stcanet_runtime.contract import noise

Arrays = dict[str, np.ndarray]


def decoded() -> Arrays:
    """A JPEG of noise, and its pixels."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 16, 3), np.uint8)).save(file, "JPEG", subsampling="4:2:0")
    return {"jpeg": np.frombuffer(file.getvalue(), np.uint8), "jpeg_pixels": np.array(Image.open(file))}


def golden_vectors(package: Path) -> Arrays:
    """Five; lengths of features, which a package of images does not tell, are 1."""
    encoder = Encoder.load(package, "cpu")
    inputs = noise(encoder.manifest.input, 5)
    embeddings, norms = encoder.embed_batch(inputs)
    lengths = np.ones(5, np.float32) if norms is None else norms
    return {encoder.manifest.input.name: inputs, "embeddings": embeddings, "norms": lengths, **decoded()}


def write_golden(package: Path, **changed: np.ndarray) -> None:
    """Write them, with other arrays in the place of some."""
    np.savez(package / "golden.npz", **golden_vectors(package) | changed)
