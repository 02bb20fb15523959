"""What a package is made for: operator set, precision and shapes, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx

from stcanet_export.native import NATIVE
from stcanet_export.onnx import DEFAULT_OPSET
from stcanet_export.parity.probes import drawn_inputs
from stcanet_export.parity.sides import PackageSide
from stcanet_export.variants.quantize import Scheme
from stcanet_export.variants.support import TENSORRT, Support
from stcanet_runtime.errors import OptionError, PackageError, quote_choices
from stcanet_runtime.inference.golden import MIN_COSINE, unit_cosines
from stcanet_runtime.package.contents import load_manifest
from stcanet_runtime.package.manifest import InputSpec, Manifest
from stcanet_runtime.package.profile import usual_shape


@dataclass(frozen=True)
class Target:
    """Where a package shall run. An opset or precision that is asked for goes before what stands here."""

    name: str
    opset: int
    precision: str
    scheme: Scheme
    """For int8."""
    why: Mapping[str, str]
    """Of each choice: opset, precision, int8 scheme, batches."""
    batches: tuple[int, int, int] | None = None
    """Smallest, usual and largest batch of an optimisation profile, for engines that are built for shapes."""
    support: Support | None = None
    """What it takes, for targets that do not run on machines that export."""

    def reasons(self, manifest: Manifest) -> list[str]:
        """Of the choices that are its own in a package, and not asked for."""
        own = {
            "opset": manifest.opset == self.opset,
            "precision": manifest.precision == self.precision,
            "int8": manifest.precision == "int8",
            "batches": manifest.input.batch is None,
        }
        return [reason for choice, reason in self.why.items() if own[choice]]

    def profile(self, spec: InputSpec) -> dict[str, list[int]] | None:
        """Shapes ``min``, ``opt`` and ``max`` of the input, None where any will do."""
        if self.batches is None:
            return None
        return {
            name: [spec.batch or batch, *usual_shape(spec)]
            for name, batch in zip(("min", "opt", "max"), self.batches, strict=True)
        }


_RANGE = "opset 18: read by ONNX Runtime 1.14 and newer, OpenVINO and TensorRT 10; the graph uses nothing that is newer"
_SYMMETRIC = "int8: symmetric, zero point 0, biases in float, as TensorRT demands"
_SEVEN = "int8: weights of 7 bits, which x86 without VNNI multiplies without overflow"
_HALF = "fp16: tensor cores multiply it several times as fast as fp32"

TARGETS = {
    "cpu": Target(
        "cpu",
        DEFAULT_OPSET,
        "fp32",
        Scheme(),
        {
            "opset": _RANGE,
            "precision": "fp32: CPUs compute float16 by way of float32, so it would only be slower",
            "int8": _SEVEN,
            "batches": "any batch",
        },
    ),
    "openvino": Target(
        "openvino",
        DEFAULT_OPSET,
        "fp32",
        Scheme(),
        {
            "opset": _RANGE,
            "precision": "fp32: OpenVINO's CPU plugin computes float16 graphs in float32",
            "int8": _SEVEN,
            "batches": "any batch",
        },
    ),
    "tensorrt": Target(
        "tensorrt",
        DEFAULT_OPSET,
        "fp16",
        Scheme(symmetric=True, seven_bits=False),
        {
            "opset": _RANGE,
            "precision": _HALF,
            "int8": _SYMMETRIC,
            "batches": "one profile, batches of 1 to 32: a new shape outside of it would build another engine",
        },
        (1, 8, 32),
        TENSORRT,
    ),
    "jetson": Target(
        "jetson",
        DEFAULT_OPSET,
        "fp16",
        Scheme(symmetric=True, seven_bits=False),
        {
            "opset": "opset 18: needs TensorRT 10, that is JetPack 6.1 or newer",
            "precision": _HALF,
            "int8": _SYMMETRIC,
            "batches": "one profile, batches of 1 to 8: memory is shared with the camera pipeline",
        },
        (1, 4, 8),
        TENSORRT,
    ),
}


def find_target(name: str) -> Target:
    """The target of a name.

    Raises:
        OptionError: There is none.
    """
    if name not in TARGETS:
        raise OptionError("target", name, quote_choices(list(TARGETS)))
    return TARGETS[name]


def check_target(target: Target, path: Path, manifest: Manifest) -> dict[str, Any]:
    """See that a target takes a model, by running it or, where it cannot run here, by its table of what it supports.

    Returns:
        What was chosen and how it was checked, for the manifest. JSON values.

    Raises:
        PackageError: It does not take the model, or computes something else.
    """
    spec = manifest.input
    facts = {"name": target.name, "reasons": target.reasons(manifest), "profile": target.profile(spec)}
    if target.support is not None:
        return facts | {"checked": _check_statically(target, target.support, onnx.load(path))}
    return facts | {"checked": _check_openvino(path, spec) if target.name == "openvino" else _ON_THE_CPU}


_ON_THE_CPU = "run: the parity gate runs under this provider"


def _check_statically(target: Target, support: Support, model: onnx.ModelProto) -> str:
    if problems := support.problems(model):
        more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise PackageError(f"target '{target.name}' does not take this graph: {problems[0]}{more} ({support.source})")
    return f"static check only: operators, types and opset against {support.source}; it has not run on such a machine"


def _check_openvino(path: Path, spec: InputSpec) -> str:
    """OpenVINO against the CPU provider on the drawn crops."""
    if find_spec("openvino") is None:
        return "not checked: openvino is not installed here"
    crops = drawn_inputs(spec)
    ours, theirs = (PackageSide(path, provider).embed(crops)[0] for provider in (NATIVE, "cpu"))
    bar = MIN_COSINE[load_manifest(path).precision]
    cosine = float(unit_cosines(ours, theirs).min())
    if not cosine >= bar:
        raise PackageError(
            f"OpenVINO computes something else: min cosine to the CPU provider is {cosine:.6f}, must be >= {bar}"
        )
    return f"run: OpenVINO {version('openvino')} by itself on the CPU, min cosine {cosine:.6f} to the CPU provider"
