"""One call in a fresh process: wall and CPU time, and a peak of memory that nothing else has raised.

`run` starts this file as a script. The peak is the high-water mark of the process itself (VmHWM, reset before the call):
``ru_maxrss`` would begin with that of the process which started it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_WARM_UP_ROWS = {"query": 40, "gallery": 160, "distances": 40, "q_people": 40, "g_people": 160}
_THREAD_VARIABLES = (
    "STCANET_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip


class Outcome(NamedTuple):
    """What a measured function returns."""

    arrays: dict[str, NDArray[Any]]
    """Saved, when the caller wants them, as .npy files of these names."""
    facts: dict[str, float] = {}  # noqa: RUF012  (a NamedTuple's default; nobody writes to it)
    """Figures to go with the times."""


@dataclass(frozen=True)
class Call:
    """A function of a module in this folder, called as ``function(**inputs, **arguments)``; it returns an `Outcome`."""

    function: str
    """``module:function``."""
    inputs: dict[str, str]
    """Paths of .npy files by argument; loaded before the clock starts."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Plain values."""
    threads: int = 0
    """0: as many as the process may use processors."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables besides those for threads."""
    mapped: bool = False
    """Map the inputs instead of reading them."""
    address_space: int | None = None
    """Limit of the address space in bytes (RLIMIT_AS), code, libraries and mapped inputs included."""
    save_to: str | None = None
    """Folder for the arrays."""


class CallError(Exception):
    """The process ended without a result."""


def run(call: Call) -> dict[str, Any]:
    """Measure a call; returns ``wall_s``, ``cpu_s``, memory in bytes and the facts of the outcome.

    Raises:
        CallError: with the last line that the process wrote to standard error.
    """
    threads = call.threads or len(os.sched_getaffinity(0))
    variables = dict.fromkeys(_THREAD_VARIABLES, str(threads)) | call.environment
    result = subprocess.run(
        [sys.executable, __file__, json.dumps(asdict(call))],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        last = (result.stderr.strip() or "nothing on standard error").splitlines()[-1]
        raise CallError(f"status {result.returncode}: {last}")
    figures: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return figures


def measure(call: Call) -> dict[str, Any]:
    """In the fresh process: warm up with a few rows, then call, and save the arrays after the peak is known."""
    if call.address_space is not None:
        resource.setrlimit(resource.RLIMIT_AS, (call.address_space, call.address_space))
    module, name = call.function.split(":")
    function: Callable[..., Outcome] = getattr(importlib.import_module(module), name)
    inputs = {key: np.load(path, mmap_mode="r" if call.mapped else None) for key, path in call.inputs.items()}
    function(**{key: np.array(x[: _WARM_UP_ROWS[key]]) for key, x in inputs.items()}, **call.arguments)
    gc.collect()
    _reset_peak()
    before = memory("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    outcome = function(**inputs, **call.arguments)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = memory("VmHWM")
    if call.save_to is not None:
        for key, array in outcome.arrays.items():
            np.save(Path(call.save_to) / f"{key}.npy", array)
    figures = {
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_bytes": peak,
        "peak_over_start_bytes": peak - before,
        "address_space_peak_bytes": memory("VmPeak"),
    }
    return figures | outcome.facts


def attempt(call: Call) -> dict[str, Any]:
    """Figures of a call, as `run` gives them, or under "error" what went wrong."""
    try:
        return run(call)
    except CallError as error:
        return {"error": str(error)}


def _reset_peak() -> None:
    """Forget the high-water mark of the warm-up; where the kernel refuses, the peak includes it."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        print("the high-water mark of memory cannot be reset here", file=sys.stderr)


def memory(field_name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    value = next(line for line in lines if line.startswith(f"{field_name}:"))
    return int(value.split()[1]) * 1024


if __name__ == "__main__":
    # The module that is measured imports this one by name: use that one's classes.
    print(json.dumps(importlib.import_module("isolated").measure(Call(**json.loads(sys.argv[1])))))
