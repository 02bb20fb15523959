"""Where a figure comes from: commit, hardware, versions. Every result file starts with it. And why there is none."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from stcanet_runtime import __version__, backends
from stcanet_runtime.files import write_json
from stcanet_runtime.machine import processor, versions

RESULTS = Path(__file__).parent / "results"
NOTHING_MEASURED = 77
"""Status of a script that could not measure, as test harnesses have it; `make bench` goes on, `gpu.sh` ends with an error."""


def environment(*packages: str) -> dict[str, Any]:
    """Facts about this machine and installation, with the versions of `packages` besides."""
    cpu, found = processor(), versions(("numpy", *packages))
    return {
        "commit": commit(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": cpu["model"],
        "cpus": cpu["cores"],
        "cpu_features": cpu["features"],
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {"stcanet": __version__, **{name: found[name] for name in ("numpy", *packages)}},
        "backend": backends.explain(),
        "threads": {name: value for name, value in os.environ.items() if name.endswith("_NUM_THREADS")},
    }


def commit() -> str:
    """The commit, with "-dirty" where the tree differs from it; ``STCANET_COMMIT`` where it is no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        found = result.stdout.strip()
    except OSError:  # no git on this machine
        found = ""
    return found or os.environ.get("STCANET_COMMIT", "unknown")


def nothing_measured(reason: str) -> NoReturn:
    """Say why, and leave."""
    print(f"nothing measured: {reason}")
    raise SystemExit(NOTHING_MEASURED)


def write_result(path: Path, report: dict[str, Any]) -> None:
    """Write a result file and say where."""
    write_json(path, report)
    print(path)
