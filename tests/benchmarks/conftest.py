"""Benchmarks are scripts that import one another; their folder is on the path while these tests run."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks"

sys.path.insert(0, str(FOLDER))
