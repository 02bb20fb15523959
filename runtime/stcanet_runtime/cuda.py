"""Whether the CUDA kernels of this installation can run here, and why not."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from types import ModuleType

from stcanet_runtime.errors import BackendError

_MODULE = "stcanet_runtime._kernels_cuda"
_HINT = "install with STCANET_CUDA=1 where nvcc is, on a machine with an NVIDIA GPU"


@cache  # neither changes in a process, and every step of a training asks
def why_not() -> str | None:
    """None where the kernels are built and see a GPU, else the reason."""
    try:
        kernels = importlib.import_module(_MODULE)
        devices = kernels.device_count()
    except ImportError as error:
        missing = importlib.util.find_spec(_MODULE) is None
        return "the CUDA kernels were not built at installation" if missing else f"the CUDA kernels do not load: {error}"
    except RuntimeError as error:  # a driver that is there and does not answer
        return str(error)
    return None if devices else "no CUDA device is visible"


def require(what: str) -> ModuleType:
    """The module of the kernels.

    Raises:
        BackendError: They cannot run here; `what` is the name of what was asked for.
    """
    if (problem := why_not()) is not None:
        raise BackendError(what, problem, _HINT)
    return importlib.import_module(_MODULE)
