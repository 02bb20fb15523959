"""Person detectors made by hand: what they find is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 64
Rows = list[list[float]]


def write_detector(path: Path, rows: Rows, columns: int = 6, kind: int = TensorProto.FLOAT) -> Path:
    """Finds the same in every frame: rows of left, upper, right, lower, score and class, in its own pixels."""
    nodes = [
        helper.make_node("ReduceMean", ["picture"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["rows", "nothing"], ["boxes"]),
    ]
    values = {"rows": np.array(rows, np.float32).reshape(1, -1, columns), "zero": np.float32(0)}
    return _save(path, nodes, values, [1, len(rows), columns], kind)


def write_probe(path: Path) -> Path:
    """One box: red, green and blue of its first pixel, and the red of its last, times its size."""
    nodes = [
        helper.make_node("Slice", ["picture", "first", "second", "axes"], ["corner"]),
        helper.make_node("Slice", ["picture", "last", "end", "axes"], ["opposite"]),
        helper.make_node("Reshape", ["corner", "row"], ["colors"]),
        helper.make_node("Reshape", ["opposite", "row"], ["others"]),
        helper.make_node("Slice", ["others", "zero", "one", "two"], ["grey"]),
        helper.make_node("Concat", ["colors", "grey"], ["both"], axis=2),
        helper.make_node("Mul", ["both", "size"], ["large"]),
        helper.make_node("Concat", ["large", "score"], ["boxes"], axis=2),
    ]
    values = {
        "first": np.array([0, 0]),
        "second": np.array([1, 1]),
        "last": np.array([SIZE - 1, SIZE - 1]),
        "end": np.array([SIZE, SIZE]),
        "axes": np.array([2, 3]),
        "row": np.array([1, 1, 3]),
        "zero": np.array([0]),
        "one": np.array([1]),
        "two": np.array([2]),
        "size": np.float32(SIZE),
        "score": np.array([[[0.9, 0]]], np.float32),
    }
    return _save(path, nodes, values, [1, 1, 6], TensorProto.FLOAT)


def _save(path: Path, nodes: list[onnx.NodeProto], values: dict[str, object], shape: list[int], kind: int) -> Path:
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("picture", kind, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("boxes", kind, shape)],
        [
            numpy_helper.from_array(
                np.asarray(value, helper.tensor_dtype_to_np_dtype(kind) if np.asarray(value).dtype == np.float32 else None),
                name,
            )
            for name, value in values.items()
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path
