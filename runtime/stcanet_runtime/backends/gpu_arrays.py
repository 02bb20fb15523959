"""Arrays of NumPy and of GPUs: where one lives, and the same values elsewhere."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from stcanet_runtime.backends import gpu_device

_DLPACK_CUDA = 2


def is_on_gpu(array: Any) -> bool:
    """Whether this is an array of a GPU: CuPy's, PyTorch's, or of whoever else follows one of the two protocols."""
    if hasattr(array, "__cuda_array_interface__"):
        return True
    return hasattr(array, "__dlpack_device__") and array.__dlpack_device__()[0] == _DLPACK_CUDA


def adopt(target: gpu_device.Device, array: Any) -> gpu_device.Array:
    """An array of a GPU as one of the device, which reads the same memory."""
    if isinstance(array, target.xp.ndarray):
        return array
    return target.xp.from_dlpack(array) if hasattr(array, "__dlpack__") else target.xp.asarray(array)


def to_host(array: Any) -> NDArray[Any]:
    """The array in NumPy, wherever it is."""
    return gpu_device.device().get(array) if is_on_gpu(array) else array


def put(target: gpu_device.Device, array: Any, dtype: Any) -> gpu_device.Array:
    """The array on the device, contiguous; without a copy where it is that already."""
    return target.xp.ascontiguousarray(target.xp.asarray(array), dtype)


def as_given(target: gpu_device.Device, given: Any, *arrays: gpu_device.Array) -> tuple[Any, ...]:
    """Arrays of the device as they are where what was given is one, else in NumPy."""
    return arrays if isinstance(given, target.xp.ndarray) else tuple(target.get(array) for array in arrays)
