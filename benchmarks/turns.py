"""Calls that are measured in turns, so that a slow minute of the machine hits all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

Key = TypeVar("Key")
Call = TypeVar("Call", bound=Callable[[], object])
Figure = TypeVar("Figure")


def in_turns(calls: Mapping[Key, Call], repeats: int, clock: Callable[[Call], Figure]) -> dict[Key, list[Figure]]:
    """What `clock` says of each call, `repeats` times."""
    found: dict[Key, list[Figure]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            found[name].append(clock(call))
    return found


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def wall_and_cpu(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of one call, and of the processor in it."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu
