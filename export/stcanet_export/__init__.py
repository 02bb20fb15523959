"""From a trained network to a model package: ONNX, the parity gate, and the folder that holds both.

Importing this package imports neither torch nor onnx; the names below do, when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stcanet_runtime.lazy import lazy_names

if TYPE_CHECKING:
    from stcanet_export.calibration import Calibration
    from stcanet_export.onnx import Contract, export_onnx
    from stcanet_export.package import ExportResult, export_package
    from stcanet_export.parity import check_parity
    from stcanet_export.precision import Precision
    from stcanet_export.report import Check, ParityReport
    from stcanet_export.tolerance import Tolerance
    from stcanet_export.variant import Variant

_LAZY = {
    "calibration": ("Calibration",),
    "onnx": ("Contract", "export_onnx"),
    "package": ("ExportResult", "export_package"),
    "parity": ("check_parity",),
    "precision": ("Precision",),
    "report": ("Check", "ParityReport"),
    "tolerance": ("Tolerance",),
    "variant": ("Variant",),
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
    __getattr__, __dir__ = lazy_names(__name__, _LAZY)
