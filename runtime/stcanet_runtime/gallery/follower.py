"""A mirror in memory that follows what any process commits to the file."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from stcanet_runtime.embeddings import check_embeddings
from stcanet_runtime.errors import GalleryError, ShapeError
from stcanet_runtime.gallery import database
from stcanet_runtime.gallery.entry import Space
from stcanet_runtime.gallery.mirror import Mirror
from stcanet_runtime.gallery.store import Embeddings

_BATCH = 512  # rows that travel between file and memory at a time


class Follower:
    """Reads what is new, and all ids again where entries were deleted or renamed."""

    def __init__(self, path: Path, connection: sqlite3.Connection, space: Space) -> None:
        self.revision = 0
        self._path, self._connection, self._space = path, connection, space
        self._start_anew()

    def _start_anew(self) -> None:
        self.mirror = Mirror(self._space.dim, self._space.dtype)
        self._version, self._edits = -1, 0

    def own_commit(self) -> None:
        """Look again: SQLite's data_version tells of what others did only."""
        self._version = -1

    def refresh(self) -> None:
        """Make the mirror what the file is now; within a transaction, what it was when that began."""
        version = self._one("PRAGMA data_version")
        if version == self._version:
            return
        within = self._connection.in_transaction
        with nullcontext() if within else database.transaction(self._connection, "DEFERRED"):
            edits, last = self._one("SELECT value FROM settings WHERE name = 'edits'"), self.mirror.last_id
            try:
                if edits != self._edits and len(self.mirror):
                    self.mirror.keep(dict(self._connection.execute("SELECT id, identity FROM entries")))
                self._load_new()
            except BaseException:  # Ctrl-C, say: some columns may be longer than others
                self.revision += 1
                self._start_anew()
                raise
        if edits != self._edits or self.mirror.last_id != last:  # else a setting, or the log was emptied
            self.revision += 1  # first: what was made of the old entries must not outlive an interrupt
        self._version, self._edits = version, edits

    def _load_new(self) -> None:
        last = self.mirror.last_id
        self.mirror.reserve(self._one("SELECT count(*) FROM entries WHERE id > ?", last))
        entries = self._connection.execute("SELECT id, identity, camera, time FROM entries WHERE id > ? ORDER BY id", (last,))
        embeddings = self._connection.execute("SELECT id, row FROM embeddings WHERE id > ? ORDER BY id", (last,))
        while light := entries.fetchmany(_BATCH):
            rows = embeddings.fetchmany(_BATCH)
            if not all(_fits(*pair, self._space.row_bytes) for pair in itertools.zip_longest(light, rows)):
                raise GalleryError(self._path, "it is damaged: entries and embeddings do not belong together", "restore a copy")
            self.mirror.append(light, self._decode(rows))

    def _decode(self, rows: list[tuple[int, bytes]]) -> Embeddings:
        array = np.frombuffer(b"".join(row[1] for row in rows), self._space.dtype).reshape(len(rows), self._space.dim)
        try:
            check_embeddings(array, "stored embeddings")
        except ShapeError as error:
            raise GalleryError(self._path, f"it is damaged: {error}", "restore a copy") from None
        return array

    def _one(self, query: str, *values: object) -> Any:
        row = self._connection.execute(query, values).fetchone()
        if row is None:
            raise GalleryError(self._path, "it is damaged: a part of it is missing", "restore a copy")
        return row[0]


def _fits(entry: tuple[Any, ...] | None, row: tuple[Any, ...] | None, row_bytes: int) -> bool:
    """Whether an entry (id, identity, camera, time) and a row (id, bytes) are of those types: SQLite keeps anything."""
    return (
        entry is not None
        and row is not None
        and entry[0] == row[0]
        and [type(value) for value in (entry[1], entry[3], row[1])] == [str, float, bytes]
        and isinstance(entry[2], str | None)
        and len(row[1]) == row_bytes
    )
