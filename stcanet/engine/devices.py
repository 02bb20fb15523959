"""Which device a setting means, and what it is good at."""

from __future__ import annotations

import torch

from stcanet.config import check_device
from stcanet_runtime.errors import OptionError


def resolve_device(name: str) -> torch.device:
    """The device that a setting means; 'auto' takes a GPU if there is one.

    Raises:
        OptionError: It is no device, or it is not here. A GPU that was asked for never becomes the CPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_device(name)
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise OptionError("device", name, f"a CUDA device that torch sees here (there are {torch.cuda.device_count()})")
    return device


def has_bf16_units(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there.

    On CPUs that means AMX. With AVX-512 BF16 alone, convolutions were measured at half the speed of float32.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    probe = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return probe is not None and bool(probe())
