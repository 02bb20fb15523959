"""From a trained network to a model package: ONNX, the parity gate, and the folder that holds both.

Importing this package imports neither torch nor onnx; the names below do, when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stcanet.extras import EXTRA_OF
from stcanet_runtime.lazy import lazy_names

if TYPE_CHECKING:
    from stcanet_export.onnx import Contract, export_onnx
    from stcanet_export.package import ExportResult, export_package
    from stcanet_export.parity.gate import check_parity
    from stcanet_export.parity.report import Check, ParityReport
    from stcanet_export.parity.tolerance import Tolerance
    from stcanet_export.variants.calibration import Calibration
    from stcanet_export.variants.precision import Precision
    from stcanet_export.variants.variant import Variant

_LAZY = {
    "onnx": ("Contract", "export_onnx"),
    "package": ("ExportResult", "export_package"),
    "parity.gate": ("check_parity",),
    "parity.report": ("Check", "ParityReport"),
    "parity.tolerance": ("Tolerance",),
    "variants.calibration": ("Calibration",),
    "variants.precision": ("Precision",),
    "variants.variant": ("Variant",),
}

__all__ = [
    "Calibration",
    "Check",
    "Contract",
    "ExportResult",
    "ParityReport",
    "Precision",
    "Tolerance",
    "Variant",
    "check_parity",
    "export_onnx",
    "export_package",
]

if not TYPE_CHECKING:  # else every misspelt name would be an object to mypy
    __getattr__, __dir__ = lazy_names(__name__, _LAZY, EXTRA_OF)
