"""float16, by ONNX Runtime's converter: float32 inputs and outputs, and float32 where half precision cannot do it."""

from __future__ import annotations

import copy
from collections.abc import Collection

import onnx
from onnx import TensorProto

from stcanet_export.variants.units import attribute, settle, unit_of
from stcanet_runtime.inference.providers import import_onnxruntime

_ATTENTION = "blocks."
_FLOAT32_AT = "channel"


def to_half(model: onnx.ModelProto, lowered: Collection[str]) -> onnx.ModelProto:
    """A copy in which the nodes of some units compute in float16.

    Everything else computes in float32, and what passes between two such nodes is not rounded on its way. The core of channel
    attention (products and softmax) is in float32 always, as it is in training: its logits reach the thousands, where
    neighbouring float16 numbers are 4 and more apart, and can pass 65,504, the largest of them.

    Args:
        model: In float32.
        lowered: Units, as :func:`~stcanet_export.variants.units.units_of` names them.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
    """
    converter = import_onnxruntime(".transformers.float16", "exporting fp16 and int8")
    names = {node.name for node in model.graph.node}
    kept = [node.name for node in model.graph.node if unit_of(node.name) not in lowered or _is_core(node.name)]
    source = copy.deepcopy(model)
    # Types noted for weights would make the converter cast those that stay as they are.
    del source.graph.value_info[:]
    # An empty list of operators: the converter's own would keep Max and others in float32 for want of kernels of long ago.
    converted: onnx.ModelProto = converter.convert_float_to_float16(
        source, keep_io_types=True, op_block_list=[], node_block_list=kept
    )
    _join(converted.graph)
    settle(converted, names)
    return converted


def _is_core(node: str) -> bool:
    """Whether a node is of channel attention itself, not of the convolution behind it."""
    path = node.rpartition("/")[0]
    return path.startswith(_ATTENTION) and path.endswith(f".{_FLOAT32_AT}")


def _join(graph: onnx.GraphProto) -> None:
    """Take out what the converter puts between two nodes in float32: a cast to float16 and one back, which round."""
    makers = {name: node for node in graph.node for name in node.output}
    renamed: dict[str, str] = {}
    for node in graph.node:
        first = makers.get(node.input[0]) if _casts_to(node, TensorProto.FLOAT) else None
        if first is not None and _casts_to(first, TensorProto.FLOAT16) and _made_in_float32(first, makers):
            renamed[node.output[0]] = first.input[0]
    outputs = {value.name for value in graph.output}
    for name in outputs & renamed.keys():  # an output keeps its name: its maker takes it over
        source = renamed.pop(name)
        makers[name].output[0] = f"{name}_rounded"
        renamed |= {source: name}
        _rename_outputs(makers[source], source, name)
    for node in graph.node:
        for index, name in enumerate(node.input):
            while name in renamed:
                name = renamed[name]
            node.input[index] = name


def _rename_outputs(node: onnx.NodeProto, old: str, new: str) -> None:
    for index, name in enumerate(node.output):
        if name == old:
            node.output[index] = new


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and attribute(node, "to") == kind


def _made_in_float32(cast: onnx.NodeProto, makers: dict[str, onnx.NodeProto]) -> bool:
    # The converter gives the raw output of a node in float32 this ending; it has no other casts behind such nodes.
    return cast.input[0] in makers and cast.input[0].endswith("_cast_to_fp16")
