"""A package as one file: opened like the folder, and whatever is wrong with it is refused before it is written anywhere."""

from __future__ import annotations

import errno
import json
import stat
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from goldens import write_golden

from stcanet_runtime import Encoder, ManifestError, PackageError, load_manifest
from stcanet_runtime.inference.golden import verify_package
from stcanet_runtime.package.archive import LIMITS, opened, pack

CROPS = np.random.default_rng(0).integers(0, 256, (3, 32, 16, 3), dtype=np.uint8)
Entries = list[tuple[zipfile.ZipInfo | str, bytes]]


@pytest.fixture
def whole(package: Path) -> Path:
    """A package with golden vectors and the hashes of its files."""
    write_golden(package)
    return package


@pytest.fixture
def archive(whole: Path, tmp_path: Path) -> Path:
    pack(whole, tmp_path / "model.stcanet")
    return tmp_path / "model.stcanet"


def rewritten(archive: Path, change: Callable[[Entries], Entries]) -> Path:
    """The archive with its entries changed."""
    with zipfile.ZipFile(archive) as file:
        entries: Entries = [(info.filename, file.read(info)) for info in file.infolist()]
    target = archive.with_name("changed.zip")
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        warnings.simplefilter("ignore")  # of a name that is there already
        for name, content in change(entries):
            file.writestr(name, content)
    return target


def test_the_same_as_the_folder(whole: Path, archive: Path) -> None:
    assert load_manifest(archive) == load_manifest(whole)
    expected = Encoder.load(whole, "cpu").embed_batch(CROPS)[0]
    np.testing.assert_array_equal(Encoder.load(archive, "cpu").embed_batch(CROPS)[0], expected)
    assert verify_package(archive, "cpu").passed
    with opened(archive) as folder:
        assert {path.name for path in folder.iterdir()} == {"model.onnx", "manifest.json", "golden.npz"}
    assert not folder.exists()
    with zipfile.ZipFile(archive) as file:
        assert file.testzip() is None
        assert file.getinfo("model.onnx").compress_type == zipfile.ZIP_STORED


def test_a_temporary_folder_without_room(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("stcanet_runtime.package.archive.shutil.copyfileobj", write)
    with pytest.raises(PackageError, match=rf"model\.stcanet cannot be unpacked into {tmp_path}: No space .* set TMPDIR"):
        load_manifest(archive)


def test_the_same_files_are_the_same_archive(whole: Path, archive: Path, tmp_path: Path) -> None:
    pack(whole, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("parity.json")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ("../manifest.json", "is a path"),
        ("..", "is a path"),
        ("/etc/cron.d/job", "is a path"),
        ("folder/parity.json", "is a path"),
        ("..\\parity.json", "is a path"),
        ("C:parity.json", "is a path"),
        ("run.py", "is not part of a model package"),
        ("MODEL.onnx", "is not part of a model package"),
        ("manifest.json", "is there twice"),
        (link(), "is a link"),
    ],
)
def test_what_no_package_holds(archive: Path, tmp_path: Path, entry: zipfile.ZipInfo | str, word: str) -> None:
    changed = rewritten(archive, lambda entries: [*entries, (entry, b"/etc/passwd")])
    before = {path.name for path in tmp_path.iterdir()}
    for read in (Encoder.load, load_manifest, verify_package):
        with pytest.raises(PackageError, match=rf"changed\.zip is refused: its entry .* {word}"):
            read(changed)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_name_that_ends_early(archive: Path) -> None:
    changed = rewritten(archive, lambda entries: [*entries, ("parity.jsonX", b"{}")])
    changed.write_bytes(changed.read_bytes().replace(b"parity.jsonX", b"parity.json\0"))
    with pytest.raises(PackageError, match=r"has another name besides, 'parity.json'"):
        load_manifest(changed)


def test_a_second_name(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.12 takes the name from an extra field, where there is one; here on any Python."""
    original = zipfile.ZipFile.infolist

    def infolist(file: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
        entries = original(file)
        entries[-1].filename = str(tmp_path / "elsewhere")
        return entries

    monkeypatch.setattr(zipfile.ZipFile, "infolist", infolist)
    with pytest.raises(PackageError, match=r"has another name besides, '.*elsewhere'"):
        load_manifest(archive)
    assert not (tmp_path / "elsewhere").exists()


def test_a_compression_that_is_not_needed(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as file, zipfile.ZipFile(tmp_path / "changed.zip", "w", zipfile.ZIP_LZMA) as changed:
        for name in file.namelist():
            changed.writestr(name, file.read(name))
    with pytest.raises(PackageError, match="is compressed in a way that no package is"):
        load_manifest(tmp_path / "changed.zip")


def test_a_bomb(archive: Path) -> None:
    changed = rewritten(archive, lambda entries: [*entries, ("parity.json", bytes(20 << 20))])
    assert changed.stat().st_size < 1 << 20
    with pytest.raises(PackageError, match=r"would grow from .* to 20,971,520 bytes"):
        load_manifest(changed)


def declared(archive: Path, name: str, size: int, field: int = 24) -> Path:
    """The archive with another size in its directory for one entry: it is what a reader believes."""
    content = bytearray(archive.read_bytes())
    start = content.rindex(b"PK\x01\x02", 0, content.rindex(name.encode()))
    content[start + field : start + field + 4] = size.to_bytes(4, "little")
    path = archive.with_name("declared.zip")
    path.write_bytes(content)
    return path


def test_a_bomb_that_says_it_is_none(archive: Path) -> None:
    changed = rewritten(archive, lambda entries: [*entries, ("parity.json", bytes(20 << 20))])
    with pytest.raises(PackageError, match=r"its entries say that they take .* bytes, and it has"):
        load_manifest(declared(changed, "parity.json", 20 << 20, field=20))


def test_a_size_beyond_all_packages(archive: Path) -> None:
    with pytest.raises(PackageError, match=r"would have 4,194,305 bytes; at most 4,194,304 are allowed"):
        load_manifest(declared(archive, "manifest.json", LIMITS["manifest.json"] + 1))


def test_a_size_that_is_a_lie(archive: Path) -> None:
    with pytest.raises(PackageError, match="damaged"):
        load_manifest(declared(archive, "manifest.json", 100))


@pytest.mark.parametrize("name", ["golden.npz", "model.onnx", "manifest.json"])
def test_an_altered_file(archive: Path, name: str) -> None:
    def flip(entries: Entries) -> Entries:
        return [(item, content[:-3] + b"abc" if item == name else content) for item, content in entries]

    with pytest.raises(PackageError, match=rf"changed\.zip.*{'altered' if name != 'manifest.json' else 'not JSON'}"):
        Encoder.load(rewritten(archive, flip))


def test_a_file_that_was_added(archive: Path) -> None:
    changed = rewritten(archive, lambda entries: [*entries, ("MODEL_CARD.md", b"trust me")])
    with pytest.raises(PackageError, match=r"MODEL_CARD\.md is not in the manifest"):
        Encoder.load(changed)


def test_what_is_not_needed_may_be_left_out(archive: Path) -> None:
    changed = rewritten(archive, lambda entries: [item for item in entries if item[0] != "golden.npz"])
    assert Encoder.load(changed, "cpu").dim == 8
    with pytest.raises(PackageError, match=r"has no golden\.npz"):
        verify_package(changed, "cpu")


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_an_incomplete_archive(archive: Path, name: str) -> None:
    changed = rewritten(archive, lambda entries: [item for item in entries if item[0] != name])
    with pytest.raises(PackageError, match=rf"is not a model package: it has no {name}"):
        Encoder.load(changed)


def test_a_newer_schema(archive: Path) -> None:
    def newer(entries: Entries) -> Entries:
        return [
            (name, json.dumps({**json.loads(content), "schema_version": 99}).encode() if name == "manifest.json" else content)
            for name, content in entries
        ]

    with pytest.raises(ManifestError, match=r"changed\.zip.*schema_version 99 is not known here"):
        Encoder.load(rewritten(archive, newer))


@pytest.mark.parametrize("damage", ["text", "empty", "cut", "byte", "offset", "gone"])
def test_a_damaged_archive(archive: Path, damage: str) -> None:
    content = bytearray(archive.read_bytes())
    content[200] ^= 1
    offset = bytearray(archive.read_bytes())
    place = offset.rindex(b"PK\5\6") + 16  # of the table of contents, from which those of the entries are counted back
    offset[place : place + 4] = (len(offset) * 2).to_bytes(4, "little")
    damaged = {"offset": bytes(offset), "text": b"hello", "empty": b"", "cut": bytes(content[:500]), "byte": bytes(content)}
    if damage == "gone":
        archive.unlink()
    else:
        archive.write_bytes(damaged[damage])
    with pytest.raises(PackageError, match="no such file" if damage == "gone" else "damaged") as caught:
        load_manifest(archive)
    assert "\n" not in str(caught.value)


def test_an_encrypted_entry(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    start = content.rindex(b"PK\x01\x02", 0, content.rindex(b"manifest.json"))
    content[start + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(PackageError, match="is encrypted"):
        load_manifest(archive)
