"""Where re-ranked distances go, and what is told on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rerank_cases import (
    TOLERANCE,
    assert_same_result,
    best_of,
    market_like,
    needed_bytes,
    stored_distances,
)

from stcanet_runtime import OptionError, ShapeError, rerank, rerank_distances


def test_out_is_filled(backend: str) -> None:
    q, g, *_ = market_like()
    out = np.full((60, 300), np.nan, np.float32)
    assert rerank(q, g, out=out, backend=backend) is out
    np.testing.assert_array_equal(out, rerank(q, g, backend=backend))
    joint, again = stored_distances(), np.full((60, 300), np.nan, np.float32)
    parts = joint[:60, 60:], joint[:60, :60], joint[60:, 60:]
    assert rerank_distances(*parts, out=again, backend=backend) is again
    np.testing.assert_array_equal(again, rerank_distances(*parts, backend=backend))


def test_out_apart_from_the_embeddings(backend: str) -> None:
    """Where D is G, an array of the inputs has the shape of the result."""
    joint = np.random.default_rng(0).normal(size=(50, 30)).astype(np.float32)
    q, g = joint[:20], joint[20:]
    for out, name in ((q, "query"), (g[:20], "gallery"), (joint[10:30], "query")):
        with pytest.raises(ShapeError, match=f"out must not share memory with {name}, .* give another array"):
            rerank(q, g, out=out, backend=backend)
    rows = np.random.default_rng(1).normal(size=(3, 30)).astype(np.float32)
    expected = rerank(q[:1], rows[::2], backend=backend)
    np.testing.assert_array_equal(rerank(q[:1], rows[::2], out=rows[1:2, :2], backend=backend), expected)  # between its rows


def test_out_apart_from_the_distances(backend: str) -> None:
    """But it may be `q_g`, which is then re-ranked in its place."""
    joint = stored_distances()
    q_q, g_g = joint[:60, :60].copy(), joint[60:, 60:].copy()
    buffer = np.zeros((61, 300), np.float32)
    buffer[:60] = joint[:60, 60:]
    q_g = buffer[:60]
    expected = rerank_distances(q_g, q_q, g_g, backend=backend)
    for out, name in ((g_g[:60], "g_g"), (buffer[1:], "q_g")):
        with pytest.raises(ShapeError, match=f"out must not share memory with {name}"):
            rerank_distances(q_g, q_q, g_g, out=out, backend=backend)
    with pytest.raises(ShapeError, match="out must not share memory with q_g"):
        rerank_distances(q_q.T, q_q.copy(), q_q.copy(), out=q_q, backend=backend)
    np.testing.assert_array_equal(rerank_distances(q_g, q_q, g_g, out=q_g, backend=backend), expected)
    assert q_g[0, 0] == expected[0, 0]


@pytest.mark.parametrize("name", ["reference", "numpy"])
def test_out_of_the_slow_backends(name: str, tmp_path: Path) -> None:
    q, g, *_ = market_like()
    out = np.empty((60, 300), np.float32)
    calls: list[tuple[int, int]] = []
    assert rerank(q, g, out=out, progress=lambda *call: calls.append(call), backend=name) is out
    assert calls == sorted(calls)
    assert (calls[0], calls[-1]) == ((0, 420), (420, 420))
    written = np.load(rerank(q, g, out=tmp_path / "a.npy", backend=name))
    np.testing.assert_allclose(written, out, atol=TOLERANCE)
    assert_same_result(best_of(out, 5), best_of(written, 5))


def test_a_file_is_written_block_by_block(backend: str, tmp_path: Path) -> None:
    q, g, *_ = market_like()
    path = tmp_path / "new" / "distances.npy"
    needed = needed_bytes(q, g, out=path, backend=backend)
    assert rerank(q, g, out=str(path), max_memory=needed, backend=backend) == path
    written = np.load(path, mmap_mode="r")
    assert [file.name for file in path.parent.iterdir()] == ["distances.npy"]
    np.testing.assert_allclose(written, rerank(q, g, backend=backend), atol=TOLERANCE)


def test_a_file_of_an_input_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    q, g, *_ = market_like()
    np.save("g.npy", g)
    Path("link.npy").symlink_to("g.npy")
    mapped = np.load("g.npy", mmap_mode="r")
    for out in ("g.npy", tmp_path / "link.npy"):
        with pytest.raises(OptionError, match="out must be another file than that of gallery, which it would replace, got"):
            rerank(q, mapped[1:, ::-1], out=out)
    np.save("d.npy", np.ones((2, 3)))
    with pytest.raises(OptionError, match="that of q_g"):
        rerank_distances(np.load("d.npy", mmap_mode="r"), np.ones((2, 2)), np.ones((3, 3)), out="d.npy")
    np.testing.assert_array_equal(np.load("g.npy"), g)
    assert rerank(q, mapped, out="d.npy") == Path("d.npy")  # of no input here


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ("folder.npy", IsADirectoryError, "'folder.npy'"),
        ("file/distances.npy", NotADirectoryError, "'file/distances.npy'"),
        ("a\0b.npy", OptionError, r"out must be a path without a NUL character, got 'a\\x00b.npy'"),
    ],
)
def test_a_path_that_cannot_be_written_is_found_before_the_work(
    out: str, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.npy").mkdir()
    Path("file").touch()
    q, g, *_ = market_like()
    calls: list[int] = []
    with pytest.raises(error, match=message):
        rerank(q, g, out=out, progress=lambda done, _: calls.append(done))
    assert calls == []
    assert {path.name for path in tmp_path.iterdir()} == {"folder.npy", "file"}


@pytest.mark.parametrize("options", [{}, {"top": 10}, {"out": "file.npy"}], ids=["matrix", "top", "file"])
def test_progress(backend: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    q, g, *_ = market_like()
    calls: list[tuple[int, int]] = []
    rerank(q, g, **options, progress=lambda *call: calls.append(call), backend=backend)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert {total for _, total in calls} == {360 + 60}
    assert (360, 420) in calls
    assert calls[-1] == (420, 420)


def test_progress_of_a_search_that_begins_again(backend: str) -> None:
    """The last rows point in one direction, where a coarse screen tells nothing apart and the accurate one takes over."""
    x = np.random.default_rng(0).normal(size=(1500, 16)).astype(np.float32)
    x[1100:] = x[1100]
    calls: list[tuple[int, int]] = []
    rerank(x[:1100], x[1100:], top=5, progress=lambda *call: calls.append(call), backend=backend)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1] == (2600, 2600)


@pytest.mark.parametrize("last", [0, 360, 420])
def test_cancelled_work_leaves_no_file(backend: str, last: int, tmp_path: Path) -> None:
    q, g, *_ = market_like()
    path = tmp_path / "distances.npy"
    path.write_bytes(b"old")

    def progress(done: int, total: int) -> None:
        if done >= last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rerank(q, g, out=path, progress=progress, backend=backend)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
