"""Would a target take a graph? By its published table of operators, where it cannot be asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto, numpy_helper

_NAMES = {
    TensorProto.FLOAT: "FP32",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT8: "INT8",
    TensorProto.UINT8: "UINT8",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
    TensorProto.DOUBLE: "FP64",
}


@dataclass(frozen=True)
class Support:
    """What a target takes."""

    source: str
    """Where that is published."""
    opsets: tuple[int, int]
    operators: Mapping[str, frozenset[str]]
    """Element types of the first input, by operator."""
    zero_point: bool
    """Whether quantisers may have a zero point other than 0."""

    def problems(self, model: onnx.ModelProto) -> list[str]:
        """Why the target would refuse the graph, one sentence each; nothing where it would not."""
        return list(self._problems(model))

    def _problems(self, model: onnx.ModelProto) -> Iterator[str]:
        opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        if not self.opsets[0] <= opset <= self.opsets[1]:
            yield f"opset {opset} is not from {self.opsets[0]} to {self.opsets[1]}"
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
        constants = {tensor.name: tensor for tensor in graph.initializer}
        kinds |= {name: tensor.data_type for name, tensor in constants.items()}
        for node in graph.node:
            kind = _NAMES.get(kinds.get(node.input[0], 0), "an unknown type") if node.input else ""
            if node.op_type not in self.operators:
                yield f"operator {node.op_type} ({node.name}) is not supported"
            elif node.input and kind not in self.operators[node.op_type]:
                yield f"operator {node.op_type} ({node.name}) does not take {kind}"
            elif node.op_type in ("QuantizeLinear", "DequantizeLinear") and not self.zero_point and _shifted(node, constants):
                yield f"the zero point of {node.name} is not 0"


def _shifted(node: onnx.NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    if len(node.input) < 3 or not node.input[2]:
        return False
    point = constants.get(node.input[2])
    return point is None or bool(numpy_helper.to_array(point).any())


_FLOATS = frozenset({"FP32", "FP16", "BF16"})
_NUMBERS = _FLOATS | {"INT32", "INT64"}
_ANY = _NUMBERS | {"BOOL"}

TENSORRT = Support(
    "the operator table of onnx-tensorrt for TensorRT 10.15",
    (9, 24),
    {
        **dict.fromkeys(("BatchNormalization", "Clip", "Conv", "Gemm", "MatMul", "MaxPool", "Sigmoid", "Softmax"), _FLOATS),
        **dict.fromkeys(("Abs", "Add", "Div", "Max", "Mod", "Mul", "Relu", "Sub"), _NUMBERS),
        **dict.fromkeys(("Equal", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum"), _NUMBERS),
        **dict.fromkeys(("Concat", "Expand", "Gather", "Identity", "Reshape", "Shape", "Slice"), _ANY),
        **dict.fromkeys(("Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"), _ANY),
        "Cast": _ANY | {"UINT8"},
        "Range": _NUMBERS,
        "Sqrt": _FLOATS,
        "Not": frozenset({"BOOL"}),
        "And": frozenset({"BOOL"}),
        "Or": frozenset({"BOOL"}),
        "Xor": frozenset({"BOOL"}),
        "Where": frozenset({"BOOL"}),
        "QuantizeLinear": _FLOATS,
        "DequantizeLinear": frozenset({"INT8"}),
    },
    zero_point=False,
)
"""TensorRT, of the operators that this network may come to. uint8 is for inputs and for the cast behind them only."""
