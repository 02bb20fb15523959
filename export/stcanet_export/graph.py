"""What is done to an ONNX graph after the exporter: names for people, no traces of the machine, proof that it is valid."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import onnx
import onnx.version_converter

from stcanet_runtime.errors import PackageError
from stcanet_runtime.package.manifest import METADATA_KEY, Manifest

MAX_IR_VERSION = 10
"""Newest file format that onnxruntime 1.22 reads."""
_STANDARD_DOMAINS = ("", "ai.onnx")
_SCOPES = "pkg.torch.onnx.name_scopes"


def tidy(model: onnx.ModelProto, metadata: Mapping[str, str], producer: str) -> None:
    """Make an exported model fit to be handed on, in place.

    Nodes are named after the module they come from, as ``blocks.2.channel/Softmax``. The exporter's notes go: they hold
    stack traces with the paths of the machine that exported.
    """
    used: Counter[str] = Counter()
    for node in model.graph.node:
        node.name = _unique(_readable(node), used)
        node.doc_string = ""
    _measure_behind_cast(model.graph)
    for part in _annotated(model):
        del part.metadata_props[:]
    model.graph.doc_string = ""
    model.graph.name = "stcanet"
    model.producer_name, _, model.producer_version = producer.partition(" ")
    onnx.helper.set_model_props(model, dict(metadata))


def _measure_behind_cast(graph: onnx.GraphProto) -> None:
    """Take the shape of the uint8 input from behind its cast: TensorRT lets uint8 be cast and nothing else."""
    inputs = {value.name for value in graph.input}
    cast = next((node for node in graph.node if node.op_type == "Cast" and node.input[0] in inputs), None)
    if cast is None:
        return
    module = cast.name.rpartition("/")[0]
    measured = [node for node in graph.node if node.op_type == "Shape" and node.input[0] == cast.input[0]]
    for index, node in enumerate(measured):
        node.input[0] = cast.output[0]
        # Among the nodes of the cast's module, which else would be two calls to the comparison by layer.
        node.name = f"{module}/Shape" + (f"_{index}" if index else "")
    moved = onnx.NodeProto()
    moved.CopyFrom(cast)
    graph.node.remove(cast)
    graph.node.insert(0, moved)


def seal(model: onnx.ModelProto, manifest: Manifest) -> None:
    """Sign a converted model with its manifest, in place: converters leave their own name and notes."""
    model.graph.name = "stcanet"
    model.producer_name, _, model.producer_version = manifest.generator.partition(" ")
    onnx.helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})


def convert_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The same model in another operator set, by ONNX's own converter.

    Raises:
        PackageError: An operator cannot be converted.
    """
    try:
        converted = onnx.version_converter.convert_version(model, opset)
    except RuntimeError as error:
        raise PackageError(f"the graph cannot be written for opset {opset}: {' '.join(str(error).split())}") from error
    for node in converted.graph.node:
        # The converter moves the axes back into an attribute, and forgets this one, which came with the axes as an input.
        for attribute in [item for item in node.attribute if item.name == "noop_with_empty_axes" and item.i == 0]:
            node.attribute.remove(attribute)
    converted.ir_version = model.ir_version
    return converted


def verify(model: onnx.ModelProto, opset: int) -> None:
    """Check that a model is valid, complete in itself, and made of standard operators.

    Raises:
        PackageError: It is not; the message says why.
    """
    if model.ir_version > MAX_IR_VERSION:
        raise PackageError(f"the exporter wrote IR version {model.ir_version}, at most {MAX_IR_VERSION} can be read")
    foreign = sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in _STANDARD_DOMAINS})
    if foreign or model.functions:
        names = foreign or [function.name for function in model.functions]
        raise PackageError(f"the graph has operators that are not standard ONNX: {', '.join(names)}")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise PackageError("the exporter put weights into another file")
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("") != opset:
        raise PackageError(f"the exporter wrote opset {opsets.get('')}, asked for was {opset}")
    try:
        onnx.checker.check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise PackageError(f"the exporter wrote a model that is not valid: {' '.join(str(error).split())}") from error


def _readable(node: onnx.NodeProto) -> str:
    """``module.path/Operator``; the operator alone where the exporter's optimiser left no origin."""
    text = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]").replace("'", '"')
    try:
        scopes = [scope for scope in json.loads(text)[:-1] if scope.isascii() and not scope.startswith("_")]
    except ValueError:
        scopes = []
    module = scopes[-1] if scopes else ""
    # The Embedder around the network is no part of any name that a user knows.
    module = module.removeprefix("model.") if module != "model" else ""
    return f"{module}/{node.op_type}" if module else node.op_type


def _unique(name: str, used: Counter[str]) -> str:
    used[name] += 1
    return name if used[name] == 1 else f"{name}_{used[name] - 1}"


def _annotated(model: onnx.ModelProto) -> Iterator[Any]:
    graph = model.graph
    yield from (model, graph)
    for group in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
        yield from group
