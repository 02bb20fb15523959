"""How many cores a process may use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from stcanet_runtime import machine

V1 = {"cpu.cfs_quota_us": "250000\n", "cpu.cfs_period_us": "100000\n"}
UNLIMITED = {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "900000 100000\n"}, 8),
        ("0::/box/watch\n", {"box/watch/cpu.max": "max 100000\n", "box/cpu.max": "300000 100000\n", "no/cpu.max": "1 1\n"}, 3),
        ("3:cpuset:/\n2:cpu,cpuacct:/docker/0123\n", {f"cpu/{name}": value for name, value in V1.items()}, 3),
        ("2:cpu:/a\n0::/\n", {f"cpu/a/{name}": value for name, value in V1.items()} | UNLIMITED, 3),
        ("2:cpu:/\n", UNLIMITED, 8),
    ],
)
def test_no_more_cores_than_a_quota_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, files: Mapping[str, str], expected: int
) -> None:
    for name, text in {"self/cgroup": groups, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "_PROC", tmp_path)
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_affinity", lambda: 8)
    machine._quota.cache_clear()
    assert machine.cores() == expected
    assert machine.quota() == (None if expected == 8 else expected)
    machine._quota.cache_clear()
