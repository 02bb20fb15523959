"""JSON lines at the end of a file that others may move away, or of stdout."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

Write = Callable[[dict[str, Any]], None]


@contextmanager
def appending(path: Path | None) -> Iterator[Write]:
    """What a `Watch` writes to: whole lines at the end of a file, or of stdout.

    A file that was renamed or removed, as log rotation does, is left for a new one of that name.
    """
    with closing(_LineFile(path)) as file:
        yield file.write


class _LineFile:
    def __init__(self, path: Path | None) -> None:
        self._path = path and path.absolute()
        self._file = self._open()

    def close(self) -> None:
        self._file.close()

    def write(self, line: dict[str, Any]) -> None:
        if not self._is_there():
            self._file, before = self._open(), self._file
            before.close()
        append_line(self._file, line)

    def _open(self) -> io.FileIO:
        if self._path is None:
            return io.FileIO("stdout", "a", opener=lambda *_: os.dup(sys.stdout.fileno()))
        return self._path.open("ab", buffering=0)

    def _is_there(self) -> bool:
        try:
            return self._path is None or os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False


def append_line(file: io.FileIO, line: dict[str, Any]) -> None:
    """Write a line at the end of a file that was opened without a buffer.

    What a full disk took of it is cut off again: the lines after it would continue it.
    """
    end, left = os.fstat(file.fileno()).st_size, json.dumps(line).encode() + b"\n"
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        with suppress(OSError):  # a pipe has no end to cut off
            file.truncate(end)
            file.seek(end)  # a shell's > does not append
        error.filename = str(file.name)
        raise
