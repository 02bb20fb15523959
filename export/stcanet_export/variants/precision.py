"""From the float32 graph of a package to another precision, as far as the network bears it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from stcanet_export.parity.probes import as_inputs, drawn_inputs
from stcanet_export.parity.sides import PackageSide
from stcanet_export.variants.calibration import Calibration
from stcanet_export.variants.half import to_half
from stcanet_export.variants.quantize import Quantizer, Scheme
from stcanet_export.variants.search import choose_kept
from stcanet_export.variants.units import units_of
from stcanet_runtime.arrays import Float64Array
from stcanet_runtime.errors import DataError, OptionError, PackageError, quote_choices
from stcanet_runtime.inference.contract import to_tensor
from stcanet_runtime.inference.golden import MIN_COSINE, unit_cosines
from stcanet_runtime.package.contents import load_manifest
from stcanet_runtime.package.manifest import PRECISIONS, InputSpec
from stcanet_runtime.preprocess import load_image

_NO_BFLOAT16 = (
    "one of 'fp32', 'fp16' or 'int8': ONNX Runtime's CPU provider has no bfloat16 convolution, so that such a graph cannot be "
    "proved; the provider 'openvino-bf16' computes an fp32 package in bfloat16 on processors that can (AMX, AVX512_BF16)"
)
_BATCH = 4

Convert = Callable[[Collection[str]], onnx.ModelProto]
Tell = Callable[[str], None]
"""Called with what happens next."""


@dataclass(frozen=True)
class Precision:
    """What to make of the float32 graph."""

    name: str = "fp32"
    calibration: Calibration | None = None
    """For int8."""
    scheme: Scheme = field(default_factory=Scheme)
    """For int8."""

    def __post_init__(self) -> None:
        check_precision(self.name)
        if self.name == "int8" and self.calibration is None:
            raise DataError("int8 is calibrated on real crops: give a folder of them, or a data set, as --calibration")
        if self.name != "int8" and self.calibration is not None:
            raise OptionError("calibration", self.calibration.source, "left out: only int8 is calibrated")


def check_precision(name: str) -> None:
    """See that a precision can be exported.

    Raises:
        OptionError: It cannot.
    """
    if name == "bf16":
        raise OptionError("precision", name, _NO_BFLOAT16)
    if name not in PRECISIONS:
        raise OptionError("precision", name, quote_choices(PRECISIONS))


FLOAT32 = Precision()
"""As exported."""


def lower(path: Path, precision: Precision, images: Sequence[str | Path], tell: Tell) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The graph in another precision, and how it came about.

    Args:
        path: The float32 model, its manifest inside.
        precision: What to make of it; not fp32.
        images: Image files to measure losses on, besides the drawn crops.
        tell: Told about each step.

    Returns:
        The model; and for the manifest, JSON values: what the search found, what stays in float32, and the calibration.

    Raises:
        PackageError: The network does not bear that precision.
    """
    spec = load_manifest(path).input
    with tempfile.TemporaryDirectory() as folder:
        convert, units, facts = _converter(path, precision, spec, Path(folder), tell)
        trial = _Trial(path, convert, drawn_inputs(spec, images), Path(folder) / "trial.onnx", tell)
        choice = choose_kept(units, trial, len(trial.crops), MIN_COSINE[precision.name])
        return convert(choice.lowered), {**facts, "search": {**choice.to_dict(), "crops": len(trial.crops)}}


def _converter(
    path: Path, precision: Precision, spec: InputSpec, folder: Path, tell: Tell
) -> tuple[Convert, list[str], dict[str, Any]]:
    if precision.name == "fp16":
        model = onnx.load(path)
        return lambda lowered: to_half(model, lowered), list(units_of(model.graph)), {}
    calibration = precision.calibration
    assert calibration is not None  # seen to by Precision
    files = calibration.files()
    tell(f"calibrating on {len(files)} crops")
    quantizer = Quantizer(path, precision.scheme, folder)
    quantizer.calibrate(to_tensor(as_inputs(map(load_image, files), spec), spec), calibration.method, spec.batch)
    facts = {"calibration": calibration.describe(files), "scheme": precision.scheme.describe()}
    return quantizer.quantized, quantizer.units, facts


class _Trial:
    """Runs variants of a model on the CPU against the model itself."""

    def __init__(self, path: Path, convert: Convert, crops: NDArray[np.uint8], scratch: Path, tell: Tell) -> None:
        self.crops, self._convert, self._scratch, self._tell = crops, convert, scratch, tell
        self._reference = _embed(path, crops)

    def __call__(self, lowered: Collection[str], index: NDArray[np.intp]) -> Float64Array:
        self._tell(f"trying with {', '.join(lowered) if len(lowered) == 1 else f'{len(lowered)} units'} lowered")
        onnx.save(self._convert(lowered), self._scratch)
        try:
            actual = _embed(self._scratch, self.crops[index])
        except PackageError:  # not finite: an overflow
            return np.full(len(index), np.inf)
        return 1 - unit_cosines(actual, self._reference[index])


def _embed(path: Path, crops: NDArray[np.uint8]) -> Float64Array:
    side = PackageSide(path, "cpu")
    rows = [side.embed(crops[start : start + _BATCH])[0] for start in range(0, len(crops), _BATCH)]
    return np.concatenate(rows).astype(np.float64)
