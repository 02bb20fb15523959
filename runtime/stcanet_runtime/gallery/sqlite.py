"""A gallery in one SQLite file, searched in memory."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends import get_backend
from stcanet_runtime.errors import GalleryError, StcanetError
from stcanet_runtime.files import parse_json
from stcanet_runtime.gallery import database, erasure
from stcanet_runtime.gallery.entry import Entry, Space, Where
from stcanet_runtime.gallery.follower import Follower
from stcanet_runtime.gallery.mirror import Mirror
from stcanet_runtime.gallery.store import Ids, Rows
from stcanet_runtime.retrieval import ranking

_UNFINISHED = "unfinished_erasure"  # and a token: each process clears what it has proved itself
_NOT_YET = "the entries are gone, their bytes are not yet"
# Shares of the gallery below which chosen rows are copied rather than the others hidden. For a few queries kernels pass over
# hidden rows: one query in half of 50,000 × 512 took 29 ms, and 67 with a copy; in a tenth 8 and 17, in a hundredth 5 and 0.6.
_GATHERED_SHARE, _GATHERED_SHARE_OF_FEW, _FEW_QUERIES = 0.5, 0.05, 24


class SqliteStore:
    """Entries in a file, and a copy of them in memory that follows the commits of all processes.

    One process writes at a time, others wait; readers never wait and see whole calls only. Threads take turns.
    """

    def __init__(self, path: str | Path, read_only: bool = False, timeout: float = 10.0) -> None:
        self.path = Path(path)
        self._opened = database.Opened(self.path, read_only, timeout)
        self._connection = self._opened.connection
        self._lock, self._closed = threading.RLock(), False
        try:
            self.space = self._read_space()
        except BaseException:
            self._opened.close()
            raise
        self._follower = Follower(self.path, self._connection, self.space)

    @classmethod
    def create(cls, path: str | Path, space: Space, timeout: float = 10.0) -> SqliteStore:
        """Make an empty gallery and open it for writing."""
        path = Path(path)
        with database.explained(path):
            database.create(path, {"space": json.dumps(asdict(space)), "edits": "0"})
        return cls(path, timeout=timeout)

    @property
    def revision(self) -> int:
        """Another number whenever the entries are others."""
        with self._reading():
            return self._follower.revision

    def _read_space(self) -> Space:
        try:
            return Space(**self.setting("space"))
        except (TypeError, StcanetError) as error:
            raise GalleryError(self.path, f"it does not say whose embeddings it holds: {error}", "restore a copy") from None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One thread at a time, of the process that opened the file."""
        self._opened.check_process()  # before the lock: another thread may have held it at the fork
        with self._lock:
            yield

    @contextmanager
    def _asking(self) -> Iterator[sqlite3.Connection]:
        """The connection, to the file that was opened."""
        with self._alone(), database.explained(self.path):
            if self._closed:
                raise GalleryError(self.path, "it is closed", "open it again")
            self._opened.check()
            yield self._connection

    @contextmanager
    def _reading(self) -> Iterator[Mirror]:
        """The mirror, up to date."""
        with self._asking():
            self._follower.refresh()
            yield self._follower.mirror

    @contextmanager
    def _writing(self, edit: bool) -> Iterator[sqlite3.Connection]:
        """A transaction; an `edit` changes entries that others may have read already."""
        with self._asking() as connection:
            try:
                with database.transaction(connection):
                    self._opened.sign()
                    yield connection
                    if edit:
                        self._connection.execute("UPDATE settings SET value = CAST(value AS INTEGER) + 1 WHERE name = 'edits'")
            finally:  # after an error, too: Ctrl-C may come when it is committed
                self._follower.own_commit()

    # ---- changing ----

    def add(self, entries: Sequence[Entry], embeddings: NDArray[np.float32]) -> list[int]:
        """Keep entries; see `Store`."""
        rows = np.ascontiguousarray(embeddings, self.space.dtype)
        ids = []
        with self._writing(edit=False) as connection:
            for entry, row in zip(entries, rows, strict=True):
                fields = (
                    entry.identity,
                    entry.camera,
                    entry.time,
                    entry.track,
                    json.dumps(dict(entry.metadata), allow_nan=False),
                )
                done = connection.execute(
                    "INSERT INTO entries (identity, camera, time, track, metadata) VALUES (?, ?, ?, ?, ?)", fields
                )
                ids.append(int(done.lastrowid or 0))
                connection.execute("INSERT INTO embeddings VALUES (?, ?)", (ids[-1], row.tobytes()))
        return ids

    def remove(self, where: Where) -> int:
        """Delete entries; see `Store`. SQLite overwrites them with zeros, and the log is emptied."""
        with self._alone():
            if not self._ids(where):
                return 0
            with self._writing(edit=True):
                ids = self._ids(where)  # again: from here on nobody adds one
                unfinished = self._erase(ids)
            self._empty_log(_NOT_YET)
            self.set_setting(unfinished, None)
        return len(ids)

    def _erase(self, ids: list[int]) -> str:
        """Delete entries; the name of the setting that says so until their bytes are known to be gone."""
        unfinished = f"{_UNFINISHED}:{secrets.token_hex(8)}"
        for table in ("entries", "embeddings"):
            self._connection.executemany(f"DELETE FROM {table} WHERE id = ?", ((i,) for i in ids))  # noqa: S608
        self._connection.execute("INSERT INTO settings VALUES (?, 'true')", (unfinished,))
        return unfinished

    @contextmanager
    def _temporary_in_memory(self) -> Iterator[None]:
        """No copy of names in the folder for temporary files, which may be small, or of another disk than the gallery."""
        self._connection.execute("PRAGMA temp_store = MEMORY")
        try:
            yield
        finally:
            self._connection.execute("PRAGMA temp_store = DEFAULT")  # VACUUM holds all of the file there

    def _write_entries_anew(self) -> None:
        """Fill the pages of names, paths and metadata anew, within a transaction: SQLite overwrites all of what they held.

        Where it moves an entry from page to page it leaves a copy, which a deletion does not meet, and a name may be too short
        to be looked for. It takes about a quarter of the time of all of `purge`.
        """
        for statement in (
            "CREATE TEMP TABLE kept AS SELECT * FROM entries",
            "DELETE FROM entries",
            "INSERT INTO entries SELECT * FROM kept",
            "DROP TABLE kept",
        ):
            self._connection.execute(statement)

    def finish(self) -> bool:
        """Complete a deletion that left bytes; see `Store`."""
        with self._alone():
            with self._asking():
                names = self._connection.execute("SELECT name FROM settings WHERE name GLOB ?", (f"{_UNFINISHED}*",)).fetchall()
                if names:
                    # Which bytes they were is not known any more, so the file is written anew, without any of them.
                    self._vacuum()
                    self._empty_log(f"of an earlier deletion {_NOT_YET}")
            for (name,) in names:
                self.set_setting(name, None)
        return bool(names)

    def purge(self, where: Where) -> int:
        """Delete entries and prove it; see `Store`. The file is read once to its end.

        Other threads wait until it is proved: what they write meanwhile could carry bytes from a part of the files that was not
        read yet to one that was.
        """
        with self._alone():
            if not self._ids(where):
                return 0
            with self._temporary_in_memory(), self._writing(edit=True):
                removed = self.rows(where)  # here, where nobody adds one
                unfinished = self._erase(removed.ids.tolist())
                self._write_entries_anew()
            self._empty_log(_NOT_YET)
            with self._reading() as mirror:
                self._prove_gone(erasure.needles(removed.embeddings, mirror.embeddings))
            self.set_setting(unfinished, None)
        return len(removed.ids)

    def _prove_gone(self, pieces: list[bytes]) -> None:
        files = database.sidecars(self._opened.place)[:2]  # the index of the log holds numbers of pages only
        if erasure.find_traces(files, pieces):  # of a file that was written without overwriting: write it anew
            self._vacuum()
            self._empty_log(_NOT_YET)
            if traces := erasure.find_traces(files, pieces):
                raise GalleryError(self.path, f"deleted, but {traces[0].name} still holds bytes of it", "do it again")
        self._opened.check()  # else it was another file that was read, or none

    def _vacuum(self) -> None:
        with self._writing(edit=False):  # for a number that no file has whose pages lie otherwise: VACUUM draws none
            pass
        self._connection.execute("VACUUM")

    def _empty_log(self, otherwise: str) -> None:
        with self._reading():  # what is gone is gone from memory, too
            emptied = database.empty_log(self._connection)
        if not emptied:
            hint = f"{otherwise}; close other readers and do it again"
            raise GalleryError(self.path, "another process reads, so that the log cannot be emptied", hint)

    def rename(self, ids: Sequence[int], identity: str) -> None:
        """Give entries another identity; see `Store`."""
        with self._writing(edit=True) as connection:
            for i in ids:
                if not connection.execute("UPDATE entries SET identity = ? WHERE id = ?", (identity, i)).rowcount:
                    raise GalleryError(self.path, f"it has no entry {i}", "take ids of `search` or `rows`")

    # ---- reading ----

    def _select(self, mirror: Mirror, where: Where) -> NDArray[np.int64] | None:
        return mirror.select(where, None if where.metadata is None else self._matching(where.metadata))

    def _matching(self, metadata: Any) -> Ids:
        """Ids of the entries that have all these values."""
        # SQLite has no booleans: true is 1, except for its type; and a list is its text.
        same = "key = ? AND value IS ? AND (type IN ('true', 'false')) = ? AND type NOT IN ('array', 'object')"
        test = f"EXISTS (SELECT 1 FROM json_each(metadata) WHERE {same})"  # noqa: S608
        query = "SELECT id FROM entries WHERE " + " AND ".join([test] * len(metadata) or ["1"])  # noqa: S608
        values = [part for key, value in metadata.items() for part in (key, value, isinstance(value, bool))]
        return np.fromiter((row[0] for row in self._connection.execute(query, values)), np.int64)

    def _ids(self, where: Where) -> list[int]:
        with self._reading() as mirror:
            chosen = self._select(mirror, where)
            ids: list[int] = (mirror.ids if chosen is None else mirror.ids[chosen]).tolist()
            return ids

    def nearest(
        self, queries: NDArray[np.float32], k: int, where: Where, cameras: Sequence[str | None] | None
    ) -> tuple[NDArray[np.float32], Ids]:
        """The nearest entries; see `Store`. Exact, ties by id."""
        with self._reading() as mirror:
            ids, rows, chosen = mirror.ids, mirror.embeddings, self._select(mirror, where)
            q_groups, g_groups = (None, None) if cameras is None else mirror.camera_groups(cameras)
            share = _GATHERED_SHARE_OF_FEW if len(queries) <= _FEW_QUERIES else _GATHERED_SHARE
            if chosen is not None and (cameras is not None or len(chosen) < share * len(ids)):
                ids, rows = ids[chosen], rows[chosen]
                g_groups = None if g_groups is None else g_groups[chosen]
            elif chosen is not None:
                q_groups, g_groups = np.zeros(len(queries), np.int64), np.zeros(len(ids), np.int64)
                g_groups[chosen] = 1
            found = ranking.search_checked(queries, rows, k, self.space.metric, q_groups, g_groups, get_backend())
            return found.distances, np.where(found.indices < 0, 0, np.append(ids, 0)[found.indices])

    def entries(self, ids: Sequence[int]) -> dict[int, Entry]:
        """Entries by id; see `Store`."""
        query = "SELECT identity, time, camera, track, metadata, id FROM entries WHERE id IN (SELECT value FROM json_each(?))"
        wanted = json.dumps(sorted({int(i) for i in ids}))  # one value: the length of a statement is limited, a gallery is not
        with self._asking() as connection:
            rows = connection.execute(query, (wanted,)).fetchall()
        return {row[5]: Entry(row[0], row[1], row[2], row[3], self._json(row[4], dict), row[5]) for row in rows}

    def rows(self, where: Where) -> Rows:
        """Copies of embeddings; see `Store`."""
        with self._reading() as mirror:
            return mirror.rows(self._select(mirror, where))

    def pick(self, ids: Ids) -> Rows:
        """Embeddings by id; see `Store`."""
        with self._reading() as mirror:
            return mirror.rows(np.flatnonzero(np.isin(mirror.ids, ids)))

    # ---- settings and facts ----

    def setting(self, name: str) -> Any:
        """A JSON value; see `Store`."""
        with self._asking() as connection:
            row = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else self._json(row[0])

    def set_setting(self, name: str, value: Any) -> None:
        """Keep a JSON value; see `Store`."""
        with self._writing(edit=False) as connection:
            if value is None:
                connection.execute("DELETE FROM settings WHERE name = ?", (name,))
            else:
                text = json.dumps(value, allow_nan=False)
                connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, text))

    def _json(self, text: Any, kind: type = object) -> Any:
        try:
            value = parse_json(text)
        except (TypeError, ValueError):
            value = None
        if not isinstance(value, kind) or value is None:
            raise GalleryError(self.path, "it is damaged: a value is not JSON", "restore a copy")
        return value

    def facts(self) -> dict[str, Any]:
        """Files, counts and the span of times; see `Store`."""
        with self._asking() as connection, database.transaction(connection, "DEFERRED"):
            counts = connection.execute("SELECT count(*), min(time), max(time) FROM entries").fetchone()
            identities = connection.execute("SELECT identity, count(*) FROM entries GROUP BY 1 ORDER BY 1").fetchall()
            cameras = connection.execute("SELECT DISTINCT camera FROM entries WHERE camera IS NOT NULL ORDER BY 1").fetchall()
        return {
            "path": str(self.path),
            "bytes": sum(file.stat().st_size for file in database.sidecars(self._opened.place) if file.exists()),
            **dict(zip(("entries", "first_time", "last_time"), counts, strict=True)),
            "identities": dict(identities),
            "cameras": [camera for (camera,) in cameras],
        }

    def check(self) -> None:
        """Read everything; see `Store`."""
        with self._asking() as connection:
            problem = connection.execute("PRAGMA integrity_check").fetchone()[0]
        if problem != "ok":
            raise GalleryError(self.path, f"it is damaged: {problem}", "restore a copy")
        fresh = SqliteStore(self._opened.place, read_only=True)
        try:
            fresh.rows(Where(identities=()))
        finally:
            fresh.close()

    def close(self) -> None:
        """Close the file; it may be closed twice, and in a child that was forked it is the parent's to close."""
        if self._opened.is_ours:
            with self._lock:
                if not self._closed:
                    self._closed = True
                    self._opened.close()
