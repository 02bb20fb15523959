"""The C++ backend: threads, and the best instruction set of the processor it finds itself on.

`top_k` gives the results of `reference`, bit for bit, for any instruction set and number of threads. `distance_matrix` comes
from float32 tiles; with D columns, u = 2⁻²⁴ and lengths relative to the longest row, the cosine is within
``(min(D, 256) + D / 256 + 8) 1.01 u`` of `reference` (1.7e-5 at D = 2048; 1e-7 is typical), the squared euclidean within twice
that; pairs closer than 1/16 are measured by the definition. Algorithms and proofs: ``csrc/README.md``.

Environment: ``STCANET_NUM_THREADS`` (default: the processors this process may use) and ``STCANET_ISA`` (``generic``, ``avx2``,
``avx512``; default: the best); the arguments of the functions come first.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime import _kernels
from stcanet_runtime.errors import BackendError, OptionError


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
    """Number of threads that a call would use; 0 stands for all processors that this process may use.

    Args:
        threads: a number, or None for the environment and then 0.

    Raises:
        OptionError: not a number, or negative.
    """
    value: object = threads if threads is not None else os.environ.get("STCANET_NUM_THREADS") or 0
    try:
        number = int(str(value))
    except ValueError:
        number = -1
    if number < 0:
        raise OptionError("threads (STCANET_NUM_THREADS)", value, "a number of threads, or 0 for all")
    return number


def distance_matrix(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    metric: str,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> NDArray[np.float32]:
    """All distances, as `reference.distance_matrix` up to the bound stated in the module."""
    return _kernels.distance_matrix(query, gallery, metric, resolve_threads(threads), resolve_isa(isa))


def top_k(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    k: int,
    metric: str,
    q_groups: NDArray[np.int64] | None = None,
    g_groups: NDArray[np.int64] | None = None,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k nearest visible gallery rows; arguments and result as `reference.top_k`."""
    return _kernels.top_k(query, gallery, k, metric, q_groups, g_groups, resolve_threads(threads), resolve_isa(isa))
