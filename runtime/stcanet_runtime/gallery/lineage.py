"""Whether a file is what a gallery has become, and whether the log beside it is its own.

SQLite replays whatever log has the right name, also that of a file which had the name before, and does not notice that another
file was copied over the one it has open. So every writer draws a number, and keeps it, with that of the writer before it, in
two tables: an enrolment changes the page of `sqlite_sequence` anyway, all other calls that of `settings`. Every commit in a log
then holds the numbers of its writer and of the one before, and among these is the last writer of the file that it belongs to.
"""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
from contextlib import suppress
from pathlib import Path

from stcanet_runtime.gallery.erasure import find_traces

_NAME = "lineage"
_TEXT = re.compile(r'"[0-9a-f]{32} ([0-9a-f]{32})"')
_LOG_HEADER, _FRAME_HEADER = 32, 24  # bytes; https://sqlite.org/fileformat2.html#the_write_ahead_log


def new_writer() -> str:
    """A number that no other writer has."""
    return secrets.token_hex(16)


def sign(connection: sqlite3.Connection, writer: str) -> None:
    """Make this writer the last one, within its transaction."""
    known = _TEXT.fullmatch(read(connection) or "")
    last = known[1] if known else new_writer()
    if last == writer:
        return
    text = f'"{last} {writer}"'
    connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (_NAME, text))
    connection.execute("DELETE FROM sqlite_sequence WHERE name GLOB ?", (f"{_NAME}*",))
    connection.execute("INSERT INTO sqlite_sequence VALUES (?, 0)", (f"{_NAME} {text}",))


def read(connection: sqlite3.Connection) -> str | None:
    """The numbers of the last two writers; None in a file that knows of none."""
    row = connection.execute("SELECT value FROM settings WHERE name = ?", (_NAME,)).fetchone()
    return None if row is None else str(row[0])


def is_log_of(log: Path, lineage: str | None) -> bool:
    """Whether a log goes on from a file of this lineage, or says nothing; True where the file knows of none."""
    last = _TEXT.fullmatch(lineage or "")
    # In this order, and again: another process may write, or empty the log, meanwhile.
    return last is None or not _has_commit(log) or bool(find_traces([log], [last[1].encode()])) or not _has_commit(log)


def _has_commit(log: Path) -> bool:
    """Whether SQLite would replay any of it: a frame that ends a commit and is not left from before the log began anew."""
    # SQLite has no locks on a log that this could drop. Where it cannot be read, SQLite says so.
    with suppress(OSError), log.open("rb") as file:
        header = file.read(_LOG_HEADER)
        page = int.from_bytes(header[8:12], "big")
        while len(frame := file.read(_FRAME_HEADER)) == _FRAME_HEADER and frame[8:16] == header[16:24]:
            if any(frame[4:8]):
                return True
            file.seek(page, os.SEEK_CUR)
    return False
