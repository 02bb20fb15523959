"""Files of open galleries, read beside SQLite.

When a process closes a file, POSIX drops all its locks on that file, also those that SQLite took through another descriptor
(https://sqlite.org/howtocorrupt.html, 2.2): the next process would take itself for the only one and remove the log, and what
this one enrols would be lost. So such a file stays open until no gallery of this process has it open.
"""

from __future__ import annotations

import os
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

Inode = tuple[int, int]
"""Device and number of a file."""

_lock = threading.RLock()
_galleries: Counter[Inode] = Counter()
_files: defaultdict[Inode, list[BinaryIO]] = defaultdict(list)


def inode(facts: os.stat_result) -> Inode:
    """Which file that is."""
    return facts.st_dev, facts.st_ino


def hold(file: Inode) -> None:
    """Say that a gallery opens it."""
    with _lock:
        _galleries[file] += 1


def let_go(file: Inode) -> None:
    """Say that a gallery has closed it."""
    with _lock:
        _galleries[file] -= 1
        if not _galleries[file]:
            del _galleries[file]
            for opened in _files.pop(file, []):
                opened.close()


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """A file from its start; one thread at a time, since an open one is used again."""
    with _lock:
        known = _files.get(inode(path.stat()))
        file = known[0] if known else path.open("rb")
        file.seek(0)
        try:
            yield file
        finally:
            which = inode(os.fstat(file.fileno()))
            if not _galleries[which]:
                file.close()
            elif file not in _files[which]:
                _files[which].append(file)
