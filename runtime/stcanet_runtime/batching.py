"""Runs of a few fixed sizes: a shape that a provider has not seen may stall it for seconds, and each leaves memory behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from stcanet_runtime.arrays import UInt8Array
from stcanet_runtime.errors import OptionError

DEFAULT_SIZES = (1, 2, 4, 8, 16, 32)
"""Rows of a run. With 1 among them nothing is ever filled up: 31 rows are runs of 16, 8, 4, 2 and 1."""


def check_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """Sizes of runs in ascending order, each once.

    Raises:
        OptionError: None, or one below 1.
    """
    ordered = tuple(sorted(set(sizes)))
    if not ordered or ordered[0] < 1:
        raise OptionError("batch_sizes", list(sizes), "at least one number, each at least 1")
    return ordered


def cut(batch: UInt8Array, sizes: Sequence[int]) -> Iterator[tuple[UInt8Array, int]]:
    """A batch in runs of the given sizes: the largest that fits, again and again; a rest is filled up by its last row.

    Args:
        batch: ``[N, …]``.
        sizes: Ascending.

    Yields:
        Rows to run, as many as one of the sizes, and how many of them count.
    """
    start = 0
    while start < len(batch):
        left = len(batch) - start
        size = max((size for size in sizes if size <= left), default=sizes[0])
        rows = batch[start : start + size]
        if len(rows) < size:
            rows = np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])
        yield rows, min(size, left)
        start += size


def run_together(runs: Iterable[Callable[[], object]], callers: int) -> None:
    """Each of the runs by so many threads at the same time.

    A provider keeps memory for as many runs as there ever were at once, so it grows late where threads seldom meet.

    Raises:
        OptionError: `callers` is below 1.
    """
    if callers < 1:
        raise OptionError("callers", callers, "at least 1")
    together = threading.Barrier(callers)

    def meet(run: Callable[[], object]) -> None:
        together.wait()
        run()

    with ThreadPoolExecutor(callers) as pool:
        try:
            for run in runs:
                list(pool.map(meet, [run] * callers))
        except BaseException:
            together.abort()  # else those that run would wait for ever for one that the system does not grant
            raise
