"""Compute backends: the same functions with the same results, in NumPy, C++ and Numba, and on a GPU.

A backend that is named and cannot run is an error that says why. ``"auto"`` takes the first of `AUTO_ORDER` that can run,
and `explain` tells which and why. ``STCANET_BACKEND`` or `use_backend` name one for all calls that do not.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.frame import Frame
from stcanet_runtime.backends.gpu_device import why_not as _why_not_gpu
from stcanet_runtime.backends.matches import Thresholds, Truth
from stcanet_runtime.backends.neighbours import DEFAULT_SCRATCH, GalleryLists, Neighbours, PairDistances, Sparse
from stcanet_runtime.errors import BackendError, OptionError, install_hint, quote_choices
from stcanet_runtime.progress import Progress


class Backend(Protocol):
    """What every backend module defines; `reference` documents it."""

    READS_FLOAT16: bool
    """Whether `distance_matrix` and `top_k` take float16 rows as they are."""

    ON_DEVICE: bool
    """Whether rows are brought to a GPU first; see `gpu`."""

    def distance_matrix(
        self,
        query: NDArray[np.float32],
        gallery: NDArray[np.float32],
        metric: str,
        *,
        scratch_bytes: int = DEFAULT_SCRATCH,
    ) -> NDArray[np.float32]:
        """All distances [Q, G] between query [Q, D] and gallery [G, D]."""
        ...

    def top_k(
        self,
        query: NDArray[np.float32],
        gallery: NDArray[np.float32],
        k: int,
        metric: str,
        q_groups: NDArray[np.int64] | None = None,
        g_groups: NDArray[np.int64] | None = None,
        *,
        scratch_bytes: int = DEFAULT_SCRATCH,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Distances and indices [Q, k] of the nearest visible gallery rows."""
        ...

    def neighbours(
        self,
        query: NDArray[np.float32],
        gallery: NDArray[np.float32],
        k: int,
        metric: str,
        *,
        dense: NDArray[np.float32] | None = None,
        lists: GalleryLists | None = None,
        progress: Progress | None = None,
        scratch_bytes: int = DEFAULT_SCRATCH,
    ) -> Neighbours:
        """The k nearest rows of the joint set (queries, then gallery) to each of its rows."""
        ...

    def pair_distances(
        self,
        query: NDArray[np.float32],
        gallery: NDArray[np.float32],
        rows: NDArray[np.int64],
        cols: NDArray[np.int64],
        metric: str,
    ) -> NDArray[np.float32]:
        """Distances [P] of pairs of joint rows."""
        ...

    def smallest(self, values: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """The k smallest values of each row and their columns, [R, k]."""
        ...

    def expand(self, neighbours: NDArray[np.int32], half: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The expanded k-reciprocal sets, as the columns of sparse rows."""
        ...

    def weights(
        self,
        neighbours: Neighbours,
        indptr: NDArray[np.int64],
        indices: NDArray[np.int32],
        power: int,
        measure: PairDistances,
    ) -> NDArray[np.float32]:
        """What the members of the expanded sets weigh, [E]; see `backends.weights`."""
        ...

    def average(
        self, indptr: NDArray[np.int64], indices: NDArray[np.int32], values: NDArray[np.float32], neighbours: NDArray[np.int32]
    ) -> Sparse:
        """Mean of the sparse rows of each row's neighbours [N, k2]."""
        ...

    def overlaps(
        self,
        indptr: NDArray[np.int64],
        indices: NDArray[np.int32],
        values: NDArray[np.float32],
        num_query: int,
        start: int = 0,
        stop: int | None = None,
    ) -> Sparse:
        """Sums of minima of the rows of queries ``start`` to ``stop`` and of the gallery, sparse [stop - start, G]."""
        ...

    def blend(
        self,
        dense: NDArray[np.float32],
        nearness: Sparse,
        farthest: NDArray[np.float32],
        power: int,
        lambda_value: float,
    ) -> None:
        """Turn distances [R, G] into final distances, in place."""
        ...

    def select_best(
        self,
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
        scratch_bytes: int = DEFAULT_SCRATCH,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Final distances and indices [Q, places] of the best gallery rows."""
        ...

    def ranks(self, distances: NDArray[Any], truth: Truth) -> NDArray[np.int64] | None:
        """Places of the true matches by float32 or float64 distances [Q, G]; None when any is NaN."""
        ...

    def count_closer(
        self,
        query: NDArray[np.float32],
        gallery: NDArray[np.float32],
        thresholds: Thresholds,
        metric: str,
        *,
        progress: Progress | None = None,
        scratch_bytes: int = DEFAULT_SCRATCH,
    ) -> NDArray[np.int64]:
        """How many gallery rows come before each threshold in the order of (distance, index)."""
        ...

    def resize_boxes(
        self, frame: Frame, boxes: NDArray[np.int64], height: int, width: int, *, threads: int | None = None
    ) -> NDArray[np.uint8]:
        """Boxes [N, 4] of a frame as RGB crops [N, height, width, 3]."""
        ...


def _why_not_compiled() -> str | None:
    try:
        importlib.import_module("stcanet_runtime._kernels")
    except ImportError as error:
        missing = importlib.util.find_spec("stcanet_runtime._kernels") is None
        return "the C++ kernels were not built at installation" if missing else f"the C++ kernels do not load: {error}"
    return None


def _why_not_jit() -> str | None:
    # Looked for, not imported: importing Numba takes longer than many a search.
    return None if importlib.util.find_spec("numba") else "numba is not installed"


_PROBES: dict[str, Callable[[], str | None]] = {
    "reference": lambda: None,
    "numpy": lambda: None,
    "compiled": _why_not_compiled,
    "jit": _why_not_jit,
    "gpu": _why_not_gpu,
}
_HINTS = {
    "compiled": "install a C++17 compiler and reinstall with STCANET_KERNELS=require",
    "gpu": (
        "install CuPy for the CUDA that is here, such as pip install 'cupy-cuda13x[ctk]', or 12x for drivers older than 580, "
        "on a machine with an NVIDIA GPU"
    ),
}
_MODULES = {"numpy": "numpy_"}  # a module called numpy would hide NumPy from readers

NAMES = tuple(_PROBES)
"""All backends, whether they can run here or not."""

AUTO_ORDER = ("compiled", "jit", "numpy")
"""Fastest first. ``reference`` is the yardstick: the same results as ``numpy``, slower, so never taken by itself.
``gpu`` has not been measured on one yet."""

_forced: ContextVar[str | None] = ContextVar("stcanet_backend", default=None)


def available() -> dict[str, str | None]:
    """Every backend by name: None when it can run here, or the reason why not."""
    return {name: why_not() for name, why_not in _PROBES.items()}


@contextmanager
def use_backend(name: str) -> Iterator[Backend]:
    """Inside the ``with`` block, ``"auto"`` means this backend; before ``STCANET_BACKEND``.

    It reaches asyncio tasks that are started inside, but not threads: those start with what is set for the process.

    Raises:
        BackendError: the backend cannot run here.
        OptionError: there is no backend of this name.
    """
    backend = get_backend(name)
    token = _forced.set(name)
    try:
        yield backend
    finally:
        _forced.reset(token)


def resolve(name: str = "auto") -> tuple[str, str]:
    """The backend that ``name`` stands for, and a phrase that says why.

    Raises:
        BackendError: the backend cannot run here.
        OptionError: there is no backend of this name.
    """
    forced, environment = _forced.get(), os.environ.get("STCANET_BACKEND", "auto")
    if name != "auto":
        reason = "asked for by name"
    elif forced not in (None, "auto"):
        name, reason = str(forced), "set by use_backend"
    elif environment != "auto":
        name, reason = environment, "set by STCANET_BACKEND"
    else:
        return _resolve_auto()
    if name not in _PROBES:
        raise OptionError("backend", name, quote_choices(["auto", *NAMES]))
    if (problem := _PROBES[name]()) is not None:
        raise BackendError(name, problem, install_hint(name) if name == "jit" else _HINTS.get(name, ""))
    return name, reason


def _resolve_auto() -> tuple[str, str]:
    passed_over: list[str] = []
    for name in AUTO_ORDER:
        problem = _PROBES[name]()
        if problem is None:
            return name, "; ".join(["the fastest that can run here", *passed_over])
        passed_over.append(f"not {name}: {problem}")
    raise AssertionError("the NumPy backend can always run")


def get_backend(name: str = "auto") -> Backend:
    """The backend of this name.

    Args:
        name: one of `NAMES`, or ``"auto"``.

    Raises:
        BackendError: the backend cannot run here.
        OptionError: there is no backend of this name.
    """
    chosen, _ = resolve(name)
    return cast("Backend", importlib.import_module(f"{__name__}.{_MODULES.get(chosen, chosen)}"))


def explain(name: str = "auto") -> str:
    """One line: what ``name`` stands for here, why, and with which instruction set."""
    chosen, reason = resolve(name)
    if chosen != "compiled":
        return f"{chosen} ({reason})"
    from stcanet_runtime.backends import compiled

    sets = ", ".join(compiled.instruction_sets())
    return f"{chosen} ({reason}; uses {compiled.resolve_isa()}, this processor and build have {sets})"
