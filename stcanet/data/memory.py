"""How much memory there is to take."""

from __future__ import annotations

from pathlib import Path

_UNKNOWN = 4 << 30


def available_memory() -> int:
    """Bytes that this process could allocate without swapping, within the limit of its container.

    Where the system does not say (it is no Linux), 4 GiB are assumed.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return _UNKNOWN
    return max(0, min(free, _left_in_container(Path("/sys/fs/cgroup"), free)))


def _left_in_container(group: Path, free: int) -> int:
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = int((group / "memory.current").read_text(encoding="ascii"))
        return free if limit == "max" else int(limit) - used
    except (OSError, ValueError):
        return free
