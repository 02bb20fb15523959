"""PyTorch to ONNX: one file, standard operators, the manifest inside."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stcanet import __version__
from stcanet.model import Embedder, STCANet
from stcanet_export.graph import convert_opset, tidy, verify
from stcanet_runtime.errors import OptionError
from stcanet_runtime.extras import import_extra
from stcanet_runtime.files import atomic_path
from stcanet_runtime.package.manifest import CLIPS, FLOAT, IMAGES, METADATA_KEY, NORMS, UINT8, InputSpec, Manifest, OutputSpec
from stcanet_runtime.preprocess import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    import onnx

DEFAULT_OPSET = 18
"""What every provider takes whole; the graph uses nothing that is newer."""
OPSETS = tuple(range(17, 28))
"""What can be asked for: up to the newest that onnxruntime 1.32 reads. Older releases of it read less."""
_WRITTEN = 18  # by the exporter. It would convert by itself, but then nodes lose the names of their modules.

_CHATTY = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


@dataclass(frozen=True)
class Contract:
    """What a graph takes and gives. The default is the one of this project; the runtime serves all of them alike."""

    input: str = UINT8
    """Either "uint8": crops, channels last, normalised in the graph. Or "float32": normalised already, channels first, and
    the output is called "output"; that is what BoxMOT and other trackers feed."""
    unit: bool = True
    """Embeddings of unit length; else the features as they are."""
    part_maps: bool = False
    """The part maps of each attention block as further outputs."""
    batch: int | None = None
    """Take exactly that many rows; None for any number."""
    dynamic_time: bool = True
    """Let clips have any length T; the configured one is then the recommended one. Models of images have no time to fix."""

    def __post_init__(self) -> None:
        if self.input not in (UINT8, FLOAT):
            raise OptionError("input", self.input, f"'{UINT8}' or '{FLOAT}'")
        if self.batch is not None and self.batch < 1:
            raise OptionError("batch", self.batch, "at least 1")


def check_opset(number: int) -> None:
    """Raise OptionError where it cannot be asked for."""
    if number not in OPSETS:
        raise OptionError("opset", number, f"one from {OPSETS[0]} to {OPSETS[-1]}")


OWN = Contract()


def export_onnx(
    model: STCANet,
    path: str | Path,
    opset: int = DEFAULT_OPSET,
    contract: Contract = OWN,
    source: dict[str, Any] | None = None,
    licence: str | None = None,
) -> Manifest:
    """Write a model as one ONNX file, verified after every step.

    The model itself is left alone: a copy is exported, in evaluation mode, in float32, on the CPU.

    Args:
        model: What to export. With a `clip_length` it takes clips, else images.
        path: File to write; it replaces an older one when it is complete and verified.
        opset: ONNX operator set, one of :data:`OPSETS`.
        contract: What the graph takes and gives.
        source: Where the weights come from, for the manifest. JSON values.
        licence: Of the weights, for the manifest.

    Returns:
        The manifest that is inside the file.

    Raises:
        OptionError: An opset that is not one of the choices, part maps of a network without attention, or a fixed time of one
            that takes images.
        PackageError: What the exporter made is not a valid model of standard operators.
        ManifestError: `source` is longer, or nested more deeply, than a manifest may be.
        MissingDependencyError: onnxscript is not installed.
    """
    check_opset(opset)
    if contract.part_maps and not model.config.blocks:
        raise OptionError("part_maps", True, "left out: the network has no attention blocks")
    if not contract.dynamic_time and model.config.clip_length is None:
        raise OptionError("dynamic_time", False, f"left out: preset '{model.config.preset}' takes single images")
    import_extra("onnxscript", "onnxscript", "exporting a model", "export")
    manifest = make_manifest(model, opset, contract, source, licence)
    text = manifest.to_json()  # before the work: it may be too long
    embedder = Embedder(frozen(model), contract.input == FLOAT, contract.unit, contract.part_maps)
    graph = _trace(embedder, manifest)
    verify(graph, _WRITTEN)
    tidy(graph, {METADATA_KEY: text}, producer=manifest.generator)
    verify(graph, _WRITTEN)
    if opset != _WRITTEN:
        graph = convert_opset(graph, opset)
        verify(graph, opset)
    with atomic_path(path) as temporary:
        temporary.write_bytes(graph.SerializeToString())
    return manifest


def frozen(model: STCANet) -> STCANet:
    """A copy for inference: evaluation mode, float32, CPU, no gradients, its own weights, attention by standard operators."""
    twin = copy.deepcopy(model).eval().float().cpu().requires_grad_(False)
    twin.use_attention("eager")
    return twin


def make_manifest(
    model: STCANet,
    opset: int,
    contract: Contract,
    source: dict[str, Any] | None = None,
    licence: str | None = None,
) -> Manifest:
    """What a package says about itself, before it is exported."""
    config = model.config
    spec = InputSpec(IMAGES, config.height, config.width, batch=contract.batch)
    output = OutputSpec(model.feature_dim, normalized=contract.unit)
    if config.clip_length is not None:
        spec = replace(spec, name=CLIPS, clip_length=config.clip_length, dynamic_time=contract.dynamic_time)
    if contract.input == FLOAT:
        spec = replace(spec, dtype=FLOAT, layout="NCHW", mean=IMAGENET_MEAN, std=IMAGENET_STD)
        output = replace(output, name="output")
    if contract.part_maps:
        output = replace(output, part_maps=tuple(f"part_maps_{stage}" for stage in config.blocks))
    created = datetime.now(UTC).isoformat(timespec="seconds")
    generator = f"stcanet {__version__}"
    return Manifest(config.preset, spec, output, opset, created, generator, source=source or {}, licence=licence)


def _trace(embedder: torch.nn.Module, manifest: Manifest) -> onnx.ModelProto:
    spec, output = manifest.input, manifest.output
    # At least 2 of everything that shall be dynamic: the tracer takes a length of 1 for a constant.
    shape = [2 if length is None else length for length in spec.shape]
    example = torch.zeros(shape, dtype=getattr(torch, spec.dtype))
    names = ("batch", "time")
    dynamic = {axis: torch.export.Dim(names[axis], min=1) for axis, length in enumerate(spec.shape) if length is None}
    norms = [NORMS] if spec.takes_clips and output.normalized else []
    with _quiet():
        program = torch.onnx.export(
            embedder.eval(),
            (example,),
            dynamo=True,
            opset_version=_WRITTEN,
            input_names=[spec.name],
            output_names=[output.name, *norms, *output.part_maps],
            dynamic_shapes=(dynamic,),
            external_data=False,
            verbose=False,
        )
    assert program is not None  # the dynamo exporter always returns one
    return program.model_proto


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
