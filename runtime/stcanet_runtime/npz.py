"""Arrays of a .npz file from anybody: sizes are looked at before anything is read, and nothing is unpickled."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

from numpy.lib import format as npy
from numpy.typing import NDArray

_PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # all that NumPy writes
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(path: Path, names: Collection[str], most: int | None = None) -> dict[str, NDArray[Any]]:
    """Those of these arrays that there are.

    Args:
        path: The file.
        names: The arrays that are wanted.
        most: Most bytes of an array.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no archive of arrays, damaged or encrypted; or an array holds objects, is larger than `most` or not
            as large as it says.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is a folder, a device or a pipe")  # a device might be read without end
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            return {name: _read(archive, entries[name], most) for name in names if name in entries}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, MemoryError) as error:
        raise ValueError(str(error) or "it needs more memory than there is") from error


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int | None) -> NDArray[Any]:
    if entry.flag_bits & 0x1 or entry.compress_type not in _PLAIN:
        raise ValueError(f"{entry.filename} is encrypted, or compressed in a way that NumPy does not write")
    if most is not None and entry.file_size > most:
        raise ValueError(f"{entry.filename} would have {entry.file_size:,} bytes; at most {most:,} are allowed")
    with archive.open(entry) as file:
        if entry.file_size != (said := _size(file)):  # NumPy makes room for what the header says
            raise ValueError(f"{entry.filename} has {entry.file_size:,} bytes, and says that it has {said:,}")
    with archive.open(entry) as file:
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)  # a pickle could run code
    return array


def _size(file: IO[bytes]) -> int:
    """Bytes of a .npy file by its header."""
    read_header = _HEADERS.get(npy.read_magic(file))
    if read_header is None:
        raise ValueError("the version of its arrays is not known")
    shape, _, kind = read_header(file)
    if kind.hasobject:
        raise ValueError("it holds Python objects")
    return file.tell() + math.prod(shape) * kind.itemsize
