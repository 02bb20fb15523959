"""The C++ backend: threads, and the best instruction set of the processor it finds itself on.

`top_k` gives the results of `reference`, bit for bit, for any instruction set and number of threads. `distance_matrix` comes
from float32 tiles; with D columns, u = 2⁻²⁴ and lengths relative to the longest row, the cosine is within
``(min(D, 128) + D / 128 + 12) 1.01 u`` of `reference` (1e-5 at D = 2048; 1e-7 is typical), the squared euclidean within twice
that; pairs closer than 1/16 are measured by the definition. Rows that are nearly one direction are seen from their mean, and
errors shrink as the lengths from there do. Algorithms and proofs: ``csrc/README.md``.

Environment: ``STCANET_NUM_THREADS`` (default, and 0: the processors this process may use, or the CPU quota of a container) and
``STCANET_ISA`` (``generic``, ``avx2``, ``avx512``, ``amx``; default: the best); the arguments of the functions come first.
Searches screen with int16 products on ``avx2``, with bfloat16 on ``amx``, with float32 otherwise.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime import _kernels
from stcanet_runtime.backends import weights as set_weights
from stcanet_runtime.backends.frame import Frame
from stcanet_runtime.backends.matches import Thresholds, Truth
from stcanet_runtime.backends.neighbours import DEFAULT_SCRATCH, GalleryLists, Neighbours, Sparse
from stcanet_runtime.errors import BackendError, OptionError
from stcanet_runtime.machine import cores
from stcanet_runtime.progress import Progress

MAX_THREADS = 1 << 16
"""As in ``csrc``; more than any machine grants."""
READS_FLOAT16 = True
ON_DEVICE = False

weights = set_weights.weights
"""The same for all backends on the processor."""


def instruction_sets() -> list[str]:
    """Instruction sets that can be asked for here, slowest first."""
    return _kernels.instruction_sets()


def resolve_isa(isa: str | None = None) -> str:
    """The instruction set that a call would use.

    Args:
        isa: a name, or None for the environment and then the best.

    Raises:
        BackendError: the named set is not available on this processor.
    """
    available = instruction_sets()
    name = isa or os.environ.get("STCANET_ISA") or available[-1]
    if name not in available:
        raise BackendError("compiled", f"instruction set '{name}' is not available here", f"available: {', '.join(available)}")
    return name


def resolve_threads(threads: int | None = None) -> int:
    """Number of threads that a call would use.

    Args:
        threads: a number; 0 for all processors that this process may use, within its quota; None for the environment, else 0.

    Raises:
        OptionError: not a number, negative, or above `MAX_THREADS`.
    """
    value: object = threads if threads is not None else os.environ.get("STCANET_NUM_THREADS") or 0
    try:
        number = int(str(value))
    except ValueError:
        number = -1
    if not 0 <= number <= MAX_THREADS:
        raise OptionError("threads (STCANET_NUM_THREADS)", value, f"a number of threads up to {MAX_THREADS:,}, or 0 for all")
    return number or cores()


def distance_matrix(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    metric: str,
    *,
    scratch_bytes: int = DEFAULT_SCRATCH,
    threads: int | None = None,
    isa: str | None = None,
) -> NDArray[np.float32]:
    """All distances, as `reference.distance_matrix` up to the bound stated in the module."""
    return _kernels.distance_matrix(query, gallery, metric, scratch_bytes, resolve_threads(threads), resolve_isa(isa))


def top_k(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    k: int,
    metric: str,
    q_groups: NDArray[np.int64] | None = None,
    g_groups: NDArray[np.int64] | None = None,
    *,
    scratch_bytes: int = DEFAULT_SCRATCH,
    threads: int | None = None,
    isa: str | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k nearest visible gallery rows; arguments and result as `reference.top_k`."""
    count, name = resolve_threads(threads), resolve_isa(isa)
    return _kernels.top_k(query, gallery, k, metric, q_groups, g_groups, scratch_bytes, count, name)


def neighbours(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    k: int,
    metric: str,
    *,
    dense: NDArray[np.float32] | None = None,
    lists: GalleryLists | None = None,
    progress: Progress | None = None,
    scratch_bytes: int = DEFAULT_SCRATCH,
    threads: int | None = None,
    isa: str | None = None,
) -> Neighbours:
    """The k nearest rows of the joint set to each of its rows; arguments and result as `reference.neighbours`.

    Every product is computed once, for both of its rows, for ``dense`` and for ``lists``.
    """
    count, name = resolve_threads(threads), resolve_isa(isa)
    return Neighbours(*_kernels.neighbours(query, gallery, k, metric, dense, lists, progress, scratch_bytes, count, name))


def pair_distances(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    metric: str,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> NDArray[np.float32]:
    """Distances [P] of pairs of the joint set, by the definition."""
    return _kernels.pair_distances(query, gallery, rows, cols, metric, resolve_threads(threads), resolve_isa(isa))


def smallest(
    values: NDArray[np.float32], k: int, *, threads: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The k smallest values of each row [R, N] and their columns, by (value, column)."""
    return _kernels.smallest(values, k, resolve_threads(threads))


def expand(
    neighbours: NDArray[np.int32], half: int, *, threads: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The expanded k-reciprocal sets as (indptr, indices)."""
    return _kernels.expand(neighbours, half, resolve_threads(threads))


def average(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    neighbours: NDArray[np.int32],
    *,
    threads: int | None = None,
) -> Sparse:
    """Each sparse row replaced by the mean of the rows of its neighbours [N, k2]."""
    return _kernels.average(indptr, indices, values, neighbours, resolve_threads(threads))


def overlaps(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    num_query: int,
    start: int = 0,
    stop: int | None = None,
    *,
    threads: int | None = None,
) -> Sparse:
    """Sums of minima of queries ``start`` to ``stop`` with the gallery rows they share a column with."""
    return _kernels.overlaps(indptr, indices, values, num_query, start, stop, resolve_threads(threads))


def blend(
    dense: NDArray[np.float32],
    nearness: Sparse,
    farthest: NDArray[np.float32],
    power: int,
    lambda_value: float,
    *,
    threads: int | None = None,
) -> None:
    """Turn distances [R, G] into re-ranked ones in place."""
    _kernels.blend(dense, *nearness, farthest, power, lambda_value, resolve_threads(threads))


def select_best(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    metric: str,
    rows: Sparse,
    farthest: NDArray[np.float32],
    lists: GalleryLists,
    places: int,
    power: int,
    lambda_value: float,
    *,
    progress: Progress | None = None,
    scratch_bytes: int = DEFAULT_SCRATCH,  # noqa: ARG001  (a row of sums for each thread)
    threads: int | None = None,
    isa: str | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best gallery rows of every query after re-ranking; arguments and result as `reference.select_best`."""
    count, name, blend_with = resolve_threads(threads), resolve_isa(isa), (power, lambda_value)
    return _kernels.select_best(query, gallery, metric, *rows, farthest, lists, places, *blend_with, progress, count, name)


def ranks(
    distances: NDArray[Any], truth: Truth, *, threads: int | None = None, isa: str | None = None
) -> NDArray[np.int64] | None:
    """Places of the true matches; arguments and result as `reference.ranks`. Counted, not sorted."""
    return _kernels.ranks(distances, *truth, resolve_threads(threads), resolve_isa(isa))


def count_closer(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    thresholds: Thresholds,
    metric: str,
    *,
    progress: Progress | None = None,
    scratch_bytes: int = DEFAULT_SCRATCH,
    threads: int | None = None,
    isa: str | None = None,
) -> NDArray[np.int64]:
    """Rows before each threshold; arguments and result as `reference.count_closer`."""
    count, name = resolve_threads(threads), resolve_isa(isa)
    return _kernels.count_closer(query, gallery, *thresholds, metric, progress, scratch_bytes, count, name)


def resize_boxes(
    frame: Frame, boxes: NDArray[np.int64], height: int, width: int, *, threads: int | None = None, isa: str | None = None
) -> NDArray[np.uint8]:
    """The bits of `reference.resize_boxes`, without a copy of the frame or of a crop."""
    chosen = resolve_threads(threads), resolve_isa(isa)
    return _kernels.resize_boxes(list(frame.planes), frame.format, boxes, height, width, *chosen)
