"""Layer by layer: where the error of a package is made.

Nodes are named after modules (``blocks.2.channel/Softmax``), so that what a module gives in PyTorch is what the last of its
nodes gives in ONNX. PyTorch is watched through hooks; the graph is run as a copy that has those tensors as outputs, too.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from stcanet_export.parity.report import LayerError

Array = NDArray[Any]
_QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
_NO_NUMBER = 1e9  # JSON has no infinity
_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16})


@dataclass(frozen=True)
class Layer:
    """What one call of a module took and gave. The input has every tensor that it may be."""

    name: str
    inputs: tuple[Array, ...]
    output: Array


_JUMP = 20.0
"""A layer that makes the error so many times larger than any layer before it is where it is made: channel attention
magnifies rounding by 3 to 10."""


def first_to_part(errors: Sequence[LayerError], bound: float) -> str | None:
    """Name the layer in which reference and candidate part; None where no error is above `bound`.

    That is the first layer whose error stands out from those before it, or else the first above the bound. Where what it
    got is wrong already, and all layers before it are right, the error is made between them, in the module that holds both.

    Args:
        errors: In the order in which the reference finishes its layers: children before the module that holds them.
        bound: Largest relative error that may be rounding.
    """
    worst = [0.0, *np.maximum.accumulate([layer.output for layer in errors])]
    for jump in (_JUMP, 0.0):
        for index, layer in enumerate(errors):
            limit = max(bound, jump * worst[index])
            if layer.output > limit:
                return _place(errors, index, limit)
    return None


def _place(errors: Sequence[LayerError], index: int, limit: float) -> str:
    layer = errors[index]
    if layer.input is None or layer.input <= limit:
        return layer.name
    parent = layer.name.split(" ")[0].rpartition(".")[0] or "the network"
    return f"{parent} (between {errors[index - 1].name if index else 'its input'} and {layer.name})"


def compare_layers(reference: Sequence[Layer], candidate: Sequence[Layer]) -> list[LayerError]:
    """Errors of the layers that both have, in the order of the reference."""
    found = {layer.name: layer for layer in candidate}
    errors: list[LayerError] = []
    folded: tuple[Array, ...] = ()  # what a convolution took that is one node with the normalisation behind it
    for layer in reference:
        other = found.get(layer.name)
        if other is None or other.output.shape != layer.output.shape:
            folded = layer.inputs
            continue
        pairs = [(a, b) for b in (*folded, *layer.inputs) for a in other.inputs if a.shape == b.shape]
        taken = min((relative_error(*pair) for pair in pairs), default=None)
        errors.append(LayerError(layer.name, relative_error(other.output, layer.output), taken))
        folded = ()
    return errors


def relative_error(actual: Array, expected: Array) -> float:
    """``‖actual − expected‖ / ‖expected‖``; a large number where that is not one, or where the shapes differ."""
    if actual.shape != expected.shape:
        return _NO_NUMBER
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    error = float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-12))
    return error if np.isfinite(error) else _NO_NUMBER


@torch.inference_mode()
def torch_layers(embedder: nn.Module, batch: Array) -> list[Layer]:
    """Run `embedder` on ``[N, …]`` and keep what each of its modules gives, in the order in which they finish."""
    layers: list[Layer] = []
    calls: Counter[str] = Counter()
    waiting: dict[str, list[Array]] = {}

    def before(name: str, inputs: tuple[Any, ...]) -> None:
        # A copy: ReLU writes into what it was given.
        waiting.setdefault(name, []).append(inputs[0].numpy().copy())

    def after(name: str, output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        if isinstance(tensor, torch.Tensor):
            calls[name] += 1
            layers.append(Layer(call_name(name, calls[name]), (waiting[name].pop(),), tensor.numpy().copy()))

    handles = []
    for path, module in embedder.named_modules():
        if name := path.removeprefix("model.").removeprefix("model"):
            handles.append(module.register_forward_pre_hook(lambda _, inputs, name=name: before(name, inputs)))
            handles.append(module.register_forward_hook(lambda _, __, output, name=name: after(name, output)))
    try:
        embedder(torch.from_numpy(np.ascontiguousarray(batch)))
    finally:
        for handle in handles:
            handle.remove()
    return layers


def graph_layers(path: Path, batch: Array, open_model: Callable[[Path], Any]) -> list[Layer]:
    """Run a copy of an ONNX model whose modules' tensors are outputs, and keep what each module gives.

    Args:
        path: The model.
        batch: Its input.
        open_model: Makes a :class:`~stcanet_runtime.inference.session.Session` of a model file, or what has all of one.

    Raises:
        StcanetError: The copy cannot be opened.
        Exception: ONNX Runtime's own, where the model cannot run the batch; its text names the node.
    """
    model = onnx.load(path)
    kinds = _element_types(model)
    spans = [span for span in _spans(model.graph) if span[2] in kinds]
    wanted = {name for _, inputs, output in spans for name in (*inputs, output) if name in kinds}
    present = {value.name for value in model.graph.output} | {value.name for value in model.graph.input}
    for name in sorted(wanted - present):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, kinds[name], None))
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, Path(folder) / "layers.onnx")
        session = open_model(Path(folder) / "layers.onnx")
        values = session.run({model.graph.input[0].name: batch}) | {model.graph.input[0].name: batch}
    return [
        Layer(name, tuple(values[item] for item in inputs if item in values), values[output]) for name, inputs, output in spans
    ]


def call_name(name: str, call: int) -> str:
    """``blocks.2.part.reduce``, and ``blocks.2.part.reduce (call 2)`` where a module runs again."""
    return name if call == 1 else f"{name} (call {call})"


def _element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Element types of the tensors of floating point that nodes make, and of the input."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    return {name: kind for name, kind in types.items() if kind in _FLOATS} | {
        value.name: value.type.tensor_type.elem_type for value in graph.input
    }


def _spans(graph: onnx.GraphProto) -> Iterator[tuple[str, list[str], str]]:
    """Each call of each module: its name, the tensors that it takes from outside, and the last one that it gives.

    A leaf that runs several times is several runs of neighbouring nodes. A module that holds others is one span.
    """
    paths = [node.name.rpartition("/")[0] for node in graph.node]
    modules = {".".join(path.split(".")[: depth + 1]) for path in paths if path for depth in range(path.count(".") + 1)}
    leaves = {module for module in modules if not any(other.startswith(f"{module}.") for other in modules)}
    constants = {tensor.name for tensor in graph.initializer}
    found: list[tuple[int, int, str, list[str], str]] = []
    for module in modules:
        indices = [index for index, path in enumerate(paths) if path == module or path.startswith(f"{module}.")]
        for call, run in enumerate(_runs(indices) if module in leaves else [indices], start=1):
            nodes = [graph.node[index] for index in run]
            own = {name for node in nodes for name in node.output}
            outside = [name for node in nodes for name in node.input if name and name not in own | constants]
            last = nodes[-1] if module not in leaves else _last_of_its_own(nodes)
            found.append((run[-1], -module.count("."), call_name(module, call), outside, last.output[0]))
    for _, _, name, outside, output in sorted(found):
        yield name, outside, output


def _last_of_its_own(nodes: Sequence[onnx.NodeProto]) -> onnx.NodeProto:
    """What a leaf gives before it is rounded: a quantiser also does the ReLU behind it, which is no part of the leaf."""
    return next((node for node in reversed(nodes) if node.op_type not in _QUANTISERS), nodes[-1])


def _runs(indices: Sequence[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs
