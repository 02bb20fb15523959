"""Where a run was made: command line, commit, versions, hardware."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from stcanet_runtime import __version__
from stcanet_runtime.machine import processor, versions

_PACKAGES = ("torch", "torchvision", "numpy", "pillow")


def environment() -> dict[str, Any]:
    """The facts as JSON values; ``commit`` is None where the program does not run from a git checkout."""
    cpu = processor()
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": commit(),
        "processor": cpu["model"] or cpu["machine"],
        "cores": cpu["cores"],
        "torch_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "platform": sys.platform,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "versions": {"stcanet": __version__, **versions(_PACKAGES)},
    }


def commit() -> str | None:
    """The commit of this program's sources, with "-dirty" where they differ from it."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # installed, perhaps into somebody else's repository
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None
