"""Files and folders that are complete or absent, never half written."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stcanet_runtime.errors import ConfigError, OptionError

if TYPE_CHECKING:
    from PIL import Image

_STEM = 40
"""Signs of a name in its temporary one: names have at most 255 bytes, and a sign up to four."""
_LOCK, _FRESH, _OLD, _FULL = "lock", "fresh", "old", "full"
"""In a temporary folder: what its process holds, what is written, what it replaces, what cannot be replaced."""
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp(\.[^.]+)?")


@contextmanager
def atomic_path(path: str | Path, new: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an exception.

    Readers see the old file or the whole new one, also after a power cut (the data reaches the disk before the name).
    Folders are created when they are missing; on an exception they and the temporary file are removed, and `path` is untouched.
    A link stays: the file to which it leads is replaced.

    Args:
        path: Where the file shall be.
        new: Whether it is an error that there is one by then.

    Yields:
        Path to write to: same folder (a rename does not cross file systems), same suffix (Pillow and NumPy look at it).

    Raises:
        OSError: It cannot be written, or something is there that is no file: /dev/null would be replaced like one.
        FileExistsError: There is a file, and it had to be `new`.
    """
    path = Path(path)
    place = _place(path)
    made = [folder for folder in place.parents if not folder.exists()]
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.stem[:_STEM]}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        with _said_of(path, temporary), _said_of(path, None):
            yield temporary
            _flush_to_disk(temporary)
            if new:
                _name_new(temporary, place)
            else:
                temporary.replace(place)
    finally:
        with suppress(OSError):  # where nothing can be written, what was raised already says it
            temporary.unlink()
        for folder in made:
            with suppress(OSError):  # there is something in it
                folder.rmdir()


def _name_new(temporary: Path, place: Path) -> None:
    """Give a file a name that nothing has; of several processes, one can."""
    try:
        os.link(temporary, place)
    except OSError:  # the name is taken, or the file system has no links: readers may then see it empty for a moment
        place.touch(exist_ok=False)
        temporary.replace(place)


def _place(path: Path) -> Path:
    """Where the file of this name is or shall be. OSError where there is a folder, a device or a pipe."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "not a file, but a device or a pipe", str(path))
    return Path(os.path.realpath(path)) if path.is_symlink() else path  # not resolve: it raises where links lead in a circle


@contextmanager
def _said_of(path: Path, temporary: Path | None) -> Iterator[None]:
    """An OSError about the temporary file, or what is in the temporary folder, gets the name that the user knows.

    None stands for an error about no file, such as that of a full disk.
    """
    try:
        yield
    except OSError as error:
        about = None if error.filename is None else Path(str(error.filename))
        inside = about is not None and temporary in about.parents and error.filename2 is None  # a rename says what is where
        if error.errno is not None and (about == temporary or inside):
            error.filename = str(path)
            del error.filename2  # set to None, it would be in the text: 'a.pt' -> None
        raise


@contextmanager
def temporary_folder(place: Path) -> Iterator[Path]:
    """A folder beside `place`, empty, that vanishes when the block ends.

    So does what was left there for the same `place` when its process was killed. A process may have one at a time.

    Raises:
        OSError: It cannot be written; the message names `place`.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    for left in place.parent.glob(f".{glob.escape(place.name)}.????????.partial/{_LOCK}"):
        with suppress(OSError), lock(left, wait=False) as alone:
            if alone:
                _remove(left.parent)
    staging = place.with_name(f".{place.name}.{secrets.token_hex(4)}.partial")
    try:
        with _said_of(place, staging):
            staging.mkdir(0o700)
            with lock(staging / _LOCK):
                (staging / _FRESH).mkdir()
                yield staging / _FRESH
    finally:
        _remove(staging)


def _remove(staging: Path) -> None:
    """Remove a temporary folder. One that holds what it was about to replace stays."""
    if not ((staging / _OLD).exists() and (staging / _FRESH).exists()):
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place when the block ends without an exception, and else vanishes.

    What was there before stays until then, and comes back after an error or Ctrl-C between the two renames.

    Args:
        folder: Where the new folder shall be. The one above it is created when it is missing.

    Yields:
        Folder to write to, empty; see :func:`temporary_folder`.

    Raises:
        OSError: What is at `folder` cannot give way, which is said at once. Or meanwhile somebody else made `folder`; what was
            there before is then kept beside it.
    """
    with temporary_folder(folder) as fresh:
        if folder.is_dir() and not folder.is_symlink():
            _check_gives_way(folder, fresh.with_name(_FULL))
        old = fresh.with_name(_OLD)
        try:
            yield fresh
            if folder.exists():
                folder.rename(old)
            fresh.rename(folder)
        finally:
            if old.exists() and fresh.exists():  # an error or Ctrl-C between the two
                old.rename(folder)


def _check_gives_way(folder: Path, full: Path) -> None:
    """Raise now, before long work, what renaming `folder` after it would.

    It is renamed to `full`, made here: a folder that is not empty, which fails, but last of all. It is in another folder, as
    the place is to which `folder` goes later: that needs the right to write in `folder`, where ``..`` changes.
    """
    if folder.resolve() in (here := Path.cwd(), *here.parents):
        raise OSError(errno.EBUSY, "the folder in which this program runs cannot be replaced; name one in it", str(folder))
    try:
        (full / _FULL).mkdir(parents=True)
        folder.rename(full)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise OSError(errno.EBUSY, "a mount point cannot be replaced; name a folder in it", str(folder)) from error
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise OSError(error.errno, error.strerror, str(folder)) from error


@contextmanager
def lock(path: str | Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file, in which there is nothing, and which stays. A holder that is killed holds it no longer.

    It is the process that holds it: its children do not, and it may take it again.

    Args:
        path: The file. The folder is created when it is missing.
        wait: Wait until no other process holds it.

    Yields:
        Whether it is held; false where there are no locks (Windows, some network file systems).

    Raises:
        BlockingIOError: Another process holds it, and `wait` is false.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            import fcntl

            # Not flock, which children keep: workers that outlive a killed process for seconds.
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except (ImportError, OSError) as error:
            if not wait and isinstance(error, (BlockingIOError, PermissionError)):
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path)) from None
            yield False
        else:
            yield True


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Read a TOML file; `what` it is stands in the message.

    Raises:
        ConfigError: It cannot be read or is not TOML.
    """
    try:
        return parse_toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot read the {what} {path}: {reason}") from error


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML from anybody: all that is wrong with it is a ValueError."""
    with _nested():
        return tomllib.loads(text)


def parse_json(text: str) -> Any:
    """Parse JSON from anybody: all that is wrong with it is a ValueError."""
    with _nested():
        return json.loads(text)


def read_json(path: str | Path) -> Any:
    """Read what anybody wrote.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not JSON.
    """
    return parse_json(Path(path).read_text(encoding="utf-8"))


@contextmanager
def _nested() -> Iterator[None]:
    """What brackets without end raise becomes a ValueError, as it is of all else that is wrong with a text."""
    try:
        yield
    except RecursionError:
        raise ValueError("brackets are nested too deeply") from None


def check_writable(path: str | Path) -> None:
    """Raise now, before long work, what writing to `path` after it would: OSError. Nothing is made, no folder either."""
    path = Path(path)
    folder = next((folder for folder in _place(path).parents if folder.exists()), Path())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        error.filename = str(path)  # and not that of the temporary file
        raise


def check_picture(path: str | Path) -> None:
    """Raise now what :func:`save_picture` would, as far as the name and the folder tell.

    Raises:
        OptionError: No format that Pillow writes has this suffix.
        OSError: Nothing can be written there.
    """
    from PIL import Image

    if Image.registered_extensions().get(Path(path).suffix.lower()) not in Image.SAVE:
        raise _unknown_format(path)
    check_writable(path)


def save_picture(picture: Image.Image, path: str | Path) -> None:
    """Write a picture, atomically; the suffix gives the format.

    Raises:
        OptionError: No format that Pillow writes has this suffix.
    """
    with atomic_path(path) as temporary:
        try:
            picture.save(temporary)
        except (ValueError, KeyError) as error:  # KeyError: one that it only reads
            raise _unknown_format(path) from error


def _unknown_format(path: str | Path) -> OptionError:
    return OptionError("picture", str(path), "the name of a file of a known format, such as .png or .jpg")


def remove_temporaries(folder: str | Path) -> list[Path]:
    """Remove what :func:`atomic_path` left in `folder` when its process was killed; no other process may be writing there."""
    leftovers = sorted(path for path in Path(folder).iterdir() if _TEMPORARY.fullmatch(path.name))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sha256_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically. Odd bytes of file names that are not UTF-8 are escaped, in the way of JSON."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN is refused: it is not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
