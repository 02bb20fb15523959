"""Between crops and the graph of a package: one set of crops gives the same embeddings, whatever the graph's contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.arrays import Float32Array, UInt8Array
from stcanet_runtime.backends.gpu_arrays import to_host
from stcanet_runtime.batching import cut
from stcanet_runtime.embeddings import LEAST_NORM
from stcanet_runtime.errors import ManifestError, PackageError, ShapeError
from stcanet_runtime.inference.session import Session, Tensor
from stcanet_runtime.package.manifest import FLOAT, NORMS, InputSpec, Manifest
from stcanet_runtime.preprocess import normalize
from stcanet_runtime.wording import counted

_MAX_LENGTH_ERROR = 0.01
"""More than rounding to bfloat16 does to an embedding."""
_ORT_TYPES = {"uint8": "uint8", "float32": "float"}


def check_crops(crops: NDArray[Any], spec: InputSpec) -> None:
    """See that `crops` are what a package takes.

    Raises:
        ShapeError: They are not uint8, or not of the size.
    """
    expected = spec.crops_shape
    if crops.dtype != np.uint8 or not _fits(crops.shape, expected):
        raise ShapeError(f"batch must be uint8 {_text(expected)}, got {crops.dtype} {list(crops.shape)}")


def noise(spec: InputSpec, count: int) -> UInt8Array:
    """As many crops, or clips of the recommended length, always the same: to prepare for real ones and to measure with."""
    shape = [length or spec.clip_length or 1 for length in spec.crops_shape[1:]]
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def to_tensor(crops: UInt8Array, spec: InputSpec) -> NDArray[Any]:
    """The input of the graph for `crops` of :attr:`InputSpec.crops_shape`; bytes of a GPU stay there."""
    if spec.dtype == FLOAT:
        assert spec.mean is not None and spec.std is not None  # noqa: PT018  (checked by InputSpec)
        return normalize(to_host(crops), spec.mean, spec.std)
    return crops if crops.flags.c_contiguous else crops.copy()


def run_graph(manifest: Manifest, session: Session, crops: UInt8Array) -> dict[str, NDArray[Any]]:
    """Every output of the graph by name, a row a crop.

    A graph of a fixed batch runs as often as it takes, its last run filled up.

    Raises:
        PackageError: The model gave more or fewer rows than crops.
    """
    spec = manifest.input
    runs = []
    for rows, count in cut(crops, (spec.batch or len(crops),)):
        outputs = session.run({spec.name: to_tensor(rows, spec)})
        if wrong := [name for name, value in outputs.items() if len(value) != len(rows)]:
            raise PackageError(
                f"the model gave '{wrong[0]}' {list(outputs[wrong[0]].shape)}, expected {counted(len(rows), 'row', 'rows')}"
            )
        runs.append({name: value[:count] for name, value in outputs.items()})
    return runs[0] if len(runs) == 1 else {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}


def unit_embeddings(manifest: Manifest, outputs: Mapping[str, NDArray[Any]]) -> tuple[Float32Array, Float32Array | None]:
    """Embeddings ``[N, D]`` of unit length, and where the graph tells them the lengths ``[N]`` of the features before that.

    Raises:
        PackageError: The model gave another dimension, NaN or infinity, or embeddings of another length than 1.
    """
    values: Float32Array = outputs[manifest.output.name]
    if values.ndim != 2 or values.shape[1] != manifest.output.dim:
        raise PackageError(f"the model gave embeddings {list(values.shape)}, expected [any, {manifest.output.dim}]")
    lengths: NDArray[Any] = np.linalg.norm(values, axis=1)
    norms = outputs.get(NORMS) if manifest.output.normalized else lengths
    if not (np.isfinite(lengths).all() and (norms is None or np.isfinite(norms).all())):
        raise PackageError("the model gave embeddings that are not finite; its weights or its precision are broken")
    if not manifest.output.normalized:
        return values / np.maximum(lengths, np.float32(LEAST_NORM))[:, None], norms
    if (wrong := lengths[(lengths > 0) & (np.abs(lengths - 1) > _MAX_LENGTH_ERROR)]).size:  # a feature of zeros has no length
        raise PackageError(f"the model gave embeddings of length {wrong[0]:.4g}, and the manifest says of unit length")
    return values, norms


def check_contract(manifest: Manifest, session: Session) -> None:
    """The graph must be what the manifest promises, or sizes and dimensions are wrong from here on.

    Raises:
        ManifestError: It is not.
    """
    inputs = {tensor.name: tensor for tensor in session.inputs}
    outputs = {tensor.name: tensor for tensor in session.outputs}
    spec = manifest.input
    if len(inputs) != 1:
        raise ManifestError(f"the manifest says one input, the model has {len(inputs)}: {', '.join(inputs)}")
    _check_tensor("input", inputs, spec.name, _ORT_TYPES[spec.dtype], spec.shape)
    if inputs[spec.name].shape != spec.shape:  # exactly: a batch axis that is fixed fails at the second batch
        raise ManifestError(f"the model's input is {_text(inputs[spec.name].shape)}, the manifest says {_text(spec.shape)}")
    promised: dict[str, tuple[int | None, ...]] = {manifest.output.name: (spec.batch, manifest.output.dim)}
    if spec.takes_clips and manifest.output.normalized:
        promised[NORMS] = (spec.batch,)
    promised |= dict.fromkeys(manifest.output.part_maps, (spec.batch, *([None] * (len(spec.shape) - 1))))
    for name, shape in promised.items():
        _check_tensor("output", outputs, name, "float", shape)
    if unknown := sorted(outputs.keys() - promised.keys()):
        raise ManifestError(f"the model has an output '{unknown[0]}', which the manifest does not know")


def _check_tensor(kind: str, tensors: dict[str, Tensor], name: str, dtype: str, shape: tuple[int | None, ...]) -> None:
    tensor = tensors.get(name)
    if tensor is None:
        raise ManifestError(f"the manifest says {kind} '{name}', the model has {', '.join(tensors) or 'none'}")
    if tensor.dtype != dtype or not _fits(tensor.shape, shape):
        raise ManifestError(
            f"the manifest says {kind} '{name}' is {dtype} {_text(shape)}, the model has {tensor.dtype} {_text(tensor.shape)}"
        )


def _fits(actual: Sequence[int | None], expected: Sequence[int | None]) -> bool:
    """Whether two shapes agree wherever both are known."""
    return len(actual) == len(expected) and all(
        a == b for a, b in zip(actual, expected, strict=True) if a is not None and b is not None
    )


def _text(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("any" if length is None else str(length) for length in shape) + "]"
