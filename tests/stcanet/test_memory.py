"""How much memory a run may take: what is free, and what the limits of its job, service or container leave."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from stcanet.data import memory
from stcanet_runtime import machine


def group(limit: str, used: int, cached: int = 0) -> dict[str, str]:
    return {"memory.max": f"{limit}\n", "memory.current": f"{used}\n", "memory.stat": f"anon 7\ninactive_file {cached}\n"}


OLD = {
    "memory.limit_in_bytes": "3000",
    "memory.usage_in_bytes": "900",
    "memory.stat": "inactive_file 1\ntotal_inactive_file 400\n",
}


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("", {}, 8192),
        ("0::/\n", {"": group("max", 100)}, 8192),
        ("0::/\n", {"": group("5000", 4000)}, 1000),
        ("0::/\n", {"": group("5000", 6000)}, 0),
        ("0::/\n", {"": group("5000", 4900, cached=3000)}, 3100),
        ("0::/slurm/job_7/step_0\n", {"slurm/job_7/step_0": group("max", 100), "slurm/job_7": group("5000", 1000)}, 4000),
        ("4:memory:/job\n0::/\n", {"memory/job": OLD}, 2500),
        ("4:memory:/job\n", {"memory/job": {**OLD, "memory.limit_in_bytes": "9223372036854771712"}}, 8192),
    ],
)
def test_memory_within_the_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, files: Mapping[str, Mapping[str, str]], expected: int
) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text(groups)
    (tmp_path / "meminfo").write_text("MemFree: 1 kB\nMemAvailable:          8 kB\n")
    for folder, content in files.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name, text in content.items():
            (tmp_path / folder / name).write_text(text)
    monkeypatch.setattr(machine, "_PROC", tmp_path)
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    assert memory.available_memory() == expected


def test_where_the_system_does_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    assert memory.available_memory() == 4 << 30
