"""The GPU as the backend sees it: the kernels beside this file, compiled and launched, and one matrix product."""

from __future__ import annotations

import importlib
import importlib.util
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = Any
"""An array of the device: CuPy's, or NumPy's in the tests of the kernels on the CPU."""

THREADS = 256
"""Of a block."""
SOURCES = ("retrieval.cu", "crops.cu")
_LANES = 16  # threads of an item of these kernels, as in launch.cuh
_LANE_KERNELS = ("measure", "squared_lengths", "whole_rows")
_BLOCK_KERNELS = ("row_limits", "collect", "count_sure")
OPTIONS = ("--std=c++17", "--fmad=false")
"""Of the compiler: fused multiply-adds would change the last bit of exact distances."""


class Device(Protocol):
    """What the backend needs of a GPU; the tests have one on the CPU."""

    xp: Any
    """The module of the arrays, with the functions of NumPy."""

    def launch(self, name: str, count: int, *arguments: Any) -> None:
        """Run a kernel for `count` items; arrays are contiguous, None is a null pointer, scalars are NumPy's."""
        ...

    def products(self, a: Array, b: Array) -> Array:
        """``-2 a·b`` [R, C] float32 of rows [R, D] and [C, D] float16; sums in float32 in any order."""
        ...

    def get(self, array: Array) -> NDArray[Any]:
        """The array in NumPy."""
        ...

    def at(self, array: Array) -> AbstractContextManager[object]:
        """Inside the block the device of the array, if it is of one, is the current one."""
        ...

    def finish(self) -> int:
        """Wait for all that was launched on the current device, in whatever stream; its number."""
        ...


class CudaDevice:
    """The current device of CuPy, in its current stream."""

    def __init__(self) -> None:
        self.xp: Any = importlib.import_module("cupy")
        self._module = self.xp.RawModule(code=kernel_source(), options=OPTIONS)

    def launch(self, name: str, count: int, *arguments: Any) -> None:
        """See `Device`."""
        if count == 0:
            return
        null = np.uint64(0)
        values = tuple(null if value is None else value for value in arguments)
        self._module.get_function(f"{name}_kernel")((blocks(name, count),), (THREADS,), (np.int64(count), *values))

    def products(self, a: Array, b: Array) -> Array:
        """See `Device`; cuBLAS on the tensor cores. CuPy's own product would round the result to float16."""
        cublas, runtime, device = self.xp.cuda.cublas, self.xp.cuda.runtime, self.xp.cuda.device
        (rows, depth), columns = a.shape, len(b)
        result = self.xp.empty((rows, columns), np.float32)
        factor, nothing = np.array(-2.0, np.float32), np.array(0.0, np.float32)
        half, single = runtime.CUDA_R_16F, runtime.CUDA_R_32F
        # Column-major, as cuBLAS is: the transposed result [C, R] = b · aᵀ.
        cublas.gemmEx(
            *(device.get_cublas_handle(), cublas.CUBLAS_OP_T, cublas.CUBLAS_OP_N, columns, rows, depth, factor.ctypes.data),
            *(b.data.ptr, half, depth, a.data.ptr, half, depth, nothing.ctypes.data, result.data.ptr, single, columns),
            *(cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_GEMM_DEFAULT),
        )
        return result

    def get(self, array: Array) -> NDArray[Any]:
        """See `Device`."""
        return np.asarray(self.xp.asnumpy(array))

    def at(self, array: Array) -> AbstractContextManager[object]:
        """See `Device`."""
        return array.device if isinstance(array, self.xp.ndarray) else nullcontext()

    def finish(self) -> int:
        """See `Device`."""
        current = self.xp.cuda.Device()
        current.synchronize()
        return int(current.id)


def blocks(name: str, count: int) -> int:
    """How many blocks a kernel needs for `count` items."""
    return count if name in _BLOCK_KERNELS else -(-count * (_LANES if name in _LANE_KERNELS else 1) // THREADS)


def kernel_source() -> str:
    """The kernels as one text, which includes nothing."""
    launch, *sources = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("launch.cuh", *SOURCES))
    return launch + "".join(source.replace('#include "launch.cuh"\n', "") for source in sources)


def why_not() -> str | None:
    """None where CuPy is installed and sees a GPU, else the reason."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed"
    try:
        cupy = importlib.import_module("cupy")
        devices = cupy.cuda.runtime.getDeviceCount()
    except (ImportError, RuntimeError) as error:  # no CUDA libraries; no driver, or one that is too old
        return f"CuPy finds no GPU: {str(error).splitlines()[0]}"
    if not devices:
        return "CuPy finds no GPU"
    try:
        _ = cupy.cuda.cublas, cupy.cuda.nvrtc.getVersion()  # loaded when they are asked for
    except (ImportError, RuntimeError, OSError) as error:
        return f"CuPy does not find a library of CUDA: {str(error).splitlines()[0]}"
    return None


@cache
def device() -> Device:
    """The device; kernels are compiled when they are first used, and kept on disk by CuPy."""
    return CudaDevice()


class Found(NamedTuple):
    """What a kernel found for each of R rows, in any order within a row."""

    start: Array
    """[R + 1] int64; what belongs to row i is at ``start[i]:start[i + 1]``."""
    rows: Array
    """[P] int32."""
    cols: Array
    """[P] int32."""
    values: Array | None
    """[P] float32."""


def starts(target: Device, counts: Array) -> Array:
    """Where each row begins and the last one ends, [R + 1] int64, by the counts [R]."""
    result = target.xp.zeros(len(counts) + 1, np.int64)
    result[1:] = target.xp.cumsum(counts, dtype=np.int64)
    return result


def find(target: Device, name: str, count: int, num_rows: int, *arguments: Any, valued: bool = False) -> Found:
    """Run a kernel that finds things for rows: once to count them, once to write them down.

    Args:
        target: where.
        name: the kernel, whose last parameters are those of ``Found`` in ``retrieval.cu``.
        count: items.
        num_rows: R.
        arguments: what comes before.
        valued: whether it finds values.
    """
    xp = target.xp
    counts = xp.zeros(num_rows, np.int32)
    target.launch(name, count, *arguments, counts, None, None, None, None)
    start = starts(target, counts)
    total = int(start[-1])
    rows, cols = xp.empty(total, np.int32), xp.empty(total, np.int32)
    values = xp.empty(total, np.float32) if valued else None
    counts[:] = 0
    target.launch(name, count, *arguments, counts, start, rows, cols, values)
    return Found(start, rows, cols, values)
