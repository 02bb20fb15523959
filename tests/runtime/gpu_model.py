"""A GPU on the processor: NumPy's arrays, and the kernels of the GPU backend thread by thread; see tests/csrc/simt.hpp."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends import gpu_device
from tests.ptx.machine import launch
from tests.ptx.parser import Module

ROOT = Path(__file__).parents[2]
COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
_TYPES = {np.int32: ctypes.c_int, np.int64: ctypes.c_longlong, np.float32: ctypes.c_float, np.float64: ctypes.c_double}


@cache
def kernels() -> ctypes.CDLL:
    """The library of the kernels, compiled once for a run of the tests."""
    library = Path(tempfile.mkdtemp()) / "simt_backend.so"
    folders = [f"-I{ROOT / folder}" for folder in ("csrc/include", "csrc/cuda", "tests/csrc")]
    flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    source = ROOT / "tests" / "csrc" / "simt_backend.cpp"
    subprocess.run([str(COMPILER), *flags, *folders, str(source), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.set_seed(int.from_bytes(os.urandom(4), "little"))
    return loaded


class Model:
    """What `gpu_device.Device` asks for. Memory that was not written holds NaN, or what nobody means."""

    def __init__(self, form: str = "kernel") -> None:
        self.xp: Any = _Poisoned()
        self._form = form

    def launch(self, name: str, count: int, *arguments: Any) -> None:
        if count == 0:  # as on the device, where a grid must not be empty
            return
        function = getattr(kernels(), f"{name}_{self._form}", None) or getattr(kernels(), f"{name}_kernel")
        function.restype = None
        function(ctypes.c_longlong(count), *map(_argument, arguments))

    def products(self, a: NDArray[np.float16], b: NDArray[np.float16]) -> NDArray[np.float32]:
        assert a.dtype == b.dtype == np.float16
        assert min(len(a), len(b)) > 0  # or cuBLAS refuses
        return np.float32(-2.0) * (a.astype(np.float32) @ b.astype(np.float32).T)

    def get(self, array: NDArray[Any]) -> NDArray[Any]:
        assert isinstance(array, DeviceArray)
        return np.array(array)

    def at(self, array: Any) -> nullcontext[None]:  # noqa: ARG002  (there is one)
        return nullcontext()

    def finish(self) -> int:
        return 0


def _argument(value: Any) -> Any:
    if value is None:
        return ctypes.c_void_p(None)
    if isinstance(value, np.ndarray):
        assert isinstance(value, DeviceArray)
        assert value.flags.c_contiguous
        return ctypes.c_void_p(value.ctypes.data)
    return _TYPES[type(value)](value.item())


class Compiled(Model):
    """The same with the kernels as CuPy's compiler makes them for a GPU, on a machine of PTX; see tests/ptx."""

    def __init__(self, module: Module) -> None:
        super().__init__()
        self._module = module
        self.launched: set[str] = set()

    def launch(self, name: str, count: int, *arguments: Any) -> None:
        if count == 0:
            return
        arrays = [value for value in arguments if isinstance(value, np.ndarray)]
        assert all(isinstance(array, DeviceArray) and array.flags.c_contiguous for array in arrays)
        launch(
            self._module.kernel(f"{name}_kernel"),
            (gpu_device.blocks(name, count), 1, 1),
            gpu_device.THREADS,
            [np.int64(count).tobytes(), *map(_bytes, arguments)],
            [(array.ctypes.data, array.nbytes) for array in arrays],
        )
        self.launched.add(name)


def _bytes(value: Any) -> bytes:
    """What CuPy passes to a kernel."""
    return np.uint64(0 if value is None else value.ctypes.data).tobytes() if value is None or value.ndim else value.tobytes()


class DeviceArray(np.ndarray[Any, Any]):
    """What CuPy's arrays are to NumPy: another type, which functions of NumPy give back."""

    @property
    def __cuda_array_interface__(self) -> Any:
        return self.__array_interface__

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        """As on a GPU: no mixtures."""
        given = [*inputs, *(out or ())]
        assert not any(type(x) is np.ndarray and x.ndim for x in given), "an array of NumPy and one of the device"
        plain = [x.view(np.ndarray) if isinstance(x, DeviceArray) else x for x in inputs]
        if out is not None:
            options["out"] = tuple(x.view(np.ndarray) for x in out)
        result = getattr(ufunc, method)(*plain, **options)
        return out[0] if out is not None else _on_device(result)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        return _on_device(super().__array_function__(function, types, arguments, options))


def _on_device(result: Any) -> Any:
    return result.view(DeviceArray) if isinstance(result, np.ndarray) else result


class _Poisoned:
    """NumPy with arrays of the device, and NaN or nonsense in fresh memory."""

    ndarray = DeviceArray

    def __getattr__(self, name: str) -> Any:
        value = getattr(np, name)
        return (lambda *given, **options: _on_device(value(*given, **options))) if callable(value) else value

    @staticmethod
    def from_dlpack(tensor: Any) -> NDArray[Any]:
        return _on_device(tensor.array)

    @staticmethod
    def empty(shape: Any, dtype: Any) -> NDArray[Any]:
        return _on_device(np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 77, dtype))

    @staticmethod
    def empty_like(other: NDArray[Any]) -> NDArray[Any]:
        return _Poisoned.empty(other.shape, other.dtype)
