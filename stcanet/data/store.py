"""Frames decoded once: in memory, or in a file that later runs map into theirs. No torch here.

From both, a batch is one copy of memory. Measured on two cores, 64 random crops of 256×128 take 0.4 to 0.6 ms either way
(decoding them takes 55 ms), so memory is for what fits, and the file for what does not and for starting at once the next time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from stcanet.config import Cache
from stcanet.data.frames import FrameFiles, Frames
from stcanet.data.memory import available_memory
from stcanet_runtime.arrays import UInt8Array
from stcanet_runtime.errors import DataError, OptionError, quote_choices
from stcanet_runtime.files import atomic_path, lock
from stcanet_runtime.progress import Progress

FORMAT = "1"
"""Part of the key of a cache file; another number when what is in it changes."""
LOCK = ".frames.lock"
"""In the folder of the cache files, held by the process that writes one."""
DISK_RESERVE = 1 << 30
"""Bytes that a cache file leaves free on its disk."""


class StoredFrames:
    """Decoded frames, in memory or mapped into it."""

    def __init__(self, array: UInt8Array, where: str) -> None:
        self._array, self.where = array, where

    def take(self, rows: NDArray[np.int64]) -> UInt8Array:
        """See :meth:`~stcanet.data.frames.Frames.take`."""
        taken: UInt8Array = np.asarray(self._array[rows])
        return taken


def open_frames(
    files: FrameFiles, cache: Cache = "auto", folder: Path | None = None, progress: Progress | None = None
) -> Frames:
    """Decode all frames and keep them, or say that they come from their files every time.

    'auto' keeps them in memory where they take half of what is free or less, or else in a file where a folder is given
    and the file is in it already or its disk has the room, or else not at all.

    Args:
        files: The frames.
        cache: 'auto', 'memory', 'file' or 'none'.
        folder: Of the cache file. The file's name depends on names, sizes and times of all images and masks, so that it is
            used again by the next run on the same data, and never on other data.
        progress: Called while they are read.

    Raises:
        OptionError: 'file' without a folder.
        DataError: The disk has no room for it; or a part map cannot be read.
        ImageError: A frame cannot be read.
    """
    if cache not in get_args(Cache):
        raise OptionError("cache", cache, quote_choices(get_args(Cache)))
    if cache == "file" and folder is None:
        raise OptionError("cache", cache, "given together with a cache folder")
    if cache == "memory" or (cache == "auto" and files.nbytes <= _share_of_memory()):
        return _in_memory(files, progress)
    return _in_file(files, folder, progress, optional=cache == "auto") if folder and cache != "none" else files


def _in_memory(files: FrameFiles, progress: Progress | None) -> Frames:
    array = np.empty(files.shape, np.uint8)
    files.read_all(array, progress)
    return StoredFrames(array, f"memory ({files.nbytes / 2**20:,.0f} MiB)")


def _in_file(files: FrameFiles, folder: Path, progress: Progress | None, optional: bool) -> Frames:
    path = folder / f"frames-{_key(files)}.npy"
    if not path.exists():
        # A lock, and no barrier: it also keeps apart runs that know nothing of each other, and decoding may take longer than
        # the processes of a run wait for each other. Where there are no locks each process writes, and the last one stays.
        with lock(folder / LOCK) as alone:
            if alone:
                for leftover in folder.glob(".frames-*.tmp.npy"):  # of writers that were killed: there is none but this one
                    leftover.unlink()
            if not path.exists():  # another process may have written it meanwhile, into what room there was
                if optional and not _has_room(folder, files.nbytes):
                    return files
                _write(files, path, progress)
    return StoredFrames(_map(path, files.shape), f"{path} ({files.nbytes / 2**20:,.0f} MiB)")


def _write(files: FrameFiles, path: Path, progress: Progress | None) -> None:
    if not _has_room(path.parent, files.nbytes):
        free = shutil.disk_usage(_existing(path.parent)).free
        raise DataError(
            f"{path.parent} has {free / 2**30:.1f} GiB free, and the decoded images need {files.nbytes / 2**30:.1f} GiB "
            f"besides a reserve of {DISK_RESERVE / 2**30:.0f}; give another cache folder, or cache = 'none'"
        )
    with atomic_path(path) as temporary:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=files.shape)
        _allocate(temporary)
        files.read_all(array, progress)
        array.flush()


def _allocate(path: Path) -> None:
    # A page of a sparse file that finds no room on the disk kills the process (SIGBUS); this raises OSError instead.
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _map(path: Path, shape: tuple[int, ...]) -> UInt8Array:
    try:
        array: UInt8Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} is not a cache of decoded images ({error}); delete it, and it is made again") from error
    if array.dtype != np.uint8 or array.shape != shape:
        raise DataError(
            f"{path} holds {array.dtype} {list(array.shape)} instead of uint8 {list(shape)}; delete it, and it is made again"
        )
    return array


def _key(files: FrameFiles) -> str:
    """Changes with the size of the frames, with what each file is called, how long it is and when it was written."""
    digest = hashlib.sha256(f"{FORMAT} {files.shape}".encode())
    for path in files.paths:
        digest.update(_stamp(path))
        if files.masks:
            for mask in files.masks.files(path):
                digest.update(_stamp(mask))
    return digest.hexdigest()[:20]


def _stamp(path: Path) -> bytes:
    status = path.stat()
    return f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode()


def _share_of_memory() -> int:
    # The processes of one machine each hold their own copy.
    return available_memory() // 2 // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _has_room(folder: Path, needed: int) -> bool:
    return shutil.disk_usage(_existing(folder)).free >= needed + DISK_RESERVE


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
