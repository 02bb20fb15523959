"""Models with something changed in their graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

Edit = Callable[[onnx.ModelProto], None]


def edited(package: Path, folder: Path, edit: Edit) -> Path:
    """The model of a package alone, with its graph changed: a single file has no checksum that would tell."""
    model = onnx.load(package / "model.onnx")
    before = model.SerializeToString()
    edit(model)
    assert model.SerializeToString() != before
    onnx.save(model, folder / "edited.onnx")
    return folder / "edited.onnx"


def change(model: onnx.ModelProto, name: str, function: Callable[[np.ndarray], np.ndarray]) -> None:
    """Other values for a constant; the function may write into what it gets."""
    tensor = next(item for item in model.graph.initializer if item.name == name)
    tensor.CopyFrom(numpy_helper.from_array(function(numpy_helper.to_array(tensor).copy()).astype(np.float32), name))
