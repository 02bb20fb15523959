"""Evaluation straight from embeddings: the same figures as from the matrix of exact distances, in bounded memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stcanet_runtime import DataError, OptionError, ShapeError, backends, evaluate, evaluate_embeddings
from stcanet_runtime.backends import reference
from stcanet_runtime.errors import BackendError, MemoryLimitError
from stcanet_runtime.retrieval import embedding_ranks
from stcanet_runtime.retrieval.evaluate import Evaluation

BACKENDS = [name for name, problem in backends.available().items() if problem is None]
METRICS = ("cosine", "euclidean")


def people(seed: int, queries: int, gallery: int, ids: int = 5, cameras: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "q_pids": rng.integers(0, ids, queries),
        "g_pids": rng.integers(-1, ids, gallery),
        "q_camids": rng.integers(0, cameras, queries),
        "g_camids": rng.integers(0, cameras, gallery),
    }


def features(seed: int, count: int, depth: int, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows around identities; a quarter are copies of others."""
    rng = np.random.default_rng(seed)
    rows = np.random.default_rng(0).normal(size=(8, depth))[ids] + rng.normal(size=(count, depth))
    rows[rng.integers(0, max(1, count), count // 4)] = rows[rng.integers(0, max(1, count), count // 4)]
    return rows.astype(np.float32)


def problem(
    seed: int, queries: int, gallery: int, depth: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, Any]]:
    who = people(seed, queries, gallery)
    return features(seed + 1, queries, depth, who["q_pids"]), features(seed + 2, gallery, depth, who["g_pids"]), who


def from_matrix(query: Any, gallery: Any, metric: str, **who: Any) -> Evaluation:
    matrix = reference.distance_matrix(np.asarray(query, np.float32), np.asarray(gallery, np.float32), metric)
    return evaluate(matrix, **who, metric=metric)


def assert_same(actual: Evaluation, expected: Evaluation) -> None:
    """To the last bit: the ranks are the same integers, and what is made of them is the same code."""
    assert actual.to_dict() == expected.to_dict()


def test_average_precision_by_trapezoids() -> None:
    query, gallery, who = problem(3, 9, 40, 8)
    found = evaluate_embeddings(query, gallery, **who, ap_rule="trapezoid")
    assert_same(found, from_matrix(query, gallery, "cosine", **who, ap_rule="trapezoid"))
    assert found.mAP < evaluate_embeddings(query, gallery, **who).mAP
    with pytest.raises(OptionError, match="ap_rule"):
        evaluate_embeddings(query, gallery, **who, ap_rule="middle")  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("queries", "gallery", "depth"), [(1, 40, 3), (30, 200, 16), (50, 401, 33)])
def test_equals_the_matrix(backend: str, metric: str, queries: int, gallery: int, depth: int) -> None:
    q, g, who = problem(queries, queries, gallery, depth)
    assert_same(evaluate_embeddings(q, g, **who, metric=metric, backend=backend), from_matrix(q, g, metric, **who))


@settings(max_examples=60)
@given(st.data())
def test_equals_the_matrix_with_ties_everywhere(data: st.DataObject) -> None:
    seed, queries, gallery = data.draw(st.integers(0, 999)), data.draw(st.integers(1, 8)), data.draw(st.integers(1, 70))
    rng = np.random.default_rng(seed)
    q, g = (rng.integers(-1, 2, (count, 3)).astype(np.float32) for count in (queries, gallery))
    who = people(seed, queries, gallery)
    if data.draw(st.booleans()):
        del who["q_camids"], who["g_camids"]
    metric, backend = data.draw(st.sampled_from(METRICS)), data.draw(st.sampled_from([*BACKENDS, "auto"]))
    try:
        expected = from_matrix(q, g, metric, **who)
    except DataError:
        with pytest.raises(DataError, match="none of"):
            evaluate_embeddings(q, g, **who, metric=metric, backend=backend)
        return
    assert_same(evaluate_embeddings(q, g, **who, metric=metric, backend=backend), expected)


@pytest.mark.parametrize("junk", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_pieces_and_groups_change_nothing(dtype: Any, junk: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a few bytes, queries are done a few at a time and the gallery in pieces of a few rows, whatever is in it."""
    q, g, who = problem(3, 40, 150, 64)
    q, g = (np.asarray(10 * x, dtype) for x in (q, g))
    if not junk:
        who["g_pids"] = np.where(who["g_pids"] == -1, 0, who["g_pids"])
    monkeypatch.setattr(embedding_ranks, "DEFAULT_BUDGET", 30_000)
    chosen, pieces = backends.get_backend(), []
    count_closer = chosen.count_closer

    def spy(query: Any, gallery: Any, *arguments: Any, **options: Any) -> Any:
        pieces.append(len(gallery))
        return count_closer(query, gallery, *arguments, **options)

    monkeypatch.setattr(chosen, "count_closer", spy)
    calls: list[tuple[int, int]] = []
    result = evaluate_embeddings(q, g, **who, progress=lambda done, total: calls.append((done, total)))
    assert_same(result, from_matrix(q, g, "cosine", **who))
    assert len(calls) > 5
    assert calls == sorted(calls)
    groups = calls[-1][1] // result.protocol.num_gallery
    assert groups > 1
    assert calls[-1] == (groups * result.protocol.num_gallery,) * 2
    whole = dtype == np.float32 and not junk
    assert max(pieces) == (150 if whole else 30_000 // 4 // (64 * (np.dtype(dtype).itemsize + 4)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_progress_ends_and_stops_it(backend: str) -> None:
    q, g, who = problem(3, 10, 60, 4)
    calls: list[tuple[int, int]] = []
    evaluate_embeddings(q, g, **who, backend=backend, progress=lambda *call: calls.append(call))
    assert calls == sorted(calls)
    assert calls[-1][0] == calls[-1][1]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_embeddings(q, g, **who, backend=backend, progress=stop)


def test_a_memory_mapped_gallery_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    q, g, who = problem(3, 20, 300, 16)
    np.save(tmp_path / "gallery.npy", g)
    who["g_pids"] = np.where(who["g_pids"] == -1, 0, who["g_pids"])
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    chosen, seen = backends.get_backend(), []
    count_closer = chosen.count_closer

    def spy(query: Any, gallery: Any, *arguments: Any, **options: Any) -> Any:
        seen.append(gallery)
        return count_closer(query, gallery, *arguments, **options)

    monkeypatch.setattr(chosen, "count_closer", spy)
    assert_same(evaluate_embeddings(q, mapped, **who), from_matrix(q, g, "cosine", **who))
    assert len(seen) == 1
    assert np.shares_memory(seen[0], mapped)


def test_memory_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STCANET_NUM_THREADS", "2")
    q, g, who = problem(3, 20, 300, 16)
    expected = from_matrix(q, g, "cosine", **who)
    with pytest.raises(MemoryLimitError, match=r"max_memory allows 1\.0 MiB") as caught:
        evaluate_embeddings(q, g, **who, max_memory=1 << 20)
    assert caught.value.limit == 1 << 20
    assert_same(evaluate_embeddings(q, g, **who, max_memory=caught.value.needed), expected)
    assert_same(evaluate_embeddings(q, g, **who, max_memory=10**30), expected)
    with pytest.raises(MemoryLimitError):
        evaluate_embeddings(q, g, **who, max_memory=caught.value.needed - 1)
    with pytest.raises(MemoryLimitError) as converted:  # the queries are copied to float32, the gallery in pieces
        evaluate_embeddings(q.astype(np.float64), g.astype(np.float64), **who, max_memory=caught.value.needed)
    assert converted.value.needed - caught.value.needed == 4 * q.size
    with pytest.raises(MemoryLimitError, match=r"needs 4\d\.. MiB"):  # many images of one person are many pairs
        evaluate_embeddings(np.ones((1, 2), np.float32), np.ones((60_000, 2), np.float32), [1], [1] * 60_000, max_memory=1)


def test_memory_of_wide_rows_and_many_threads(compiled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def needed(dim: int, threads: int) -> int:
        monkeypatch.setenv("STCANET_NUM_THREADS", str(threads))
        x, who = np.ones((1000, dim), np.float32), np.arange(1000)
        with pytest.raises(MemoryLimitError) as caught:
            evaluate_embeddings(x, x, who, who, max_memory=1, backend="compiled")
        return caught.value.needed

    assert needed(8192, 1) - needed(16, 1) >= 2 * 2 * 384 * 8192 * 4 - (32 << 20)  # half of it for two panels
    assert needed(16, 20) - needed(16, 1) > 19 * 384 * 384 * 4


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_peak_memory_is_within_the_limit(dtype: Any) -> None:
    """The matrix would be 61 MiB; NumPy's arrays are counted, so this is about the NumPy backend and the front."""
    rng = np.random.default_rng(0)
    q, g = (rng.normal(size=(count, 16)).astype(dtype) for count in (400, 40_000))
    who = people(0, 400, 40_000, ids=900)
    limit = 40 << 20
    tracemalloc.start()
    try:
        evaluate_embeddings(q, g, **who, backend="numpy", max_memory=limit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"query": np.zeros((2, 3))}, ShapeError, r"same D, got \[2, 3\] and \[3, 2\]"),
        ({"gallery": np.full((3, 2), np.nan)}, ShapeError, "gallery must be finite"),
        ({"gallery": np.zeros(3)}, ShapeError, "gallery must have shape"),
        ({"q_pids": [1]}, ShapeError, r"q_pids must have shape \[2\]"),
        ({"g_camids": [1, 1, 1]}, ShapeError, "give both, or neither"),
        ({"metric": "manhattan"}, OptionError, "manhattan"),
        ({"max_rank": 0}, OptionError, "max_rank"),
        ({"q_pids": np.full(2, 2**64 - 1, np.uint64)}, ShapeError, r"q_pids must hold integers below 2\*\*63, got"),
        ({"gallery": np.ma.array(np.ones((3, 2)), mask=np.eye(3, 2))}, ShapeError, "gallery must have no masked"),
        ({"max_rank": 2.5}, OptionError, "max_rank must be an integer of at least 1, got 2.5"),
        ({"max_memory": -1}, OptionError, "max_memory must be an integer of at least 1, got -1"),
        ({"max_memory": float("nan")}, OptionError, "max_memory must be an integer of at least 1, got nan"),
        ({"max_memory": "5"}, OptionError, "max_memory must be an integer of at least 1, got '5'"),
        ({"max_memory": 32 << 20}, MemoryLimitError, r"needs 3\d\.\d MiB besides the inputs, max_memory allows 32\.0 MiB"),
        ({"backend": "fortran"}, OptionError, "fortran"),
        ({"backend": "gpu"}, BackendError, "no GPU in this test"),
        ({"q_pids": [7, 7]}, DataError, "none of 2 queries"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends._PROBES, "gpu", lambda: "no GPU in this test")
    good = {"query": np.ones((2, 2)), "gallery": np.ones((3, 2)), "q_pids": [1, 2], "g_pids": [1, 2, 3]}
    evaluate_embeddings(**good)  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        evaluate_embeddings(**{**good, **change})


def test_empty_sides() -> None:
    with pytest.raises(DataError, match="none of 0"):
        evaluate_embeddings(np.empty((0, 4)), np.ones((3, 4)), [], [1, 2, 3], [], ["door", "yard", "yard"])
    with pytest.raises(DataError, match="none of 2"):
        evaluate_embeddings(np.ones((2, 4)), np.empty((0, 4)), [1, 2], [])
    with pytest.raises(DataError, match="none of 2"):
        evaluate_embeddings(np.ones((2, 4)), np.ones((1, 4)), [1, 2], [-1])
