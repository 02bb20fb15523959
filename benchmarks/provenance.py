"""Where a figure comes from: commit, hardware, versions. Every result file starts with it. And why there is none."""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from stcanet_runtime import __version__, backends
from stcanet_runtime.files import write_json
from stcanet_runtime.machine import processor, versions

NOTHING_MEASURED = 77
"""Status of a script that could not measure, as test harnesses have it; `make bench` goes on, `gpu.sh` ends with an error."""


def environment(*packages: str) -> dict[str, Any]:
    """Facts about this machine and installation, with the versions of `packages` besides."""
    cpu, found = processor(), versions(("numpy", *packages))
    return {
        "command": command(),
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


def command() -> str:
    """What was called: the script and its arguments, of absolute paths the last name alone."""
    arguments = [re.sub(r"(^|[=:])/(?:.*/)?([^/]+)/?$", r"\1\2", argument) for argument in sys.argv[1:]]
    return shlex.join([Path(sys.argv[0]).name, *arguments])


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


def add_out(parser: argparse.ArgumentParser) -> None:
    """The option ``--out``, which means the same in every script."""
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the result file there; benchmarks/results records it")


def write_result(folder: Path | None, name: str, report: dict[str, Any]) -> None:
    """Write the result file of a name into a folder and say where; nothing where no folder was named."""
    if folder is not None:
        write_json(folder / f"{name}.json", report)
        print(folder / f"{name}.json")
