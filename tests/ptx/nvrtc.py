"""CUDA to PTX by NVRTC, the compiler that CuPy calls; PyTorch brings it, too."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Sequence
from pathlib import Path


def libraries() -> list[Path]:
    """The files of NVRTC, its built-ins first; none where no package has brought it."""
    nvidia = importlib.util.find_spec("nvidia")
    folders = list(nvidia.submodule_search_locations or []) if nvidia else []
    found = [path for folder in folders for path in Path(folder).glob("*/lib/libnvrtc*.so.*") if ".alt." not in path.name]
    return sorted(found, key=lambda path: "builtins" not in path.name)


def compile_to_ptx(source: str, options: Sequence[str]) -> str:
    """The PTX; what the compiler says is in the error."""
    # NVRTC looks for its built-ins among what is loaded.
    *_, nvrtc = (ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL) for path in libraries())
    program, size = ctypes.c_void_p(), ctypes.c_size_t()

    def text(kind: str) -> str:
        getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(nvrtc, f"nvrtcGet{kind}")(program, buffer)
        return buffer.value.decode()

    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None) == 0
    given = [option.encode() for option in options]
    status = nvrtc.nvrtcCompileProgram(program, len(given), (ctypes.c_char_p * len(given))(*given))
    said = text("ProgramLog")
    assert status == 0, said
    assert not said.strip("\0\n "), said
    return text("PTX")
