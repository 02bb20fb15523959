"""int8, by ONNX Runtime's static quantiser: QDQ pairs, weights per channel, ranges from real crops."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from stcanet_export.variants.units import settle, unit_of, units_of
from stcanet_runtime.batching import cut
from stcanet_runtime.inference.providers import import_onnxruntime

OPERATORS = ("Conv", "Relu", "Add", "MaxPool")
"""What is quantised where its unit is lowered: convolutions, which take the time, and in the backbone what stands between them.
The products of the attention stay in float32: 1/255 of the largest logit is more than a softmax tells apart."""
_BATCH = 4


@dataclass(frozen=True)
class Scheme:
    """How numbers become int8, which depends on what multiplies them."""

    symmetric: bool = False
    """Signed activations with zero point 0, as TensorRT takes them; else unsigned ones with any zero point."""
    seven_bits: bool = True
    """Weights of 7 bits: x86 without VNNI adds pairs of products in 16 bits, which 8-bit weights overflow."""

    def describe(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "format": "QDQ",
            "weights": f"int8 per channel, symmetric, {7 if self.seven_bits else 8} bits",
            "activations": "int8, symmetric" if self.symmetric else "uint8, with zero point",
            "operators": list(OPERATORS),
        }


class Quantizer:
    """A float32 model and the ranges of its tensors.

    Args:
        path: The model.
        scheme: How numbers become int8.
        folder: For intermediate files.
    """

    def __init__(self, path: Path, scheme: Scheme, folder: Path) -> None:
        self._path, self._scheme, self._folder = path, scheme, folder
        self._ranges = folder / "ranges.json"
        self._method: Any = None
        graph = onnx.load(path, load_external_data=False).graph
        self._names = {node.name for node in graph.node}
        self.units = [unit for unit, nodes in units_of(graph).items() if any(map(_quantisable, nodes))]
        """What can be lowered: a unit without a convolution is the same network in int8."""

    def calibrate(self, tensors: NDArray[Any], method: str, batch: int | None = None) -> None:
        """Measure the ranges.

        Args:
            tensors: Inputs of the graph, a row a crop.
            method: One of :data:`~stcanet_export.variants.calibration.METHODS`.
            batch: Rows of a run where the graph takes no other number; the last run is filled up by its last crop.
        """
        library, calibrating = _library(), _library(".calibrate")

        self._method = library.CalibrationMethod[method.capitalize()]
        with _quiet():
            calibrator = calibrating.create_calibrator(
                self._path, list(OPERATORS), str(self._folder / "watched.onnx"), calibrate_method=self._method
            )
            name = calibrator.model.graph.input[0].name
            # In pieces: the calibrator keeps every tensor of what it is given at once.
            for rows, _ in cut(tensors, (batch or _BATCH,)):
                calibrator.collect_data(_Reader({name: rows}))
            calibrating.save_tensors_data(calibrator.compute_data(), self._ranges)

    def quantized(self, lowered: Collection[str]) -> onnx.ModelProto:
        """The model with some of its units in int8, after :meth:`calibrate`."""
        library = _library()
        model = onnx.load(self._path)
        nodes = [node.name for node in model.graph.node if unit_of(node.name) in lowered and _quantisable(node)]
        if not nodes:
            return model
        out = self._folder / "quantized.onnx"
        with _quiet():
            library.quantize_static(
                model,
                out,
                None,
                library.QuantFormat.QDQ,
                list(OPERATORS),
                per_channel=True,
                reduce_range=self._scheme.seven_bits,
                activation_type=library.QuantType.QInt8 if self._scheme.symmetric else library.QuantType.QUInt8,
                weight_type=library.QuantType.QInt8,
                nodes_to_quantize=nodes,
                calibrate_method=self._method,
                calibration_cache_path=self._ranges,
                extra_options={"ActivationSymmetric": self._scheme.symmetric, "QuantizeBias": not self._scheme.symmetric},
            )
        result = onnx.load(out)
        settle(result, self._names)
        return result


def _quantisable(node: onnx.NodeProto) -> bool:
    return node.op_type == "Conv" or (node.op_type in OPERATORS and node.name.startswith("backbone."))


class _Reader:
    """One batch, as ONNX Runtime's calibrators ask for it."""

    def __init__(self, batch: dict[str, NDArray[Any]]) -> None:
        self._batches = [batch]

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return self._batches.pop() if self._batches else None


def _library(part: str = "") -> Any:
    return import_onnxruntime(f".quantization{part}", "exporting fp16 and int8")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's remarks on stdout, where --json is, and its advice to optimise the graph, which is done."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
