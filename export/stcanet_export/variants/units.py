"""A graph in parts that can be lowered one by one, and what a library's converter leaves behind in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import onnx

_UNIT_DEPTH = {"backbone": 4, "blocks": 3}
"""Components of a path that name its unit: ``backbone.stages.2.1`` is a residual block, ``blocks.2.part`` an attention."""


def unit_of(node: str) -> str:
    """The unit of a node's name: "" for nodes of no module (lengths, shapes) and the arithmetic of the input."""
    path = node.rpartition("/")[0].split(".")
    if path[0] not in _UNIT_DEPTH:
        return path[0] if path[0] == "head" else ""
    if path[1] == "stem":
        return "backbone.stem"
    return ".".join(path[: _UNIT_DEPTH[path[0]]])


def units_of(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Nodes by unit, in the order of the graph, without those of no unit."""
    units: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if unit := unit_of(node.name):
            units.setdefault(unit, []).append(node)
    return units


def settle(model: onnx.ModelProto, original: Collection[str]) -> None:
    """Make a converted graph readable and valid again, in place.

    Converters append what they insert (casts, quantisers) at the end and name it after tensors. Here each goes behind the node
    whose output it takes, or before the first that needs it, and is named after that node's module. Types that
    were noted for tensors are dropped: they are those of before.

    Args:
        model: The converted model.
        original: Names of the nodes that were there before.
    """
    graph = model.graph
    del graph.value_info[:]
    _drop_unused(graph)
    _sort(graph, original)
    counts: dict[str, int] = {}
    for node, module in zip(graph.node, list(_modules(graph, original)), strict=True):
        if node.name not in original:
            name = f"{module}/{node.op_type}" if module else node.op_type
            counts[name] = counts.get(name, -1) + 1
            while (candidate := f"{name}_{counts[name]}" if counts[name] else name) in original:
                counts[name] += 1
            node.name = candidate


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes whose outputs nobody takes, and then constants that nobody takes."""
    outputs = {value.name for value in graph.output}
    while True:
        used = outputs | {name for node in graph.node for name in node.input}
        idle = [node for node in graph.node if not used.intersection(node.output)]
        if not idle:
            break
        for node in idle:
            graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _sort(graph: onnx.GraphProto, original: Collection[str]) -> None:
    makers = {name: node for node in graph.node for name in node.output}
    takers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    rank = {node.name: index for index, node in enumerate(node for node in graph.node if node.name in original)}

    def first_below(node: onnx.NodeProto) -> int:
        below = [taker for name in node.output for taker in takers[name]]
        return min(rank[taker.name] if taker.name in rank else first_below(taker) for taker in below)

    def place(node: onnx.NodeProto) -> tuple[int, int]:
        """Behind (1, 2, …) the original node that feeds it; fed by constants, before (below 0) the first that it feeds."""
        steps = 0
        while node.name not in rank:
            maker = next((makers[name] for name in node.input if name in makers), None)
            if maker is None:
                return first_below(node), steps - len(graph.node)
            node, steps = maker, steps + 1
        return rank[node.name], steps

    ordered = sorted(graph.node, key=place)
    del graph.node[:]
    graph.node.extend(ordered)


def _modules(graph: onnx.GraphProto, original: Collection[str]) -> Iterator[str]:
    """The module of each node; that of an inserted one is its neighbour's."""
    module = ""
    following = [node.name.rpartition("/")[0] if node.name in original else None for node in graph.node]
    made: dict[str, str] = {}
    for index, node in enumerate(graph.node):
        if node.name in original:
            module = node.name.rpartition("/")[0]
        else:
            feeding = next((made[name] for name in node.input if name in made), None)
            module = feeding if feeding is not None else next((m for m in following[index:] if m is not None), "")
        made.update(dict.fromkeys(node.output, module))
        yield module


def attribute(node: onnx.NodeProto, name: str) -> Any:
    """The value of an attribute, None where the node has none of that name."""
    return next((onnx.helper.get_attribute_value(item) for item in node.attribute if item.name == name), None)
