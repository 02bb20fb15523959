"""OpenVINO itself, without ONNX Runtime: its own runtime offers the CPU where its provider plugin lists no device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.errors import ProviderError
from stcanet_runtime.inference.session import Tensor
from stcanet_runtime.wording import one_line

NATIVE = "openvino-native"
"""Name of it where a provider is asked for."""
_TYPES = {"u8": "uint8", "f32": "float"}


class NativeSession:
    """A model in OpenVINO's own runtime, in the place of a :class:`~stcanet_runtime.inference.session.Session`.

    Args:
        path: The ONNX model.

    Raises:
        ProviderError: OpenVINO is not installed, or does not take the model.
    """

    def __init__(self, path: Path) -> None:
        try:
            import openvino
        except ImportError as error:
            raise ProviderError(NATIVE, "openvino is not installed", "pip install 'stcanet[openvino-native]'") from error
        # Without the hint OpenVINO computes in bfloat16 where the chip can, and says nothing.
        config = {"INFERENCE_PRECISION_HINT": "f32"}
        try:
            self._model: Any = openvino.Core().compile_model(path, "CPU", config)
        except RuntimeError as error:
            raise ProviderError(NATIVE, one_line(error)[:300]) from error
        self.provider = NATIVE
        self.nodes: dict[str, int] = {}
        self.threads: int | None = None
        self.inputs = tuple(_tensor(port) for port in self._model.inputs)
        self.outputs = tuple(_tensor(port) for port in self._model.outputs)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Arrays by output name, from arrays by input name."""
        values = self._model(dict(inputs))
        return {tensor.name: np.array(values[index]) for index, tensor in enumerate(self.outputs)}

    def explain(self) -> str:
        """Where the model runs."""
        return f"{NATIVE}: asked for by name"


def _tensor(port: Any) -> Tensor:
    kind = port.element_type.get_type_name()
    shape = tuple(None if size.is_dynamic else int(size.get_length()) for size in port.partial_shape)
    return Tensor(port.any_name, _TYPES.get(kind, kind), shape)
