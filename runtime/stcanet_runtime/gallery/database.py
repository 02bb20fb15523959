"""The SQLite file of a gallery: its schema, how it is opened, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from stcanet_runtime.errors import GalleryError
from stcanet_runtime.files import atomic_path, check_writable
from stcanet_runtime.gallery import held, lineage

APPLICATION_ID = 0x53544347
"""``STCG`` in the header of the file."""
SCHEMA_VERSION = 1
"""A reader refuses what is newer than itself."""

# Embeddings are blobs in a table of their own: the columns that filters read stay close together. A memory-mapped file beside
# the database opens at once and is shared by processes; measured at 20,000 × 2,048 it needs a second fsync (0.4 instead of
# 0.3 ms to enrol one), where blobs are read once (open and first search of 943 MB, 100,000 × 2,048: 3.5 s, benchmarks/results/
# gallery.json), and bring one file, one transaction and SQLite's own overwriting of what is deleted. Pages are 64 KiB, since
# smaller ones leave up to half of their space empty at 8 KiB a row.
_PAGE_BYTES = 65536
_SCHEMA = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE entries (id INTEGER PRIMARY KEY AUTOINCREMENT, identity TEXT NOT NULL, camera TEXT, time REAL NOT NULL,
 track TEXT, metadata TEXT NOT NULL);
CREATE INDEX entries_by_identity ON entries (identity);
CREATE INDEX entries_by_time ON entries (time);
CREATE TABLE embeddings (id INTEGER PRIMARY KEY, row BLOB NOT NULL);
"""
_LAST_WAIT = 0.25  # seconds for readers when a writer closes; where they read longer, the next one empties the log
_PAUSE = 0.01
_DAMAGED = ""  # for the number of a commit, where none can be read
_CREATE_HINT = "take another path, or make one with `stcanet gallery create`"


def sidecars(path: Path) -> list[Path]:
    """The file itself and what SQLite keeps beside it: write-ahead log and its index."""
    return [path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))]


def create(path: Path, settings: Mapping[str, str]) -> None:
    """Write a gallery without entries, which is whole before it has its name.

    Args:
        path: Where.
        settings: JSON texts by name.

    Raises:
        GalleryError: There is something already.
        OSError: Nothing can be written there.
    """
    for there in sidecars(path):
        if there.exists():
            raise _taken(path, there)
    check_writable(path)  # it says why not, and SQLite does not
    try:
        with atomic_path(path, new=True) as temporary, closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.executescript(_SCHEMA)
            connection.executemany("INSERT INTO settings VALUES (?, ?)", settings.items())
            lineage.sign(connection)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("PRAGMA journal_mode = WAL")
    except FileExistsError:  # another process was faster
        raise _taken(path, path) from None


def _taken(path: Path, there: Path) -> GalleryError:
    return GalleryError(path, f"{there.name} exists already", "open it, or remove it first")


class Opened:
    """A gallery that is open, and which file that was."""

    def __init__(self, path: Path, read_only: bool, timeout: float) -> None:
        """Open it.

        Args:
            path: The file.
            read_only: Whether writing shall be impossible.
            timeout: Seconds to wait for another process that is writing.

        Raises:
            GalleryError: There is none, or it is not a gallery, of a newer version, or damaged; or the log beside it is that of
                another file.
        """
        self._path, self._read_only, self._immutable, self._process = path, read_only, False, os.getpid()
        self._version: object = None
        self._lineage: str | None = None
        _check_is_file(path)
        self._named = path.absolute()  # the current folder may change
        self.place = path.resolve()
        """The file itself, beside which SQLite keeps its log: links may lead there."""
        self._seen, self._inode = self._look(), held.inode(self.place.stat())
        with ExitStack() as undo, explained(path):
            held.hold(self._inode)
            undo.callback(held.let_go, self._inode)
            _check_header(path, self.place)
            self._check_log(timeout)
            self.connection = self._open(timeout)
            undo.callback(self.connection.close)
            if not read_only:
                _check_one_name(path, self.place)
            self._follow()
            undo.pop_all()

    def _open(self, timeout: float) -> sqlite3.Connection:
        try:
            return self._connect(f"mode={'ro' if self._read_only else 'rw'}", timeout)
        except sqlite3.OperationalError as error:
            if not self._read_only or _log_size(self.place) or not (_is_full(error) or _is_unwritable(self.place)):
                raise
        self._immutable = True
        self._seen = self._look()
        return self._connect("mode=ro&immutable=1", timeout)

    def close(self) -> None:
        """Close it; a writer empties the log, which SQLite leaves as it is while others have the file open.

        Else a copy of the file would lack what is in the log, and a file that takes its name would get it.
        """
        with ExitStack() as last:
            last.callback(held.let_go, self._inode)
            try:
                self.check()
            except (sqlite3.Error, GalleryError):
                with suppress(sqlite3.Error):
                    self._keep_log(last)
            else:
                with suppress(sqlite3.Error):  # somebody reads an older state, say: all is safe in the log
                    if not self._read_only and _log_size(self.place):
                        empty_log(self.connection, _LAST_WAIT)
            finally:
                self.connection.close()

    def _keep_log(self, last: ExitStack) -> None:
        """Let SQLite not write the log into a file that was copied over, as it does when the last connection closes.

        It does not while another has the file open, and with one that only reads it cannot.
        """
        if _log_size(self.place) and self._look()[:2] == self._inode:  # else SQLite sees by itself that it is another one
            reader = last.enter_context(closing(sqlite3.connect(_uri(self.place, "mode=ro"), uri=True)))
            reader.execute("PRAGMA user_version")  # now it is open, also where that is refused, as damaged

    @property
    def is_ours(self) -> bool:
        """Whether this process opened it. SQLite must not be used by a child that was forked since: their locks are one."""
        return os.getpid() == self._process

    def check_process(self) -> None:
        """GalleryError in a child that was forked since it was opened."""
        if not self.is_ours:
            raise GalleryError(self._path, "it was opened before this process was forked", "open it again in each process")

    def check(self) -> None:
        """GalleryError unless the file is the one that was opened: SQLite would go on with one that has no name any more.

        Another one that was copied over it shows by size or time, which change with every checkpoint, too: then its lineage is
        looked at.
        """
        if (now := self._look()) == self._seen:
            return
        if self._immutable or now[:2] != self._inode:
            raise self._changed()
        if not self.connection.in_transaction:  # then we know a lineage that others do not see yet
            if not self._is_known(self._follow):
                raise self._changed()
            self._seen = now

    def _changed(self) -> GalleryError:
        return GalleryError(self._path, "it is not the file any more that was opened", "open it again")

    def sign(self) -> None:
        """Give a commit its number, within its transaction; see `lineage`."""
        lineage.sign(self.connection)
        self._version = None  # which tells of the commits of others only

    def _is_known(self, known: Callable[[], str | None]) -> bool:
        """Whether file and log belong together and are what is known, or nothing speaks against it.

        While another number is in the file than is known, its log cannot begin anew. So if both stay what they are, the log
        between the two looks was theirs.

        Args:
            known: The number of the last commit, by file and log.
        """
        while None not in (seen := (lineage.in_file(self.place), known())):
            if seen[0] == seen[1] or {*seen} <= {_DAMAGED, *lineage.in_log(sidecars(self.place)[1])}:
                return True
            if (lineage.in_file(self.place), known()) == seen:  # else others wrote between the looks
                return False
        return True

    def _check_log(self, timeout: float) -> None:
        """GalleryError where the log is that of another file, into which SQLite would write it."""
        if _log_size(self.place) and not self._is_known(lambda: self._replayed(timeout)):
            log = sidecars(self.place)[1].name
            hint = "remove the log, or put back the file that it belongs to"
            raise GalleryError(self._path, f"the log beside it, {log}, is that of another file", hint)

    def _replayed(self, timeout: float) -> str | None:
        """The number of the last commit by what SQLite makes of file and log; `_DAMAGED` where that is nothing whole."""
        try:
            with closing(_connect(self.place, "mode=ro", timeout)) as connection:
                _check_version(self._path, connection)
                _check_schema(self._path, connection)
                return lineage.read(connection)
        except sqlite3.DatabaseError as error:
            if _code(error) != sqlite3.SQLITE_CORRUPT:
                raise
        return _DAMAGED

    def _follow(self) -> str | None:
        version = self.connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._version, self._lineage = version, lineage.read(self.connection)
        return self._lineage

    def _look(self) -> tuple[int, ...]:
        try:
            named, facts = self._named.stat(), self.place.stat()
        except FileNotFoundError:
            return ()
        if held.inode(named) != held.inode(facts):  # a link leads elsewhere now
            return ()
        state = (*held.inode(facts), facts.st_mtime_ns, facts.st_size)
        # An immutable one has no log; by a mount that is not for reading only, somebody may make one.
        return (*state, _log_size(self.place)) if self._immutable else state

    def _connect(self, how: str, timeout: float) -> sqlite3.Connection:
        try:
            connection = _connect(self.place, how, timeout)
        except sqlite3.DatabaseError as error:
            if _code(error) != sqlite3.SQLITE_CORRUPT:
                raise
            # Without the index of the log, which processes share, it can be read: it may be that of a file of another size.
            reason = f"it is damaged, or a program still has open what had the name {self.place.name} before"
            raise GalleryError(self._path, reason, "end such programs, or restore a copy") from None
        try:
            _check_version(self._path, connection)
            _check_schema(self._path, connection)
        except BaseException:
            connection.close()
            raise
        return connection


def _connect(place: Path, how: str, timeout: float = 10.0) -> sqlite3.Connection:
    connection = sqlite3.connect(_uri(place, how), uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)
    try:
        # Nothing in an untrusted file may run: no function from its schema, and no schema but ours (see below).
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA synchronous = FULL")  # an entry that was acknowledged survives a power cut, too
    except BaseException:
        connection.close()
        raise
    return connection


def _uri(place: Path, how: str) -> str:
    return f"file:{quote(str(place))}?{how}"


def _is_unwritable(path: Path) -> bool:
    """Whether nothing can be written, as on a mount for reading only: SQLite wants to keep files beside a gallery."""
    try:
        check_writable(path)
    except OSError:
        return True
    return False


def _code(error: sqlite3.Error) -> int:
    """SQLite's number of an error; 0 where it is of the Python module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_full(error: sqlite3.OperationalError) -> bool:
    """Whether there is no room on the disk for the index of the log; a process that wrote would have made it."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE


def _log_size(path: Path) -> int:
    try:
        return sidecars(path)[1].stat().st_size
    except FileNotFoundError:
        return 0


def _check_one_name(path: Path, place: Path) -> None:
    """SQLite keeps a log beside each name of a file, and reads one: what others write by a second name would be lost."""
    end = time.monotonic() + _LAST_WAIT
    while place.stat().st_nlink > 1:
        if time.monotonic() >= end:  # for a moment one that is made has two
            hint = "close what has it open, and remove its other name"
            raise GalleryError(path, "it has two names, that is a hard link, by each of which it could be written", hint)
        time.sleep(_PAUSE)


def _check_is_file(path: Path) -> None:
    if not path.is_file():
        raise GalleryError(path, "it is no file" if path.exists() else "no such file", _CREATE_HINT)


def _check_header(path: Path, place: Path) -> None:
    """GalleryError unless a file is a gallery, whatever its log; SQLite would write the log of any file into it."""
    try:
        with held.reading(place) as file:
            header = file.read(72)
    except OSError as error:
        raise GalleryError(path, f"it cannot be read: {error.strerror}") from None
    if header[:16] != b"SQLite format 3\x00" or int.from_bytes(header[68:], "big") != APPLICATION_ID:
        raise GalleryError(path, "this is not a gallery", _CREATE_HINT)


def _check_version(path: Path, connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()  # that of the header may be older than the log
    if version > SCHEMA_VERSION:
        raise GalleryError(
            path, f"it was written by a newer version (schema {version}, this one reads {SCHEMA_VERSION})", "update stcanet"
        )


def _check_schema(path: Path, connection: sqlite3.Connection) -> None:
    """Triggers and views of a stranger's file would run with our statements, so nothing is accepted but what we made."""
    query = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(_SCHEMA)
        expected = model.execute(query).fetchall()
    if connection.execute(query).fetchall() != expected:
        raise GalleryError(path, "its tables are not those of a gallery", "it is damaged, or made by another program")


def empty_log(connection: sqlite3.Connection, timeout: float | None = None) -> bool:
    """Write the log into the file and cut it off; whether that could be done, since nobody reads an older state.

    Args:
        connection: Of a writer.
        timeout: Seconds to wait for readers, while other writers wait, too; None for those of the connection.
    """
    if timeout is not None:
        connection.execute(f"PRAGMA busy_timeout = {round(1000 * timeout)}")
    end = time.monotonic() + connection.execute("PRAGMA busy_timeout").fetchone()[0] / 1000
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() >= end:
            return False
        time.sleep(_PAUSE)  # SQLite waits for readers, but not for another process that empties the log
    return True


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn errors of SQLite into GalleryError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        code = _code(error)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise GalleryError(path, "another process is writing", "try again, or wait longer with timeout=") from None
        if code == sqlite3.SQLITE_READONLY:
            raise GalleryError(path, "it was opened for reading only, or the file may not be written") from None
        if _is_full(error):
            raise GalleryError(path, "the disk is full") from None
        if code == sqlite3.SQLITE_CANTOPEN:
            raise GalleryError(path, "it, or the log beside it, cannot be opened", "see who may write the folder") from None
        raise GalleryError(path, f"it cannot be used: {error}") from None
    except sqlite3.Error as error:
        if _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise GalleryError(path, f"it is damaged: {error}", "restore a copy") from None
        raise GalleryError(path, f"it cannot be used: {error}") from None


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """All or nothing: committed when the block ends, else as if it had never begun."""
    try:
        connection.execute(f"BEGIN {kind}")  # in here: it may wait long, and Ctrl-C come when it has begun
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite ends it by itself on some errors
            connection.execute("ROLLBACK")
        raise
