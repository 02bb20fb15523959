"""Every backend but the reference, and every instruction set: which of them can run here, and why the others cannot."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gpu_model
import numpy as np

from stcanet_runtime import backends


class Implementation(NamedTuple):
    """A fast backend, and the instruction set it shall use if it can choose; that of ``gpu`` is where its kernels run."""

    name: str
    isa: str = ""

    def __str__(self) -> str:
        return "gpu" if self.isa == "device" else f"{self.name}-{self.isa}".rstrip("-")

    def bind(self, function: str, threads: int = 2) -> Callable[..., Any]:
        """The backend's function of this name, with instruction set and threads where it takes them."""
        bound = getattr(backends.get_backend(self.name), function)
        chosen = {"isa": self.isa, "threads": threads} if self.isa and self.name != "gpu" else {}
        taken = inspect.signature(bound).parameters
        return partial(bound, **{key: value for key, value in chosen.items() if key in taken})


def _instruction_sets() -> list[str]:
    from stcanet_runtime.backends import compiled

    return compiled.instruction_sets()


def _implementations() -> dict[Implementation, str | None]:
    available = backends.available()
    isas = [] if available["compiled"] else _instruction_sets()
    return {
        Implementation("numpy"): None,
        Implementation("jit"): available["jit"],
        **{
            Implementation("compiled", isa): None if isa in isas else available["compiled"] or f"{isa} is not available here"
            for isa in dict.fromkeys(["generic", "avx2", "avx512", "amx", *isas])
        },
        Implementation("gpu", "model"): None if gpu_model.COMPILER else "no C++ compiler for the kernels on the CPU",
        Implementation("gpu", "device"): available["gpu"],
    }


IMPLEMENTATIONS = _implementations()
"""All of them, with the reason why one cannot run here."""

# CuPy has all kernels take subnormal float32 for zero (see backends/gpu.py), so with a GPU the tests stay above them.
_ON_DEVICE = IMPLEMENTATIONS[Implementation("gpu", "device")] is None
SMALLEST = float(np.finfo(np.float32).tiny if _ON_DEVICE else np.finfo(np.float32).smallest_subnormal)
"""The smallest float32 that all implementations here tell from zero."""
TINIEST = 1e-30 if _ON_DEVICE else 1e-42
"""The smallest scale of embeddings that is tried; 1e-42 makes all of them subnormal."""
