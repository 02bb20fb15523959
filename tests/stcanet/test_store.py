"""Decoded frames: read from files, kept in memory or in a file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stcanet.data import store
from stcanet.data.frames import FrameFiles
from stcanet.data.masks import MaskFolder, save_indexed
from stcanet.data.memory import available_memory
from stcanet.data.store import open_frames
from stcanet_runtime.errors import DataError, ImageError, OptionError
from stcanet_runtime.files import lock
from stcanet_runtime.preprocess import load_image, resize

Usage = namedtuple("Usage", "total used free")
ROOT = Path(__file__).parents[2]
SOURCES = os.pathsep.join(str(ROOT / folder) for folder in ("", "runtime"))
ROWS = np.array([[4, 0], [2, 2]])


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    found = [tmp_path / "images" / f"{number}.png" for number in range(5)]
    for path in found:
        Image.fromarray(rng.integers(0, 256, (20, 12, 3), dtype=np.uint8)).save(path)
    return found


@pytest.fixture
def masks(tmp_path: Path, paths: list[Path]) -> MaskFolder:
    (tmp_path / "masks").mkdir()
    for number, path in enumerate(paths):
        save_indexed(np.full((20, 12), number % 5, np.uint8), tmp_path / "masks" / path.name)
    return MaskFolder(tmp_path / "masks")


def free_disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: Usage(free, 0, free))


def test_all_ways_give_what_the_runtime_decodes(paths: list[Path], tmp_path: Path) -> None:
    expected = np.stack([resize(load_image(path), 16, 8) for path in paths])[ROWS]
    files = FrameFiles(paths, 16, 8)
    for cache, where in (("none", "files"), ("memory", "memory"), ("auto", "memory"), ("file", str(tmp_path / "cache"))):
        frames = open_frames(files, cache, tmp_path / "cache")
        assert frames.where.startswith(where)
        taken = frames.take(ROWS)
        assert taken.shape == (2, 2, 16, 8, 3)
        assert np.array_equal(taken, expected)
        taken[:] = 0  # the caller's own
        assert np.array_equal(frames.take(ROWS), expected)


def test_masks_are_the_fourth_channel(paths: list[Path], masks: MaskFolder) -> None:
    taken = open_frames(FrameFiles(paths, 16, 8, masks)).take(np.array([3, 0, 4]))
    assert taken.shape == (3, 16, 8, 4)
    assert np.array_equal(taken[..., 3], np.broadcast_to(np.array([3, 0, 4])[:, None, None], (3, 16, 8)))
    assert np.array_equal(taken[0, :, :, :3], resize(load_image(paths[3]), 16, 8))


def test_a_missing_mask_is_told_before_anything_is_read(paths: list[Path], masks: MaskFolder) -> None:
    (masks.root / "3.png").unlink()
    with pytest.raises(DataError, match="of 5 images, 1 has no part mask"):
        FrameFiles(paths, 16, 8, masks)


@pytest.mark.parametrize("cache", ["memory", "file"])
def test_a_damaged_image_stops_the_cache_and_leaves_nothing(paths: list[Path], tmp_path: Path, cache: str) -> None:
    paths[3].write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"3\.png"):
        open_frames(FrameFiles(paths, 16, 8), cache, tmp_path / "cache")
    assert cache == "memory" or [path.name for path in (tmp_path / "cache").iterdir()] == [store.LOCK]


def test_the_file_is_used_again_and_only_for_the_same_data(
    paths: list[Path], masks: MaskFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"

    def cached(*args: object) -> int:
        open_frames(FrameFiles(*args), "file", folder)
        return len(list(folder.glob("*.npy")))

    assert cached(paths, 16, 8) == 1
    with monkeypatch.context() as context:
        context.setattr(FrameFiles, "read_all", lambda *_: pytest.fail("read again"))
        assert cached(paths, 16, 8) == 1
    assert cached(paths, 16, 10) == 2
    assert cached(paths[:4], 16, 8) == 3
    assert cached(paths[::-1], 16, 8) == 4
    assert cached(paths, 16, 8, masks) == 5
    os.utime(masks.root / "2.png", ns=(1, 1))
    assert cached(paths, 16, 8, masks) == 6
    Image.new("RGB", (12, 20)).save(paths[0])
    assert cached(paths, 16, 8) == 7
    assert not open_frames(FrameFiles(paths, 16, 8), "file", folder).take(np.array([0])).any()


def test_auto_weighs_memory_and_disk(paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = FrameFiles(paths, 16, 8)
    assert files.nbytes == 5 * 16 * 8 * 3

    def chosen(folder: Path | None = tmp_path / "cache") -> str:
        return open_frames(files, "auto", folder).where.split(" ")[0]

    monkeypatch.setattr(store, "available_memory", lambda: 2 * files.nbytes)
    assert chosen() == "memory"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # each process holds its own
    assert chosen(None) == "files"
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    monkeypatch.setattr(store, "available_memory", lambda: 2 * files.nbytes - 2)
    assert chosen(None) == "files"
    free_disk(monkeypatch, store.DISK_RESERVE + files.nbytes - 1)
    assert chosen() == "files"
    free_disk(monkeypatch, store.DISK_RESERVE + files.nbytes)
    assert chosen().endswith(".npy")


def test_auto_takes_the_file_that_is_there_or_that_another_process_writes_into_the_last_room(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, folder, written = FrameFiles(paths, 16, 8), tmp_path / "cache", tmp_path / "written.npy"
    open_frames(files, "file", folder)
    (path,) = folder.glob("*.npy")
    monkeypatch.setattr(store, "available_memory", lambda: 0)
    free_disk(monkeypatch, 0)
    assert open_frames(files, "auto", folder).where.startswith(str(path))

    @contextmanager
    def held_by_a_writer(_: Path) -> Iterator[bool]:
        written.rename(path)
        yield True

    path.rename(written)
    assert open_frames(files, "auto", folder).where == "files"
    monkeypatch.setattr(store, "lock", held_by_a_writer)
    assert open_frames(files, "auto", folder).where.startswith(str(path))


def test_a_disk_that_would_be_full_is_an_error(paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free_disk(monkeypatch, store.DISK_RESERVE)
    with pytest.raises(DataError, match=r"has 1\.0 GiB free"):
        open_frames(FrameFiles(paths, 16, 8), "file", tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.npy"))


@pytest.mark.parametrize("content", [b"", b"hello", "other"])
def test_a_cache_file_that_is_none(paths: list[Path], tmp_path: Path, content: bytes | str) -> None:
    files = FrameFiles(paths, 16, 8)
    open_frames(files, "file", tmp_path / "cache")
    (path,) = (tmp_path / "cache").glob("*.npy")
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, np.zeros((2, 3), np.uint8))
    with pytest.raises(DataError, match="delete it"):
        open_frames(files, "file", tmp_path / "cache")


def test_one_of_several_processes_writes_and_the_others_wait(paths: list[Path], tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from stcanet.data.frames import FrameFiles; "
        "from stcanet.data.store import open_frames; read = FrameFiles.read_all\n"
        "FrameFiles.read_all = lambda *given: (print('decoded'), time.sleep(0.5), read(*given))\n"
        "print(open_frames(FrameFiles([Path(p) for p in sys.argv[2:]], 16, 8), 'file', Path(sys.argv[1])).where)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache"), *map(str, paths)]
    environment = {**os.environ, "PYTHONPATH": SOURCES}
    with lock(tmp_path / "cache" / store.LOCK):  # so that all of them have started when the first may write
        running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        with pytest.raises(subprocess.TimeoutExpired):
            running[0].wait(2.0)
    told = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert "".join(told).count("decoded") == 1
    assert all(".npy (" in text for text in told)


def test_what_a_killed_writer_left_is_removed(paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare() -> list[Path]:
        (tmp_path / "cache").mkdir(exist_ok=True)
        for name in (".frames-0123.89abcdef.tmp.npy", ".other.89abcdef.tmp.npy"):
            (tmp_path / "cache" / name).touch()
        open_frames(FrameFiles(paths, 16, 8), "file", tmp_path / "cache")
        return sorted((tmp_path / "cache").glob(".*.tmp.npy"))

    assert [path.name for path in prepare()] == [".other.89abcdef.tmp.npy"]
    next((tmp_path / "cache").glob("frames-*.npy")).unlink()
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    assert len(prepare()) == 2  # another process may be writing it


def test_progress_and_options(paths: list[Path]) -> None:
    told: list[tuple[int, int]] = []
    open_frames(FrameFiles(paths, 16, 8), "memory", progress=lambda *done: told.append(done))
    assert told == [(done, 5) for done in range(1, 6)]
    with pytest.raises(OptionError, match="together with a cache folder"):
        open_frames(FrameFiles(paths, 16, 8), "file")
    with pytest.raises(OptionError, match="cache"):
        open_frames(FrameFiles(paths, 16, 8), "disk")  # type: ignore[arg-type]
    assert available_memory() > 0
