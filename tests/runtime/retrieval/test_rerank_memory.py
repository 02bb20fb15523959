"""Memory of re-ranking: stated before it starts, and kept to."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rerank_cases import (
    TOLERANCE,
    assert_same_result,
    market_like,
    needed_bytes,
)

from stcanet_runtime import rerank, rerank_memory
from stcanet_runtime.errors import MemoryLimitError, ShapeError
from stcanet_runtime.retrieval.rerank_memory import Task, plan_scratch


@pytest.mark.parametrize(
    ("rows", "cols", "depth", "options"),
    [
        (10, 90, 16, {}),
        (300, 1200, 48, {}),
        (300, 1200, 48, {"top": 10}),
        (300, 1200, 48, {"out": "file.npy"}),
        (20, 280, 2048, {}),
        (5, 5000, 1500, {}),
        (10, 5990, 16, {"k1": 1}),
    ],
)
def test_memory_limit_is_kept(
    rows: int, cols: int, depth: int, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NumPy's own allocations show; `benchmarks` measures whole processes. The last case but one is nearly all copied rows;
    a flag for each pair of the last would take 36 MB."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    joint = rng.normal(size=(cols // 20, depth)).astype(np.float32)[np.arange(rows + cols) % (cols // 20)]
    joint += rng.normal(size=joint.shape).astype(np.float32)
    q, g = joint[:rows], joint[rows:]
    needed = needed_bytes(q, g, **options, backend="numpy")
    with pytest.raises(MemoryLimitError):
        rerank(q, g, **options, max_memory=needed - 1, backend="numpy")
    given = {name: options[name] for name in options if name != "out"}
    estimate = rerank_memory(rows, cols, depth, **given, to_file="out" in options, backend="numpy")
    for limit, allowed in ((needed, needed), (None, estimate)):
        tracemalloc.start()
        rerank(q, g, **options, max_memory=limit, backend="numpy")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert allowed / 5 < peak <= allowed


def test_blocks_follow_the_limit() -> None:
    task = Task(3000, 16000, 256, 21, None, "compiled", 0)
    assert plan_scratch(task, None) == plan_scratch(task, 1 << 40) == task.scratch()
    least = task.least_scratch()
    assert plan_scratch(task, task.fixed_bytes() + least + 5) == least + 5
    with pytest.raises(MemoryLimitError):
        plan_scratch(task, task.fixed_bytes() + least - 1)


@pytest.mark.parametrize("k2", [1, 60])
def test_unusually_large_sets_are_found_before_they_are_made(k2: int) -> None:
    """Noise in few dimensions; as NumPy's own allocations show. What the error says is enough."""
    x = np.random.default_rng(0).normal(size=(900, 8)).astype(np.float32)
    work = partial(rerank, x[:300], x[300:], 20, k2, top=10, backend="numpy")
    limit, errors = needed_bytes(x[:300], x[300:], k1=20, k2=k2, top=10, backend="numpy"), []
    found = None
    while found is None:
        tracemalloc.start()
        try:
            found = work(max_memory=limit)
        except MemoryLimitError as error:
            errors.append(error)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= limit
        limit = errors[-1].needed if errors else limit
    assert ["the sets are unusually large" in str(error) for error in errors] == ([True] if k2 > 1 else [])
    assert_same_result(found, work())


def test_top_counts_no_further_than_the_gallery() -> None:
    q, g = np.ones((20, 16), np.float32), np.ones((60, 16), np.float32)
    assert rerank_memory(20, 60, 16, top=10**8) == rerank_memory(20, 60, 16, top=60)
    assert needed_bytes(q, g, top=10**8) == needed_bytes(q, g, top=60)
    assert rerank(q, g, top=10**8, max_memory=1 << 22).indices.shape == (20, 60)


def test_memory_of_copies_counts() -> None:
    narrow = rerank_memory(300, 1200, 48, dtype=np.float16)
    assert narrow - rerank_memory(300, 1200, 48) == 1500 * 48 * 4
    x = np.ones((30, 5), np.float16)
    assert needed_bytes(x, x) - needed_bytes(x.astype(np.float32), x.astype(np.float32)) == 60 * 5 * 4


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("name", ["numpy", "auto"])
def test_the_limit_is_looked_at_before_a_copy_is_made(dtype: Any, name: str) -> None:
    """A mapped file may be larger than the memory; NaN in it is still found where the limit allows the work."""
    g = np.ones((40_000, 32), dtype)
    g[-1, -1] = np.nan
    tracemalloc.start()
    try:
        needed = needed_bytes(g[:10], g, top=3, backend=name)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    with pytest.raises(ShapeError, match=r"gallery must be finite and at most .* row 39999 is not"):
        rerank(g[:10], g, top=3, max_memory=needed, backend=name)


def test_results_do_not_depend_on_the_limit(backend: str) -> None:
    q, g, *_ = market_like()
    limited = rerank(q, g, max_memory=needed_bytes(q, g, backend=backend), backend=backend)
    np.testing.assert_allclose(limited, rerank(q, g, backend=backend), atol=TOLERANCE)
    needed = needed_bytes(q, g, top=7, backend=backend)
    assert_same_result(rerank(q, g, top=7, max_memory=needed, backend=backend), rerank(q, g, top=7, backend=backend))


PEAKS = """
import os, sys, tempfile
from pathlib import Path
import numpy as np
from stcanet_runtime import rerank, rerank_memory
from stcanet_runtime.errors import MemoryLimitError

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name + ":")).split()[1])

def peak(**options):
    for warm in ({}, {"top": 5}):  # a fork has the pages of libraries to find again
        rerank(query[:40], gallery[:200], backend="compiled", **warm)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    rerank(query, gallery, backend="compiled", **options)
    return status("VmHWM") - before

rng = np.random.default_rng(0)
count, dim = (900, 8192) if sys.argv[1] == "wide" else (6000, 128)
joint = rng.normal(size=(count // 20, dim)).astype(np.float32)[np.arange(count) % (count // 20)]
joint += rng.normal(size=joint.shape).astype(np.float32)
if sys.argv[1] == "close":
    joint = np.float32(1) + np.float32(1e-4) * joint
query, gallery = joint[:count // 6], joint[count // 6:]
for options in ({}, {"top": 100}, {"out": os.path.join(tempfile.mkdtemp(), "distances.npy")}):
    try:
        rerank(query, gallery, **options, max_memory=1, backend="compiled")
    except MemoryLimitError as error:
        needed = error.needed
    stated = rerank_memory(len(query), len(gallery), dim, top=options.get("top"), to_file="out" in options, backend="compiled")
    for limit, allowed in ((needed, needed), (None, stated)):
        if (child := os.fork()) == 0:  # from the same start every time: freed memory stays with a process
            print(peak(max_memory=limit, **options), allowed, flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read as Linux tells it")
@pytest.mark.parametrize(("data", "threads"), [("people", 2), ("close", 2), ("wide", 2), ("people", 24)])
def test_peak_of_a_process(compiled: Any, data: str, threads: int) -> None:
    """The C++ backend, as the system sees it: within what is stated, and the limit."""
    command = [sys.executable, "-c", PEAKS, data]
    environment = {**os.environ, "STCANET_NUM_THREADS": str(threads)}
    lines = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split("\n")
    measured = [tuple(map(int, line.split())) for line in lines if line]
    assert len(measured) == 6
    for peak, allowed in measured:
        assert peak <= allowed + (4 << 20), measured  # the panels of two sides end in pages of 2 MiB
    assert all(peak > allowed / 4 for peak, allowed in measured[::2]), measured  # a limit is no excuse for a far estimate
