"""A GPU without one: what nvcc makes of csrc/cuda, with the launchers and bindings, on tests/ptx/machine.py."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pybind11

from tests.ptx.machine import launch
from tests.ptx.parser import Kernel, Module

ROOT = Path(__file__).parents[2]
NVCC = shutil.which("nvcc")
KIBI = 1024
# Compute capability, and the shared memory that a block can have.
GPUS = {
    "turing": (75, 64 * KIBI),
    "ada": (89, 99 * KIBI),
    "a100": (80, 163 * KIBI),
    "hopper": (90, 227 * KIBI),
    "small": (80, 64 * KIBI),  # none is like this: it takes the narrow shapes for 16 bits, whatever the depth
}
_RUN = ctypes.CFUNCTYPE(
    *(ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint), ctypes.c_uint),
    *(ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t),
)


def build(folder: Path) -> Path:
    """_kernels_cuda with the PTX for Turing and for Ampere, and a CUDA runtime that hands launches on."""
    library = folder / f"_kernels_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"
    folders = [ROOT / "csrc/include", ROOT / "csrc/cuda", sysconfig.get_paths()["include"], pybind11.get_include()]
    sources = [
        *sorted((ROOT / "csrc/cuda").glob("*.cu")),
        ROOT / "csrc/bindings/kernels_cuda.cpp",
        ROOT / "tests/ptx/cudart.cpp",
    ]
    assert NVCC is not None
    subprocess.run(
        [
            *(NVCC, "-std=c++17", "-O3", "-Xcompiler", "-O0,-fPIC,-fvisibility=hidden", "-shared"),
            *("-cudart", "none", "--threads", "0"),
            *("-gencode=arch=compute_75,code=compute_75", "-gencode=arch=compute_80,code=compute_80", "--compress-mode=none"),
            *(f"-I{place}" for place in folders),
            *(*map(str, sources), "-o", str(library)),
        ],
        check=True,
    )
    return library


class Gpu:
    """One device, whatever kind is asked for."""

    def __init__(self, library: Path) -> None:
        spec = importlib.util.spec_from_file_location("_kernels_cuda", library)
        assert spec is not None
        assert spec.loader is not None
        self.kernels: ModuleType = importlib.util.module_from_spec(spec)
        self._runtime = ctypes.CDLL(str(library))
        self._callback = _RUN(self._run)
        self._runtime.ptx_connect(self._callback)
        spec.loader.exec_module(self.kernels)
        self._modules: dict[int, Module] = {}
        self._module_of: dict[str, Module] = {}
        self._places: dict[int, int] = {}
        self.launched: list[str] = []
        self._fault: Exception | None = None

    @contextmanager
    def of_kind(self, name: str, *arrays: Any) -> Iterator[ModuleType]:
        """The kernels as on such a GPU, which may touch these tensors."""
        capability, shared = GPUS[name]
        self._runtime.ptx_device(capability, ctypes.c_size_t(shared))
        self._places = {array.data_ptr(): array.numel() * array.element_size() for array in arrays}
        self._fault = None
        try:
            yield self.kernels
        except RuntimeError as error:
            raise self._fault or error from None

    def kernel(self, name: str) -> Kernel:
        """One that has been launched."""
        return self._module_of[name].kernel(name)

    def beside(self, name: str) -> list[str]:
        """All kernels of the file that a launched one is from."""
        return self._module_of[name].names

    def _run(self, name: bytes, text: int, grid: Any, threads: int, arguments: Any, shared: int) -> int:
        try:
            if text not in self._modules:
                self._modules[text] = Module(ctypes.string_at(text).decode())
            kernel = self._modules[text].kernel(name.decode())
            self._module_of[kernel.name] = self._modules[text]
            values = [ctypes.string_at(arguments[i], size) for i, size in enumerate(kernel.parameter_sizes)]
            self.launched.append(kernel.name)
            launch(kernel, (grid[0], grid[1], grid[2]), threads, values, list(self._places.items()), shared)
        except Exception as error:
            self._fault = error
            return 1
        return 0
