"""Golden vectors as a package holds them, computed here."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from stcanet_runtime import Encoder
from stcanet_runtime.files import sha256_file
from stcanet_runtime.inference.contract import noise
from stcanet_runtime.package.contents import load_manifest

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


def write_golden(package: Path, without: str = "", **changed: np.ndarray) -> None:
    """Write them, with other arrays in the place of some."""
    arrays = golden_vectors(package) | changed
    np.savez(package / "golden.npz", **{name: array for name, array in arrays.items() if name != without})
    seal(package, "golden.npz")


def seal(package: Path, *names: str) -> None:
    """Write the hashes of these files into the manifest."""
    sums = {name: sha256_file(package / name) for name in names}
    (package / "manifest.json").write_text(replace(load_manifest(package), checksums=sums).to_json(), encoding="utf-8")
