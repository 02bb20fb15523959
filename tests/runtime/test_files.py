"""Files and folders are complete or absent."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from stcanet_runtime import files
from stcanet_runtime.files import (
    atomic_path,
    check_writable,
    remove_temporaries,
    replacing_folder,
    sha256_file,
    write_json,
    write_text,
)


def test_written_and_nothing_left_over(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "new" / "a.png") as temporary:
        assert temporary.parent == tmp_path / "new"
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"1")
        assert not (tmp_path / "new" / "a.png").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_the_longest_name_there_is(tmp_path: Path) -> None:
    path = tmp_path / f"{'ü' * 125}.json"
    write_json(path, {})
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail_half_way() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_is_whole_from_the_moment_that_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with suppress(KeyboardInterrupt), atomic_path(tmp_path / "a.txt", new=True) as temporary:
        temporary.write_text("whole")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for write in (check_writable, partial(write_text, text="new")):
        with pytest.raises(FileExistsError, match="device or a pipe"):
            write(tmp_path / "pipe")
        with pytest.raises(IsADirectoryError):
            write(tmp_path)
    assert (tmp_path / "pipe").is_fifo()
    assert list(tmp_path.iterdir()) == [tmp_path / "pipe"]


def test_a_link_to_itself_is_replaced(tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(link.name)
    check_writable(link)
    write_json(link, 1)
    assert link.read_text() == "1\n"


@pytest.mark.parametrize("there", [False, True])
def test_a_link_stays(tmp_path: Path, there: bool) -> None:
    target, link = tmp_path / "elsewhere" / "target", tmp_path / "link.json"
    target.parent.mkdir()
    if there:
        target.write_text("old")
    link.symlink_to(target)
    write_json(link, 1)
    assert link.is_symlink()
    assert target.read_text() == "1\n"
    assert [path.name for path in target.parent.iterdir()] == ["target"]


@pytest.mark.parametrize(("named", "said"), [("", "a.txt"), ("temporary", "a.txt"), ("b.txt", "b.txt")])
def test_what_the_system_refuses_is_said_of_the_file_that_was_asked_for(tmp_path: Path, named: str, said: str) -> None:
    def fill() -> None:
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.touch()
            name = temporary if named == "temporary" else tmp_path / named
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([str(name)] if named else []))  # a write names none

    with pytest.raises(OSError, match="No space") as caught:
        fill()
    assert caught.value.filename == str(tmp_path / said)
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "tmp1234")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(OSError, match="Read-only") as caught:
        check_writable(tmp_path / "a.txt")
    assert caught.value.filename == str(tmp_path / "a.txt")
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(RuntimeError, match="why"), atomic_path(tmp_path / "a.txt"):
        raise RuntimeError("why")


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_takes_the_place_of_what_was_there(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "new" / "set"
    if there:
        write_text(folder / "old.txt", "old")
    with replacing_folder(folder) as fresh:
        (fresh / "a.txt").write_text("new")
        assert (folder / "old.txt").exists() == there
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
    assert list(folder.parent.iterdir()) == [folder]


def test_an_exception_leaves_the_old_folder(tmp_path: Path) -> None:
    write_text(tmp_path / "set" / "old.txt", "old")
    for name in ("set", "other"):
        with pytest.raises(RuntimeError), replacing_folder(tmp_path / name):
            raise RuntimeError
    assert list(tmp_path.iterdir()) == [tmp_path / "set"]
    assert (tmp_path / "set" / "old.txt").read_text() == "old"


@pytest.mark.parametrize("above", [".", "here"])
def test_the_folder_where_one_is_is_not_pulled_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, above: str) -> None:
    (tmp_path / "set" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "set" / above)
    with pytest.raises(OSError, match="this program runs cannot be replaced"), replacing_folder(tmp_path / "set"):
        pytest.fail("it was not said before the work")
    assert [*tmp_path.rglob("*")] == [tmp_path / "set", tmp_path / "set" / "here"]


def replaced(folder: Path, *before: str | Path) -> str:
    """What a program says that replaces a folder, by a command `before` it, and does not begin its work."""
    code = "import sys, pathlib\nfrom stcanet_runtime.files import replacing_folder\n"
    code += "with replacing_folder(pathlib.Path(sys.argv[1])): print('working')"
    command = [*before, sys.executable, "-c", code, folder]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(files.__file__).parents[1])
    except FileNotFoundError:
        pytest.skip("needs unshare")
    if not done.stdout and "Traceback" not in done.stderr:
        pytest.skip("needs namespaces")
    assert done.stdout == ""
    return done.stderr


def test_a_mount_point_is_refused_before_the_work(tmp_path: Path) -> None:
    """A mount from the same file system, which `os.path.ismount` does not see."""
    script = 'mount --bind "$1" "$1" 2>/dev/null || exit 9; shift; exec "$@"'
    folder = tmp_path / "set"
    folder.mkdir()
    said = replaced(folder, "unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", folder)
    assert "a mount point cannot be replaced; name a folder in it" in said
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_may_not_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    """To rename it later changes its entry of the folder above. Where root owns it, in a namespace where root is nobody."""
    folder = tmp_path / "set"
    folder.mkdir(mode=0o555)
    said = replaced(folder, "unshare", "--user")
    assert said.splitlines()[-1] == f"PermissionError: [Errno 13] Permission denied: '{folder}'"
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights")
def test_a_link_and_a_file_give_way_to_a_folder(tmp_path: Path) -> None:
    write_text(tmp_path / "there" / "a.txt", "kept")
    (tmp_path / "link").symlink_to("there")
    write_text(tmp_path / "file", "old")
    for name in ("link", "file"):
        with replacing_folder(tmp_path / name) as fresh:
            (fresh / "a.txt").write_text("new")
        assert (tmp_path / name / "a.txt").read_text() == "new"
        assert not (tmp_path / name).is_symlink()
    assert (tmp_path / "there" / "a.txt").read_text() == "kept"


def test_an_old_folder_outlives_another_that_comes_between_the_two_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "set"
    write_text(folder / "old.txt", "old")
    rename = Path.rename

    def raced(path: Path, target: Path) -> Path:
        if path.name == "fresh":
            write_text(folder / "theirs.txt", "theirs")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", raced)
    with pytest.raises(OSError, match="not empty") as caught, replacing_folder(folder) as fresh:
        (fresh / "a.txt").write_text("new")
    assert (folder / "theirs.txt").read_text() == "theirs"
    assert (Path(caught.value.filename) / "old.txt").read_text() == "old"
    monkeypatch.undo()
    with replacing_folder(folder):
        pass
    assert len([*tmp_path.rglob("old.txt")]) == 1


@pytest.mark.parametrize("path", ["a.txt", "new/deep/a.txt"])
def test_the_system_speaks_of_the_folder_that_was_asked_for(tmp_path: Path, path: str) -> None:
    with pytest.raises(FileNotFoundError) as caught, replacing_folder(tmp_path / "set") as fresh:
        (fresh / "no" / path).touch()
    assert caught.value.filename == str(tmp_path / "set")
    with pytest.raises(FileNotFoundError) as caught, replacing_folder(tmp_path / "set") as fresh:
        (tmp_path / "elsewhere" / path).touch()
    assert caught.value.filename == str(tmp_path / "elsewhere" / path)


def test_what_a_killed_process_left_beside_a_folder_goes_with_the_next_and_what_a_living_one_writes_stays(
    tmp_path: Path,
) -> None:
    pytest.importorskip("fcntl")
    code = f"import sys, pathlib\nsys.path.insert(0, {str(Path(files.__file__).parents[1])!r})\n"
    code += "from stcanet_runtime.files import replacing_folder\n"
    code += "with replacing_folder(pathlib.Path(sys.argv[1])) as fresh: print(fresh.parent.name, flush=True), sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / "[set]")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        theirs = writer.stdout.readline().strip()
        for _ in range(2):
            with replacing_folder(tmp_path / "[set]"):
                pass
            assert {path.name for path in tmp_path.iterdir()} == {"[set]", theirs}
        writer.kill()
    (tmp_path / ".[set].notes-01.partial").mkdir()
    with replacing_folder(tmp_path / "set"), replacing_folder(tmp_path / "[set]2"):
        assert (tmp_path / theirs).exists()
    with replacing_folder(tmp_path / "[set]"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"set", "[set]", "[set]2", ".[set].notes-01.partial"}


def test_json_has_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ä": 1})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "ä": 1\n}\n'
    write_json(tmp_path / "c.json", os.fsdecode(b"caf\xe9.png"))
    assert json.loads((tmp_path / "c.json").read_text(encoding="utf-8")) == os.fsdecode(b"caf\xe9.png")
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", float("nan"))
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_sha256(tmp_path: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(b"x" * size)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"x" * size).hexdigest()


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "last.pt") as first, atomic_path(tmp_path / "plain") as second:
        first.write_bytes(b"half")
        second.write_bytes(b"half")
        for name in ("last.pt", ".hidden", ".notes.tmp.txt", "a.0123abcd.tmp.pt"):
            (tmp_path / name).write_text("kept")
        assert sorted(remove_temporaries(tmp_path)) == sorted([first, second])
        assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", ".notes.tmp.txt", "a.0123abcd.tmp.pt", "last.pt"]
        first.write_bytes(b"new")  # so that the renames at the end have something to rename
        second.write_bytes(b"new")
