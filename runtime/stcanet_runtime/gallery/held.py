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
from io import FileIO
from pathlib import Path

Inode = tuple[int, int]
"""Device and number of a file."""
_Key = tuple[int, int, int]  # and the process first: a child that is forked has the files of its parent, with places in common

_lock = threading.Lock()
_galleries: Counter[_Key] = Counter()
_files: defaultdict[_Key, list[FileIO]] = defaultdict(list)


def inode(facts: os.stat_result) -> Inode:
    """Which file that is."""
    return facts.st_dev, facts.st_ino


def hold(file: Inode) -> None:
    """Say that a gallery opens it."""
    with _lock:
        _galleries[_key(file)] += 1


def let_go(file: Inode) -> None:
    """Say that a gallery has closed it."""
    key = _key(file)
    with _lock:
        _galleries[key] -= 1
        if not _galleries[key]:
            del _galleries[key]
            for opened in _files.pop(key, []):
                opened.close()


@contextmanager
def reading(path: Path) -> Iterator[FileIO]:
    """A file from its start, as it is now: without a buffer, which would be kept with it."""
    with _lock:
        kept = _files.get(_key(inode(path.stat())))
        file = kept.pop() if kept else path.open("rb", buffering=0)
    try:
        file.seek(0)
        yield file
    finally:
        key = _key(inode(os.fstat(file.fileno())))
        with _lock:
            if _galleries[key]:
                _files[key].append(file)
            else:
                file.close()


def _key(file: Inode) -> _Key:
    return os.getpid(), *file
