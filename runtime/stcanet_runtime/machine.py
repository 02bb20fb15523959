"""What this machine is: its processor, and what is installed; for `info` and for results that say where they were made."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_CPU_FEATURES = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni",
    "amx_bf16", "amx_int8", "asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2",
)  # fmt: skip


_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Installed versions by name, and Python's, without importing anything; None for what is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def processor() -> dict[str, Any]:
    """Name, cores that this process may use, and the vector extensions that matter here."""
    fields = _cpuinfo()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return {
        "model": fields.get("model name") or platform.processor() or None,
        "machine": platform.machine(),
        "cores": cores(),
        "features": [feature for feature in _CPU_FEATURES if feature in flags],
    }


def cores() -> int:
    """How many cores this process may use."""
    return quota() or _affinity()


def quota() -> int | None:
    """Cores whose time a container or service may use (rounded up), where that is fewer than it may run on; else None."""
    limit = _quota()
    return limit if limit and limit < _affinity() else None


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _quota() -> int | None:
    """The least limit of the control groups of this process."""
    limits: list[float] = []
    for folder, generation in control_groups("cpu"):
        with suppress(OSError, ValueError):  # no such file, "max"
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if generation == 1 else ("cpu.max",)
            time, period = (int(value) for name in names for value in (folder / name).read_text("ascii").split())
            if time > 0:  # −1 is no limit
                limits.append(time / period)
    return math.ceil(min(limits)) if limits else None


def control_groups(controller: str) -> Iterator[tuple[Path, int]]:
    """Folders and versions of the control groups that this process is in, with those around them, which limit it, too.

    Version 2 names no controllers. A container that sees the path which its group has outside finds its own files at the root.
    """
    try:
        lines = (_PROC / "self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for controllers, group in (line.split(":", 2)[1:] for line in lines):
        if not controllers or controller in controllers.split(","):
            root = _CGROUPS / controller if controllers else _CGROUPS
            place = root / group.lstrip("/")
            yield from ((folder, 1 if controllers else 2) for folder in (place, *place.parents) if folder.is_relative_to(root))


def _cpuinfo() -> dict[str, str]:
    """The first processor in /proc/cpuinfo; empty where there is none, outside of Linux."""
    try:
        lines = (_PROC / "cpuinfo").read_text(encoding="utf-8").split("\n\n", 1)[0].splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
