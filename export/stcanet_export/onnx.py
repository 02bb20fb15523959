"""PyTorch to ONNX: one file, standard operators, the manifest inside."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stcanet import __version__
from stcanet.model import Embedder, STCANet
from stcanet_export.graph import tidy, verify
from stcanet_runtime.errors import MissingDependencyError, OptionError
from stcanet_runtime.files import atomic_path
from stcanet_runtime.manifest import CLIPS, IMAGES, METADATA_KEY, NORMS, InputSpec, Manifest, OutputSpec

if TYPE_CHECKING:
    import onnx

DEFAULT_OPSET = 18
"""What every provider takes whole; the graph uses nothing that is newer."""
OPSETS = (18, 19, 20, 21, 22, 23)
"""What can be asked for. The exporter writes 18 and newer."""

_CHATTY = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


def export_onnx(
    model: STCANet,
    path: str | Path,
    opset: int = DEFAULT_OPSET,
    dynamic_time: bool = True,
    source: dict[str, Any] | None = None,
) -> Manifest:
    """Write a model as one ONNX file: uint8 RGB in, normalisation inside, unit embeddings out, any batch size.

    The model itself is left alone: a copy is exported, in evaluation mode, in float32, on the CPU.

    Args:
        model: What to export. With a `clip_length` it takes clips, else images.
        path: File to write; it replaces an older one when it is complete and verified.
        opset: ONNX operator set, one of :data:`OPSETS`.
        dynamic_time: Let clips have any length T; the configured one is then the recommended one. Without effect on
            models of images.
        source: Where the weights come from, for the manifest. JSON values.

    Returns:
        The manifest that is inside the file.

    Raises:
        OptionError: An opset that is not one of the choices.
        PackageError: What the exporter made is not a valid model of standard operators.
        MissingDependencyError: onnx or onnxscript is not installed.
    """
    if opset not in OPSETS:
        raise OptionError("opset", opset, f"from {OPSETS[0]} to {OPSETS[-1]}")
    _require_exporter()
    manifest = make_manifest(model, opset, dynamic_time, source)
    graph = _trace(Embedder(frozen(model)), manifest)
    tidy(graph, {METADATA_KEY: manifest.to_json()}, producer=manifest.generator)
    verify(graph, manifest)
    with atomic_path(path) as temporary:
        temporary.write_bytes(graph.SerializeToString())
    return manifest


def frozen(model: STCANet) -> STCANet:
    """A copy for inference: evaluation mode, float32, CPU, no gradients, its own weights, attention by standard operators."""
    twin = copy.deepcopy(model).eval().float().cpu().requires_grad_(False)
    twin.use_attention("eager")
    return twin


def make_manifest(model: STCANet, opset: int, dynamic_time: bool, source: dict[str, Any] | None) -> Manifest:
    """The contract of a model, before it is exported."""
    config = model.config
    spec = InputSpec(IMAGES, config.height, config.width)
    if config.clip_length is not None:
        spec = replace(spec, name=CLIPS, clip_length=config.clip_length, dynamic_time=dynamic_time)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Manifest(
        config.preset, spec, OutputSpec(model.feature_dim), opset, created, f"stcanet {__version__}", source=source or {}
    )


def _trace(embedder: torch.nn.Module, manifest: Manifest) -> onnx.ModelProto:
    spec = manifest.input
    # At least 2 of everything that shall be dynamic: the tracer takes a length of 1 for a constant.
    shape = [2 if length is None else length for length in spec.shape]
    example = torch.zeros(shape, dtype=torch.uint8)
    names = ("batch", "time")
    dynamic = {axis: torch.export.Dim(names[axis], min=1) for axis, length in enumerate(spec.shape) if length is None}
    with _quiet():
        program = torch.onnx.export(
            embedder.eval(),
            (example,),
            dynamo=True,
            opset_version=manifest.opset,
            input_names=[spec.name],
            output_names=[manifest.output.name, *([NORMS] if spec.name == CLIPS else [])],
            dynamic_shapes=(dynamic,),
            external_data=False,
            verbose=False,
        )
    assert program is not None  # the dynamo exporter always returns one
    return program.model_proto


def _require_exporter() -> None:
    for package in ("onnx", "onnxscript"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingDependencyError(package, "exporting a model", "export") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks about its own inside (deprecated calls, constants that it does not fold).

    What matters about the result is verified afterwards; errors are exceptions and pass.
    """
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
