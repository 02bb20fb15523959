"""Ctrl-C ends a call into the C++ kernels between two units of its work, and not when all of it is done; and one into Numba."""

from __future__ import annotations

import _thread
import ctypes
import signal
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache, partial
from operator import methodcaller
from typing import Any

import numpy as np
import pytest

from stcanet_runtime.backends import jit_kreciprocal, reference

SCRATCH = 1 << 20
THREADS = 2


class StoppedError(Exception):
    """Raised by the handler of the signal."""


@pytest.fixture
def handled() -> Iterator[None]:
    def handler(number: int, frame: object) -> None:
        raise StoppedError

    before = signal.signal(signal.SIGINT, handler)
    yield
    signal.signal(signal.SIGINT, before)


@cache
def calls() -> dict[str, Callable[[], Any]]:
    """Every kernel that may work for long, with arguments for more than one unit of it."""
    from stcanet_runtime import _kernels as kernels

    joint = np.random.default_rng(0).normal(size=(900, 8)).astype(np.float32)
    q, g, nothing = joint[:300], joint[300:], np.zeros(1, np.int64)
    found = reference.neighbours(q, g, 9, "cosine")
    indptr, indices = reference.expand(found.indices, 4)
    rows = indptr, indices, np.ones(len(indices), np.float32)
    overlap = reference.overlaps(*rows, len(q))
    dense = np.ones((300, 600), np.float32)
    listed = dense[:, :50].copy(), np.tile(np.arange(50), (300, 1)), None, None
    none_listed = dense[:0, :50].copy(), np.zeros((0, 50), np.int64), None, None
    frame, boxes = np.zeros((2000, 2000, 3), np.uint8), np.tile([0, 0, 2000, 2000], (64, 1))
    one_each, everyone = (np.arange(301), np.arange(300)), np.arange(900)
    return {
        "distance_matrix": partial(kernels.distance_matrix, q, g, "cosine", SCRATCH, THREADS),
        "top_k": partial(kernels.top_k, q, g, 5, "cosine", None, None, SCRATCH, THREADS),
        "top_k of one query": partial(kernels.top_k, q[:1], joint.repeat(9, 0), 5, "cosine", None, None, SCRATCH, THREADS),
        "neighbours": partial(kernels.neighbours, q, g, 9, "cosine", None, None, None, SCRATCH, THREADS),
        "pair_distances": partial(kernels.pair_distances, q, g, everyone, everyone, "cosine", THREADS),
        "smallest": partial(kernels.smallest, dense, 5, THREADS),
        "expand": partial(kernels.expand, found.indices, 4, THREADS),
        "average": partial(kernels.average, *rows, found.indices, THREADS),
        "overlaps": partial(kernels.overlaps, *rows, len(q), 0, None, THREADS),
        "blend": partial(kernels.blend, dense, *overlap, found.farthest[:300].copy(), 1, 0.3, THREADS),
        "select_best": partial(kernels.select_best, q, g, "cosine", *rows, found.farthest, listed, 5, 1, 0.3, None, THREADS),
        "ranks": partial(kernels.ranks, dense, *one_each, np.zeros(301, np.int64), nothing[:0], nothing[:0], THREADS),
        "resize_boxes": partial(kernels.resize_boxes, [frame], "rgb", boxes, 64, 32, THREADS),
        "count_closer": partial(
            kernels.count_closer, q, g, one_each[0], dense[:, 0].copy(), one_each[1], "cosine", None, SCRATCH, THREADS
        ),
        # Of no query rows are read, and that is all.
        "select_best of no query": partial(
            kernels.select_best, q[:0], joint, "cosine", *rows, found.farthest, none_listed, 5, 1, 0.3, None, THREADS
        ),
        "count_closer of no query": partial(
            kernels.count_closer, q[:0], joint, nothing, dense[0, :0], nothing[:0], "cosine", None, SCRATCH, THREADS
        ),
    }


NAMES = [
    "distance_matrix",
    "top_k",
    "top_k of one query",
    "neighbours",
    "pair_distances",
    "smallest",
    "expand",
    "average",
    "overlaps",
    "blend",
    "select_best",
    "ranks",
    "resize_boxes",
    "count_closer",
    "select_best of no query",
    "count_closer of no query",
]


@pytest.mark.usefixtures("compiled", "handled")
@pytest.mark.parametrize("name", NAMES)
def test_a_signal_ends_the_call(name: str) -> None:
    """Python looks for signals between its own instructions. There are none here from the signal to the last step: only what is
    called can see it."""
    finished: list[bool] = []
    interrupt, finish = partial(_thread.interrupt_main, signal.SIGINT), partial(finished.append, True)
    calls()[name]()  # the arguments are right
    with pytest.raises(StoppedError):
        deque(map(methodcaller("__call__"), (interrupt, calls()[name], finish)), maxlen=0)
    assert not finished


def test_what_a_signal_raises_in_numba_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        inner = SystemError("returned a result with an exception set")
        inner.__cause__ = StoppedError()
        raise SystemError("returned a result with an exception set") from inner

    monkeypatch.setattr("stcanet_runtime.backends.jit_kreciprocal._compile_smallest", lambda: interrupted)
    with pytest.raises(StoppedError):
        jit_kreciprocal.smallest(np.ones((2, 3), np.float32), 1)


@pytest.mark.usefixtures("compiled", "handled")
def test_a_signal_after_the_products_ends_the_search_for_neighbours() -> None:
    """The signal comes with the last report of progress, from what is no Python code and lets Python see nothing."""
    from stcanet_runtime import _kernels as kernels

    finished: list[bool] = []
    q, g = np.eye(2, 8, dtype=np.float32), np.ones((3, 8), np.float32)  # one block of products
    interrupt = partial(ctypes.pythonapi.PyErr_SetInterruptEx, int(signal.SIGINT))
    call = partial(kernels.neighbours, q, g, 2, "cosine", None, None, interrupt, SCRATCH, THREADS)
    with pytest.raises(StoppedError):
        deque(map(methodcaller("__call__"), (call, partial(finished.append, True))), maxlen=0)
    assert not finished
