"""The page about a run: curves, figures, settings, its hardest mistakes, and what its attention looks at."""

from __future__ import annotations

from stcanet.report.write import write_report

__all__ = ["write_report"]
