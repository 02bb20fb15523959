"""From a trained network to a model package: ONNX, the parity gate, and the folder that holds both.

Importing this package imports neither torch nor onnx; the names below do, when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stcanet_export.calibration import Calibration
    from stcanet_export.onnx import Contract, export_onnx
    from stcanet_export.package import ExportResult, export_package
    from stcanet_export.parity import check_parity
    from stcanet_export.precision import Precision
    from stcanet_export.report import Check, ParityReport, Tolerance
    from stcanet_export.variant import Variant

_HOMES = {
    "Calibration": "calibration",
    "Check": "report",
    "Contract": "onnx",
    "ExportResult": "package",
    "ParityReport": "report",
    "Precision": "precision",
    "Tolerance": "report",
    "Variant": "variant",
    "check_parity": "parity",
    "export_onnx": "onnx",
    "export_package": "package",
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

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
