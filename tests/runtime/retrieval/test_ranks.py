"""Ranks and counts of every backend and instruction set against the specification, and that against sorting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from implementations import SMALLEST, TINIEST
from numpy.typing import NDArray

from stcanet_runtime.backends import numpy_, reference
from stcanet_runtime.backends.matches import Thresholds, Truth

METRICS = ("cosine", "euclidean")
INF = np.inf


@pytest.fixture(scope="module")
def ranks(implementation: Any) -> Callable[..., Any]:
    return implementation.bind("ranks")  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def count_closer(implementation: Any) -> Callable[..., Any]:
    return implementation.bind("count_closer")  # type: ignore[no-any-return]


# ---- ranks from a matrix ------------------------------------------------------------------------------------------


def sorted_ranks(distances: NDArray[Any], truth: Truth) -> NDArray[np.int64]:
    """What evaluation did before it counted: sort what each query sees."""
    result = [np.empty(0, np.int64)]
    for i, row in enumerate(distances):
        visible, match = np.ones(len(row), np.bool_), np.zeros(len(row), np.bool_)
        visible[truth.hidden_of(i)] = visible[truth.junk] = False
        match[truth.matches_of(i)] = True
        order = np.argsort(row[visible], kind="stable")
        result.append(np.flatnonzero(match[visible][order]) + 1)
    return np.concatenate(result)


def starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def make_truth(rng: np.random.Generator, rows: int, cols: int, matches: int, hidden: int, junk: int) -> Truth:
    """Up to so many of each for a query, drawn without overlap, in ascending order."""
    drawn = [rng.permutation(cols) for _ in range(rows)]
    trash = np.sort(rng.permutation(cols)[:junk])
    kept = [list[int]() for _ in range(2)]
    counts = [list[int]() for _ in range(2)]
    for order in drawn:
        free = order[~np.isin(order, trash)]
        for part, chosen in enumerate((free[:matches], free[matches : matches + hidden])):
            chosen = np.sort(chosen[: rng.integers(0, len(chosen) + 1)]) if rng.random() < 0.3 else np.sort(chosen)
            kept[part] += chosen.tolist()
            counts[part].append(len(chosen))
    lists = [np.array(x, np.int64) for x in kept]
    return Truth(starts(np.array(counts[0])), lists[0], starts(np.array(counts[1])), lists[1], trash.astype(np.int64))


@st.composite
def matrices(draw: st.DrawFn) -> tuple[NDArray[Any], Truth]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, cols = draw(st.integers(0, 5)), draw(st.sampled_from([0, 1, 2, 7, 15, 16, 17, 40, 255, 256, 257, 300]))
    kind = draw(st.sampled_from(["few", "random", "special"]))
    values = {
        "few": lambda: rng.integers(0, 4, (rows, cols)).astype(np.float64),
        "random": lambda: rng.normal(size=(rows, cols)),
        "special": lambda: rng.choice([0.0, -0.0, INF, -INF, SMALLEST, -SMALLEST, 1.0, -1.0, 3.4e38], (rows, cols)),
    }[kind]()
    sizes = [draw(st.sampled_from([0, 1, 3, 8, 9, 20])) for _ in range(3)]
    return values.astype(draw(st.sampled_from([np.float32, np.float64]))), make_truth(rng, rows, cols, *sizes)


@settings(max_examples=200)
@given(problem=matrices())
def test_ranks_equal_sorting(ranks: Callable[..., Any], problem: tuple[NDArray[Any], Truth]) -> None:
    expected = sorted_ranks(*problem)
    for result in (ranks(*problem), reference.ranks(*problem)):
        np.testing.assert_array_equal(result, expected)
        assert result.dtype == np.int64


# Around the chunks (2048) and units (2^19 distances) of ranks.cpp.
@pytest.mark.parametrize("cols", [2047, 2048, 2049, 2303, 2304, 2305, 4097])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ranks_around_block_sizes(ranks: Callable[..., Any], cols: int, dtype: Any) -> None:
    rng = np.random.default_rng(cols)
    for rows, junk in ((3, 0), (3, 2100 if cols > 2100 else 5)):
        distances = rng.integers(0, 30, (rows, cols)).astype(dtype)
        truth = make_truth(rng, rows, cols, 17, 9, junk)
        np.testing.assert_array_equal(ranks(distances, truth), sorted_ranks(distances, truth))


def test_ranks_where_every_image_is_a_match_or_tied(ranks: Callable[..., Any]) -> None:
    distances = np.zeros((2, 700), np.float32)
    everything = np.arange(700)
    truth = Truth(
        np.array([0, 700, 1000]),
        np.concatenate([everything, everything[::-1][:300][::-1]]),
        np.array([0, 0, 100]),
        everything[50:150],
        np.array([10, 20]),
    )
    # Query 0 would have its junk among its matches, which evaluation never does.
    truth = truth._replace(junk=np.empty(0, np.int64))
    result = ranks(distances, truth)
    np.testing.assert_array_equal(result[:700], everything + 1)
    np.testing.assert_array_equal(result[700:], np.arange(400, 700) + 1 - 100)


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_ranks_do_not_depend_on_threads(compiled: Any, threads: int) -> None:
    rng = np.random.default_rng(1)
    distances = rng.integers(0, 50, (700, 3000)).astype(np.float32)  # four units
    truth = make_truth(rng, 700, 3000, 12, 4, 50)
    np.testing.assert_array_equal(compiled.ranks(distances, truth, threads=threads), sorted_ranks(distances, truth))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cols", [1, 5, 16, 17, 2100])
def test_ranks_find_a_nan_anywhere(ranks: Callable[..., Any], cols: int, dtype: Any) -> None:
    rng = np.random.default_rng(cols)
    truth = make_truth(rng, 3, cols, 0, 0, min(1, cols - 1))  # no matches at all: every value is looked at nevertheless
    for sign in (1.0, -1.0):
        for column in {0, cols // 2, cols - 1, *truth.junk.tolist()}:
            for row in range(3):
                distances = rng.random((3, cols)).astype(dtype)
                assert ranks(distances, truth) is not None
                distances[row, column] = np.copysign(np.nan, sign)
                assert ranks(distances, truth) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distances": np.zeros(3, np.float32)}, r"distances must have shape \[Q, G\]"),
        ({"match_start": np.array([0, 1])}, r"the starts of matches must have shape \[Q \+ 1\]"),
        ({"match_start": np.array([0, 2, 1])}, "the starts of matches must ascend"),
        ({"match_start": np.array([0, 2, 3])}, "the starts of matches must ascend from 0 to their number"),
        ({"hidden_start": np.array([1, 1, 1])}, "the starts of hidden must ascend"),
        ({"matches": np.array([3])}, "matches must be a list of gallery indices"),
        ({"matches": np.array([-1])}, "matches must be a list of gallery indices"),
        ({"junk": np.array([5])}, "junk must be a list of gallery indices"),
    ],
)
def test_kernels_check_lists(compiled: Any, change: dict[str, Any], message: str) -> None:
    from stcanet_runtime import _kernels

    nothing = np.empty(0, np.int64)
    arguments = {
        "distances": np.zeros((2, 3), np.float32),
        "match_start": np.array([0, 1, 1]),
        "matches": np.array([2]),
        "hidden_start": np.zeros(3, np.int64),
        "hidden": nothing,
        "junk": nothing,
    }
    assert _kernels.ranks(**arguments) is not None  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        _kernels.ranks(**{**arguments, **change})  # type: ignore[arg-type]


# ---- counts from embeddings ---------------------------------------------------------------------------------------


def test_reference_by_hand() -> None:
    query, gallery = np.zeros((2, 1), np.float32), np.array([[3], [1], [2], [1], [4]], np.float32)
    thresholds = Thresholds(np.array([0, 4, 5]), np.array([0, 1, 1, 2.5, 9], np.float32), np.array([0, 1, 9, -3, 0]))
    np.testing.assert_array_equal(reference.count_closer(query, gallery, thresholds, "euclidean"), [0, 0, 2, 3, 5])
    nan = np.array([[0, np.nan]], np.float32)
    nothing = np.zeros(2, np.int64), np.empty(0, np.int64)
    assert reference.ranks(nan, Truth(*nothing, *nothing, np.array([1]))) is None


def thresholds_of(
    rng: np.random.Generator, query: NDArray[np.float32], gallery: NDArray[np.float32], metric: str, most: int
) -> Thresholds:
    """Distances of gallery rows, their neighbours in float32, and others; at their own place, at others and outside."""
    counts, distances, places = [], [np.empty(0, np.float32)], [np.empty(0, np.int64)]
    for row in query:
        n = int(rng.integers(0, most + 1)) if len(gallery) else 0
        own = rng.integers(0, max(1, len(gallery)), n)
        d = reference.distance_matrix(row[None], gallery, metric)[0][own] if n else np.empty(0, np.float32)
        d = np.nextafter(d, rng.choice(np.array([0, INF], np.float32), n)) if rng.random() < 0.3 else d
        d = np.where(d < SMALLEST, np.float32(0), d)
        p = np.where(rng.random(n) < 0.7, own, rng.integers(-5, len(gallery) + 5, n))
        order = np.lexsort((p, d))
        counts.append(n)
        distances.append(d[order])
        places.append(p[order])
    return Thresholds(starts(np.array(counts)), np.concatenate(distances), np.concatenate(places))


@st.composite
def embeddings(draw: st.DrawFn) -> dict[str, Any]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, cols, depth = draw(st.integers(0, 6)), draw(st.integers(0, 60)), draw(st.sampled_from([1, 2, 15, 16, 17, 40]))
    both = {
        "gaussian": lambda: rng.normal(size=(rows + cols, depth)),
        "integers": lambda: rng.integers(-2, 3, (rows + cols, depth)),
        "near": lambda: 1.0 + 1e-6 * rng.normal(size=(rows + cols, depth)),
        "clusters": lambda: rng.normal(size=(4, depth))[rng.integers(0, 4, rows + cols)],
    }[draw(st.sampled_from(["gaussian", "integers", "near", "clusters"]))]().astype(np.float32)
    both *= np.float32(draw(st.sampled_from([1.0, TINIEST, 1e-3, 1e29])))
    metric = draw(st.sampled_from(METRICS))
    query, gallery = both[:rows], both[rows:]
    return {
        "query": query,
        "gallery": gallery,
        "thresholds": thresholds_of(rng, query, gallery, metric, draw(st.sampled_from([0, 1, 5, 20]))),
        "metric": metric,
        "scratch_bytes": draw(st.sampled_from([1, 1000, 1 << 20])),
    }


@settings(max_examples=150)
@given(problem=embeddings())
def test_counts_equal_reference(count_closer: Callable[..., Any], problem: dict[str, Any]) -> None:
    result = count_closer(**problem)
    np.testing.assert_array_equal(result, reference.count_closer(**problem))
    assert result.dtype == np.int64


# Around the blocks of sweep.hpp (384), its chains (128) and the tiles of 4 to 48.
@pytest.mark.parametrize(
    ("rows", "cols", "depth"),
    [(1, 1, 1), (3, 47, 127), (4, 48, 128), (5, 49, 129), (383, 385, 2), (385, 383, 3), (2, 1200, 5), (3, 100, 2048)],
)
@pytest.mark.parametrize("metric", METRICS)
def test_counts_around_block_sizes(count_closer: Callable[..., Any], rows: int, cols: int, depth: int, metric: str) -> None:
    rng = np.random.default_rng(rows + cols)
    query, gallery = (rng.normal(size=(n, depth)).astype(np.float32) for n in (rows, cols))
    gallery[rng.integers(0, cols, cols // 3)] = gallery[rng.integers(0, cols, cols // 3)]
    thresholds = thresholds_of(rng, query, gallery, metric, 6)
    expected = reference.count_closer(query, gallery, thresholds, metric)
    smallest = 1 if rows < 10 else 1 << 12  # 1: each pair by itself, which takes NumPy a second for 5,000
    for scratch in (smallest, 1 << 24):
        result = count_closer(query, gallery, thresholds, metric, scratch_bytes=scratch)
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("spread", [3e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("metric", METRICS)
def test_counts_where_float32_cannot_order(count_closer: Callable[..., Any], metric: str, spread: float) -> None:
    """Distances differ by less than the error of a float32 product: what the bound lets through decides."""
    rng = np.random.default_rng(5)
    base = rng.normal(size=512)
    gallery = (base + spread * rng.normal(size=(900, 512))).astype(np.float32)
    query = (base + spread * rng.normal(size=(5, 512)) + rng.normal(size=512)).astype(np.float32)
    thresholds = thresholds_of(rng, query, gallery, metric, 30)
    expected = reference.count_closer(query, gallery, thresholds, metric)
    plain = _float32_distances(query, gallery, metric)
    k = np.repeat(np.arange(5), np.diff(thresholds.start))
    guess = (plain[k] < plain[k, np.clip(thresholds.places, 0, 899)][:, None]).sum(axis=1)
    assert (guess != expected).mean() > 0.3, "the case is too easy to show anything"
    np.testing.assert_array_equal(count_closer(query, gallery, thresholds, metric), expected)


def test_counts_where_float64_products_cancel(count_closer: Callable[..., Any]) -> None:
    """Distances just above those that NumPy measures by the definition: rounding to float32 goes the other way at times."""
    rng = np.random.default_rng(6)
    base = rng.normal(size=64)
    base /= np.linalg.norm(base)
    query, gallery = ((base + 2e-4 * rng.normal(size=(count, 64))).astype(np.float32) for count in (60, 700))
    distances = reference.distance_matrix(query, gallery, "euclidean")
    order = np.argsort(distances, axis=1, kind="stable")
    limits = np.take_along_axis(distances, order, axis=1)
    thresholds = Thresholds(np.arange(61) * 700, limits.ravel(), order.ravel())
    approximate = numpy_.distance_matrix(query, gallery, "euclidean")
    assert 10 < (approximate != distances).sum() < distances.size / 10, "the case shows nothing"
    expected = np.tile(np.arange(700), 60)
    np.testing.assert_array_equal(count_closer(query, gallery, thresholds, "euclidean"), expected)


def _float32_distances(q: NDArray[np.float32], g: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    if metric == "euclidean":
        return np.asarray((q * q).sum(1)[:, None] + (g * g).sum(1) - 2 * (q @ g.T))
    unit_q, unit_g = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, g))
    return np.asarray(1 - unit_q @ unit_g.T)


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_counts_do_not_depend_on_threads(compiled: Any, threads: int) -> None:
    rng = np.random.default_rng(11)
    query, gallery = rng.normal(size=(400, 20)).astype(np.float32), rng.normal(size=(1700, 20)).astype(np.float32)
    gallery[::3] = gallery[0]
    thresholds = thresholds_of(rng, query, gallery, "cosine", 8)
    one = compiled.count_closer(query, gallery, thresholds, "cosine", threads=1)
    np.testing.assert_array_equal(compiled.count_closer(query, gallery, thresholds, "cosine", threads=threads), one)


def test_counts_report_progress_and_stop(count_closer: Callable[..., Any]) -> None:
    rng = np.random.default_rng(3)
    query, gallery = rng.normal(size=(500, 8)).astype(np.float32), rng.normal(size=(900, 8)).astype(np.float32)
    thresholds = thresholds_of(rng, query, gallery, "cosine", 2)
    told: list[tuple[int, int]] = []
    count_closer(
        query, gallery, thresholds, "cosine", progress=lambda done, total: told.append((done, total)), scratch_bytes=1 << 14
    )
    assert len(told) > 2  # panels of one block: the calling thread takes each, and it alone tells of its blocks
    assert told == sorted(told)
    assert told[-1][0] <= told[-1][1]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        count_closer(query, gallery, thresholds, "cosine", progress=stop)


def test_kernels_check_thresholds(compiled: Any) -> None:
    rows = np.zeros((2, 3), np.float32)
    good = Thresholds(np.array([0, 1, 1]), np.zeros(1, np.float32), np.zeros(1, np.int64))
    compiled.count_closer(rows, rows, good, "cosine")
    with pytest.raises(ValueError, match="the starts of thresholds"):
        compiled.count_closer(rows, rows, good._replace(start=np.array([0, 1])), "cosine")
    with pytest.raises(ValueError, match=r"distances and places must both be \[M\]"):
        compiled.count_closer(rows, rows, good._replace(places=np.zeros(2, np.int64)), "cosine")
    with pytest.raises(TypeError):
        compiled.count_closer(rows, rows, good._replace(distances=np.zeros(1)), "cosine")  # type: ignore[arg-type]
