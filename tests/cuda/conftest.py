"""The bodies of the CUDA kernels, compiled for the CPU: see tests/csrc/simt.hpp."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).parents[2]


class Element(NamedTuple):
    """What the tensor cores multiply: its number in simt_kernels.cpp, how it is stored, and the error that is allowed.

    `error` is relative to the largest value: a few units of the rounding of weights and outputs.
    """

    number: int
    dtype: torch.dtype
    error: float


ELEMENTS = {
    "fp16": Element(0, torch.float16, 2e-3),
    "bf16": Element(1, torch.bfloat16, 1.6e-2),
    "tf32": Element(2, torch.float32, 2e-3),
    "tf32x3": Element(3, torch.float32, 5e-6),
}


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The library of the kernel bodies; skipped where no C++ compiler is."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("the CUDA kernel bodies are tested with a C++ compiler, and none is here")
    library = tmp_path_factory.mktemp("simt") / "simt_kernels.so"
    folders = [f"-I{ROOT / folder}" for folder in ("csrc/include", "csrc/cuda", "tests/csrc")]
    source = ROOT / "tests" / "csrc" / "simt_kernels.cpp"
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, *folders, str(source), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.to_float_on_cpu.restype = ctypes.c_float
    return loaded


class Guarded:
    """A tensor amid poison: reading beyond it gives NaN, writing beyond it is found, and so is what was not written."""

    MARGIN = 64

    def __init__(self, content: Tensor | tuple[int, ...], dtype: torch.dtype, shift: int = 0) -> None:
        shape = tuple(content.shape) if isinstance(content, Tensor) else content
        count = int(torch.tensor(shape).prod())
        self.memory = torch.full((count + 2 * self.MARGIN + shift,), torch.nan, dtype=dtype)
        start = self.MARGIN + shift
        self.tensor = self.memory[start : start + count].view(shape)
        if isinstance(content, Tensor):
            self.tensor.copy_(content)
        self._before, self._after = self.memory[:start], self.memory[start + count :]

    @property
    def pointer(self) -> int:
        return self.tensor.data_ptr()

    def result(self) -> Tensor:
        """In float64, after a look at what surrounds it."""
        assert self._before.isnan().all()
        assert self._after.isnan().all()
        assert not self.tensor.isnan().any()
        return self.tensor.double()


class Call(ctypes.Structure):
    """struct Call of simt_kernels.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("rows", "grad_mixed", "log_sum", "grad_dot", "out")),
        *((name, ctypes.c_int) for name in ("clips", "num_rows", "depth")),
        ("seed", ctypes.c_uint),
    )


def largest_error(result: Tensor, expected: Tensor) -> float:
    """Relative to the largest expected value."""
    return float((result - expected).abs().max() / expected.abs().max())


def random_seed() -> int:
    """Drawn anew for each run of the tests; pytest prints it where a test fails."""
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")  # noqa: T201
    return seed
