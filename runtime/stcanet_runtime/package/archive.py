"""A model package as one file: a zip of its files, opened without trusting it.

Everything that an archive may hold is known by name, so nothing in it can say where it goes. It is unpacked into a temporary
folder for as long as it takes to load it.
"""

from __future__ import annotations

import errno
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stcanet_runtime.errors import PackageError
from stcanet_runtime.files import atomic_path

MODEL_NAME = "model.onnx"
"""The model inside a package."""
MANIFEST_NAME = "manifest.json"
"""The manifest: the contract, and the hash of every other file."""
PARITY_NAME = "parity.json"
"""The report of the parity gate."""
GOLDEN_NAME = "golden.npz"
"""Golden vectors."""
CARD_NAME = "MODEL_CARD.md"
"""The manifest for people."""
SIGNATURE_NAME = f"{MANIFEST_NAME}.minisig"
"""Signature of the manifest, where there is one."""
SUFFIXES = (".zip", ".stcanet")
"""Of a package in one file."""

_MIB = 1 << 20
LIMITS = {
    MODEL_NAME: 2048 * _MIB,  # no ONNX file can be larger
    MANIFEST_NAME: 4 * _MIB,
    PARITY_NAME: 64 * _MIB,
    GOLDEN_NAME: 512 * _MIB,
    CARD_NAME: 4 * _MIB,
    SIGNATURE_NAME: 64 << 10,
}
"""Everything that a package holds, with the most bytes that it may have in an archive."""
_MAX_RATIO = 200
"""Weights hardly compress, JSON tenfold; a bomb compresses a thousandfold."""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same files are the same archive


def is_archive_name(path: str | Path) -> bool:
    """Whether a path is named as a package in one file."""
    return Path(path).suffix.lower() in SUFFIXES


@contextmanager
def opened(package: str | Path) -> Iterator[Path]:
    """A package as a folder: itself, or for an archive a temporary one that is gone when the block ends.

    Args:
        package: A folder, a single ONNX file, or an archive (known by its suffix).

    Raises:
        PackageError: The archive is damaged, or holds what no package holds; see :func:`unpack`.
    """
    package = Path(package)
    if not is_archive_name(package) or package.is_dir():
        yield package
        return
    with tempfile.TemporaryDirectory(prefix="stcanet-") as folder:
        unpack(package, Path(folder))
        try:
            yield Path(folder)
        except PackageError as error:  # the user knows the archive, not the folder
            raise type(error)(str(error).replace(folder, str(package))) from error


def pack(folder: Path, archive: str | Path) -> None:
    """Write the files of a package folder as one archive, atomically. The model is stored as it is: weights do not compress."""
    with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "x") as file:
        for name in LIMITS:
            if (path := folder / name).is_file():
                info = zipfile.ZipInfo(name, _EPOCH)
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                info.compress_type = zipfile.ZIP_STORED if name in (MODEL_NAME, GOLDEN_NAME) else zipfile.ZIP_DEFLATED
                info.file_size = path.stat().st_size
                with path.open("rb") as source, file.open(info, "w") as target:
                    shutil.copyfileobj(source, target)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive from anybody into an empty folder. Nothing is written before all of its entries were looked at.

    Raises:
        PackageError: It is no zip, damaged or encrypted; an entry is no file of a package (a path, a link, another name), is
            there twice, or is larger than such a file can be. Or the folder has no room for it.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            entries = file.infolist()
            _check(archive, entries)
            for entry in entries:
                # Reads at most the declared size, and compares the CRC at its end.
                with file.open(entry) as source, (folder / entry.orig_filename).open("xb") as target:
                    shutil.copyfileobj(source, target, _MIB)
    except FileNotFoundError:
        raise PackageError(f"{archive}: no such file") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise _damaged(archive, error) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PackageError(
                f"{archive} cannot be unpacked into {folder.parent}: {error.strerror}; "
                "unpack it yourself and name the folder, or set TMPDIR to a folder with room"
            ) from None
        if error.errno != errno.EINVAL:  # of an offset before the start
            raise
        raise _damaged(archive, error) from None


def _damaged(archive: Path, error: Exception) -> PackageError:
    return PackageError(f"{archive} is not a zip archive, or it is damaged: {error}")


def _check(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    for entry in entries:
        if problem := _problem(entry, seen):
            raise PackageError(f"{archive} is refused: its entry {entry.orig_filename[:100]!r} {problem}")
        seen.add(entry.orig_filename)
    # What an entry says of its compressed size is never compared, and a bomb would grow little from a large one.
    if (said := sum(entry.compress_size for entry in entries)) > (size := archive.stat().st_size):
        raise PackageError(f"{archive} is refused: its entries say that they take {said:,} bytes, and it has {size:,}")
    if missing := [name for name in (MANIFEST_NAME, MODEL_NAME) if name not in seen]:
        raise PackageError(f"{archive} is not a model package: it has no {missing[0]}")


def _problem(entry: zipfile.ZipInfo, seen: set[str]) -> str | None:
    name, kind = entry.orig_filename, stat.S_IFMT(entry.external_attr >> 16)
    if entry.filename != name:  # from an extra field, which Python reads since 3.12
        return f"has another name besides, {entry.filename[:100]!r}"
    if kind not in (0, stat.S_IFREG):
        return "is a link or a device, not a file"
    if "/" in name or "\\" in name or name in (".", "..") or name[1:2] == ":":
        return "is a path; a package has files only, and none outside of it"
    if name not in LIMITS:
        return "is not part of a model package"
    if name in seen:
        return "is there twice"
    if entry.flag_bits & 0x1:
        return "is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed in a way that no package is"
    if entry.file_size > LIMITS[name]:
        return f"would have {entry.file_size:,} bytes; at most {LIMITS[name]:,} are allowed"
    if entry.file_size > _MIB and entry.file_size > _MAX_RATIO * entry.compress_size:
        return f"would grow from {entry.compress_size:,} to {entry.file_size:,} bytes, as no file of a package does"
    return None
