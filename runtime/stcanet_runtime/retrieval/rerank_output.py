"""Where the re-ranked distances [Q, G] go: a new array, the caller's, or a file that is written block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.errors import OptionError, ShapeError
from stcanet_runtime.files import atomic_path


def as_place(out: NDArray[np.float32] | str | Path | None) -> NDArray[np.float32] | Path | None:
    """An array, or a path that must be that of a .npy."""
    if out is None or isinstance(out, np.ndarray):
        return out
    if not isinstance(out, str | Path) or Path(out).suffix != ".npy":
        raise OptionError("out", out, "an array, or the path of a .npy file")
    if "\0" in str(out):
        raise OptionError("out", str(out), "a path without a NUL character")
    return Path(out)


def check_array(out: NDArray[np.float32], shape: tuple[int, int]) -> None:
    """Raise ShapeError when the array cannot take a result of this shape."""
    if out.shape == shape and out.dtype == np.float32 and out.flags.c_contiguous and out.flags.writeable:
        return
    flaws = ["" if out.flags.c_contiguous else ", not contiguous", "" if out.flags.writeable else ", read-only"]
    raise ShapeError(
        f"out must be a writable C-contiguous float32 array {list(shape)}, got {out.dtype} {list(out.shape)}{''.join(flaws)}"
    )


def check_apart(out: NDArray[np.float32] | Path, **inputs: Any) -> None:
    """Refuse an `out` that is an input, by its name.

    Raises:
        ShapeError: the array shares memory with the input, which is read while `out` is filled.
        OptionError: the input is mapped from the file, which the result would replace.
    """
    for name, array in inputs.items():
        if isinstance(out, Path):
            if any(_is_file(out, file) for file in _mapped_files(array)):
                raise OptionError("out", str(out), f"another file than that of {name}, which it would replace")
        elif isinstance(array, np.ndarray) and np.shares_memory(out, array):
            raise ShapeError(f"out must not share memory with {name}, which is read while out is filled; give another array")


def _mapped_files(array: Any) -> Iterator[str | Path]:
    """The file that an array, or what it is a view of, is mapped from."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and array.filename is not None:
            yield array.filename
        array = array.base


def _is_file(path: Path, file: str | Path) -> bool:
    return path.exists() and Path(file).exists() and path.samefile(file)


def save_blocks(path: Path, shape: tuple[int, int], blocks: Iterable[NDArray[np.float32]]) -> Path:
    """Write blocks of rows [R, G] one after the other, without mapping the file; it appears when it is complete."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(block.data)
    return path
