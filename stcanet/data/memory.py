"""How much memory there is to take."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from stcanet_runtime.machine import control_groups

_UNKNOWN = 4 << 30
_MEMINFO = Path("/proc/meminfo")
_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def available_memory() -> int:
    """Bytes that this process could allocate without swapping, within the limits of its job, service or container.

    Where the system does not say (it is no Linux), 4 GiB are assumed.
    """
    try:
        free = _field(_MEMINFO, "MemAvailable:") * 1024
    except (OSError, StopIteration):
        return _UNKNOWN
    for group, generation in control_groups("memory"):
        limit, used, cached = _FILES[generation]
        with suppress(OSError, ValueError, StopIteration):  # no such file, "max"
            left = int((group / limit).read_text("ascii")) - int((group / used).read_text("ascii"))
            free = min(free, left + _field(group / "memory.stat", cached))  # a cache of files gives way
    return max(0, free)


def _field(path: Path, name: str) -> int:
    lines = (line.split() for line in path.read_text("ascii").splitlines())
    return next(int(words[1]) for words in lines if words[0] == name)
