"""Whether a file, the log beside it and what an open gallery knows belong together.

SQLite replays whatever log has the right name, also that of a file which had the name before, and does not notice that another
file was copied over the one it has open. So every commit draws a number, and keeps it with that of the commit before in
`sqlite_sequence`, whose page an enrolment changes anyway: all commits in a log hold that page. The number in the file itself is
that before the first commit in its log or, where a part of the log is in the file already, that of a commit in it.

The page is read without SQLite, to which a file whose log is written into it in part (page 1 first, which says how many there
are) is damaged without that log. The number stands at both ends of the text: one that was written in part is none.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path

from stcanet_runtime.gallery import held

_NAME = "lineage"
_TEXT = re.compile(r"([0-9a-f]{32}) ([0-9a-f]{32}) \1")
_STORED = re.compile(_NAME.encode() + _TEXT.pattern.encode())  # SQLite keeps the columns of a row one after the other
_PAGE = 5  # of `sqlite_sequence`, by the order of the schema; VACUUM leaves it there. Where it is not, nothing is known.
# https://sqlite.org/fileformat2.html
_FILE_HEADER, _LOG_HEADER, _FRAME_HEADER, _LARGEST_PAGE = 100, 32, 24, 65536  # bytes


def sign(connection: sqlite3.Connection) -> None:
    """Give a commit its number, within its transaction."""
    number, before = secrets.token_hex(16), read(connection) or secrets.token_hex(16)
    values = (f"{number} {before} {number}", _NAME)
    if not connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", values).rowcount:
        connection.execute("INSERT INTO sqlite_sequence (seq, name) VALUES (?, ?)", values)


def read(connection: sqlite3.Connection) -> str | None:
    """The number of the last commit, by file and log; None where there is none."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (_NAME,)).fetchone()
    known = row and _TEXT.fullmatch(str(row[0]))
    return known[1] if known else None


def in_file(path: Path) -> str | None:
    """The number in a file without its log; None where there is none, or it is being written."""
    with suppress(OSError), held.reading(path) as file:
        size = int.from_bytes(file.read(_FILE_HEADER)[16:18], "big")
        size = _LARGEST_PAGE if size == 1 else size
        found = set(_STORED.findall(_at(file, (_PAGE - 1) * size, size)))
        return found.pop()[0].decode() if len(found) == 1 else None
    return None


def in_log(log: Path) -> set[str]:
    """The numbers of commits in a log, and of those before them; none where it cannot be read, as SQLite will say."""
    # SQLite has no locks on a log that closing it could drop.
    with suppress(OSError), log.open("rb", buffering=0) as file:
        return {number.decode() for page in _pages(file) for pair in _STORED.findall(page) for number in pair}
    return set()


def _pages(file: FileIO) -> Iterator[bytes]:
    """The states of the page in a log, without those left from before it began anew: their salt is another."""
    header, place = _at(file, 0, _LOG_HEADER), _LOG_HEADER
    size = min(int.from_bytes(header[8:12], "big"), _LARGEST_PAGE)
    while len(frame := _at(file, place, _FRAME_HEADER)) == _FRAME_HEADER and frame[8:16] == header[16:24]:
        if int.from_bytes(frame[:4], "big") == _PAGE:
            yield _at(file, place + _FRAME_HEADER, size)
        place += _FRAME_HEADER + size


def _at(file: FileIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)
