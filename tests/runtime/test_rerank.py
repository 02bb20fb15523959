"""Re-ranking against an independent dense implementation: every backend and instruction set, every kind of result."""

from __future__ import annotations

import hashlib
import tracemalloc
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stcanet_runtime import SearchResult, evaluate, kreciprocal, rerank, rerank_distances, rerank_memory, rerank_top
from stcanet_runtime.backends import get_backend, numpy_kreciprocal, reference
from stcanet_runtime.backends.neighbours import GalleryLists
from stcanet_runtime.errors import MemoryLimitError, OptionError, ShapeError
from stcanet_runtime.kreciprocal import Settings, encode
from stcanet_runtime.rerank import Reranking
from stcanet_runtime.rerank_memory import MIN_SCRATCH, Task, plan_scratch
from stcanet_runtime.rerank_sources import EmbeddingSource
from stcanet_runtime.rerank_top import TopSelector

Embeddings = NDArray[np.float32]
TOLERANCE = 2e-6
SEEDS = st.integers(0, 2**32 - 1)
POWERS = {("cosine", "zhong"): 1, ("cosine", "torchreid"): 2, ("euclidean", "zhong"): 2, ("euclidean", "torchreid"): 4}


def dense(
    distances: Embeddings, num_query: int, k1: int, k2: int, lambda_value: float, power: int, but: str = ""
) -> NDArray[np.float64]:
    """The method once more, from the paper and with Python's sets; `but` names one thing to do in another way."""
    columns = np.asarray(distances).T if but != "rows" else np.asarray(distances)
    total = len(columns)
    farthest = columns.max(axis=1, keepdims=True).astype(np.float64)
    scaled = columns / np.where((farthest == 0) | (but == "no maximum"), 1.0, farthest)
    scaled = scaled ** (2 * power if but == "squared again" else power)
    rank = np.argsort(columns, axis=1, kind="stable")
    if but == "ties from behind":
        rank = total - 1 - np.argsort(columns[:, ::-1], axis=1, kind="stable")
    more = 0 if but == "k1 columns" else 1
    half = {"half of MATLAB": (k1 + 1) // 2 - 1, "half up": (k1 + 1) // 2}.get(but, int(np.around(k1 / 2)))

    def reciprocal(i: int, k: int) -> set[int]:
        return {int(f) for f in rank[i, : k + more] if i in rank[f, : k + more]}

    v = np.zeros((total, total))
    for i in range(total):
        original = reciprocal(i, k1)
        united = set(original)
        for c in sorted(original, key=list(rank[i]).index) if but != "no expansion" else ():
            near = reciprocal(c, half)
            shared, enough = len(near & (united if but == "growing set" else original)), 2 / 3 * len(near)
            if shared > enough or (but == "not strict" and 3 * shared == 2 * len(near)):
                united |= near
        members = sorted(united or {i})
        v[i, members] = np.exp(-scaled[i, members])
        v[i] /= v[i].sum() if but != "weights not normalised" else 1.0
    if k2 > 1 and but != "no average":
        v = np.array([v[rank[i, :k2]].mean(axis=0) for i in range(total)])
    jaccard = np.empty((num_query, total - num_query))
    for q in range(num_query):
        for g in range(num_query, total):
            overlap = np.minimum(v[q], v[g]).sum()
            jaccard[q, g - num_query] = 1 - overlap / (2 - overlap)
    return np.asarray((1 - lambda_value) * jaccard + lambda_value * scaled[:num_query, num_query:])


def noise(seed: int, *shape: int) -> NDArray[np.int64]:
    """Bell-shaped integers from -30 to 30, the same for all time: SplitMix64, not NumPy's generators."""
    with np.errstate(over="ignore"):
        z = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed << 40)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    parts = [(z >> np.uint64(shift)) & np.uint64(15) for shift in (0, 16, 32, 48)]
    return (np.sum(parts, axis=0).astype(np.int64) - 30).reshape(shape)


@cache
def market_like() -> tuple[Embeddings, Embeddings, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Embeddings, identities and cameras of 60 queries and 300 gallery images: 20 people, 6 cameras, some exact copies."""
    pids, camids = np.arange(360) % 20, np.arange(360) // 20 % 6
    joint = 2 * noise(1, 20, 24)[pids] + noise(2, 6, 24)[camids] + 2 * noise(3, 360, 24)
    joint[140:200] = joint[160:220] = joint[80:140]
    x = joint.astype(np.float32)
    return x[:60], x[60:], pids[:60], pids[60:], camids[:60], camids[60:]


# ---- the specification --------------------------------------------------------------------------------------------


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    """Small problems with clusters, copies and exact ties; sizes from one image on each side."""
    rng = np.random.default_rng(draw(SEEDS))
    rows, cols = draw(st.sampled_from([1, 2, 5, 8])), draw(st.sampled_from([1, 2, 9, 21, 40]))
    depth, kind = draw(st.sampled_from([1, 2, 5, 17])), draw(st.sampled_from(["clusters", "integers", "binary", "identical"]))
    total = rows + cols
    joint = {
        "clusters": lambda: rng.normal(size=(6, depth))[rng.integers(0, 6, total)] + 0.3 * rng.normal(size=(total, depth)),
        "integers": lambda: rng.integers(-2, 3, size=(total, depth)),
        "binary": lambda: rng.integers(0, 2, size=(total, depth)),
        "identical": lambda: np.ones((total, depth)),
    }[kind]().astype(np.float32)
    count = draw(st.integers(0, total))
    joint[rng.integers(0, total, count)] = joint[rng.integers(0, total, count)]
    return {
        "query": joint[:rows],
        "gallery": joint[rows:],
        "k1": draw(st.sampled_from([1, 2, 3, 5, 7, 20, 21, max(1, total - 2), total - 1, total])),
        "k2": draw(st.sampled_from([1, 2, 6, 30])),
        "lambda_value": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "metric": draw(st.sampled_from(["cosine", "euclidean"])),
        "variant": draw(st.sampled_from(["zhong", "torchreid"])),
    }


def expected_of(query: Embeddings, gallery: Embeddings, metric: str, variant: str, **parameters: Any) -> NDArray[np.float64]:
    joint = np.concatenate([query, gallery])
    distances = reference.distance_matrix(joint, joint, metric)
    return dense(distances, len(query), **parameters, power=POWERS[metric, variant])


@settings(max_examples=60, deadline=None)
@given(problem=problems())
def test_reference_equals_dense(problem: dict[str, Any]) -> None:
    np.testing.assert_allclose(rerank(**problem, backend="reference"), expected_of(**problem), atol=1e-7)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 6), cols=st.integers(1, 30), power=st.sampled_from([1, 2, 4]))
def test_reference_of_any_distances_equals_dense(seed: int, rows: int, cols: int, power: int) -> None:
    distances = np.random.default_rng(seed).integers(0, 9, (rows + cols, rows + cols)).astype(np.float32)
    distances[:, 0] *= seed % 2  # a column of zeros has no maximum to divide by
    actual = reference.rerank(distances, rows, 4, 2, 0.3, power)
    np.testing.assert_allclose(actual, dense(distances, rows, 4, 2, 0.3, power), atol=1e-12)


CHOICES = ["rows", "no maximum", "squared again", "ties from behind", "k1 columns", "half of MATLAB", "no expansion"]
CHOICES += ["half up", "growing set", "not strict", "weights not normalised", "no average"]


@pytest.mark.parametrize("but", CHOICES)
def test_every_choice_shows_in_the_stored_case(but: str) -> None:
    """A backend that did it in this way would be found out."""
    distances = stored_distances()
    if but == "rows":
        distances = distances + np.arange(len(distances), dtype=np.float32)[:, None] / 500
    if but == "ties from behind":  # copies are alike in most ways; images at the same distance are not
        distances = np.round(distances, 1)
    k1 = 5 if but == "half up" else 7
    right = reference.rerank(distances, 60, k1, 3, 0.3, 1)
    assert np.abs(dense(distances, 60, k1, 3, 0.3, 1) - right).max() < 1e-7
    assert np.abs(dense(distances, 60, k1, 3, 0.3, 1, but) - right).max() > 1e-3


@cache
def stored_distances() -> Embeddings:
    joint = np.concatenate(market_like()[:2])
    return reference.distance_matrix(joint, joint, "cosine")


def test_parameters() -> None:
    assert [Settings(k1).half for k1 in (1, 3, 15, 19, 20, 21, 23, 25)] == [0, 2, 8, 10, 10, 10, 12, 12]
    assert Reranking() == Reranking(20, 6, 0.3)
    assert str(Reranking(5, 2, 0.25)) == "re-ranked (k1 5, k2 2, lambda 0.25)"
    assert Settings(20, 6).list_length(1000) == 21
    assert Settings(3, 6).list_length(1000) == 6
    assert Settings(20, 6).list_length(7) == 7


# ---- every backend ------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(problem=problems())
def test_embeddings(backend: str, problem: dict[str, Any]) -> None:
    actual = rerank(**problem, backend=backend)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, rerank(**problem, backend="reference"), atol=tolerance(backend, **problem))


def tolerance(backend: str, query: Embeddings, gallery: Embeddings, metric: str, **_: Any) -> float:
    """What a matrix may be off by: float32 products lose digits where the farthest row is close, measured by the longest."""
    if backend != "compiled":
        return TOLERANCE
    joint = np.concatenate([query, gallery])
    longest = 1.0 if metric == "cosine" else float((joint**2).sum(axis=1).max())
    farthest = reference.neighbours(query, gallery, 1, metric).farthest.astype(np.float64)
    gaps = farthest if metric == "cosine" else farthest**2
    return TOLERANCE * max([1.0, *(longest / gaps[gaps > 0])])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    rows=st.sampled_from([1, 2, 6, 25]),
    cols=st.sampled_from([1, 5, 40]),
    levels=st.sampled_from([2, 9, 10**6]),
    k1=st.sampled_from([1, 3, 7, 60]),
    variant=st.sampled_from(["zhong", "torchreid"]),
)
def test_distances(backend: str, seed: int, rows: int, cols: int, levels: int, k1: int, variant: str) -> None:
    """Of any kind: not symmetric, with a diagonal that is not zero, with ties, with columns of zeros."""
    joint = np.random.default_rng(seed).integers(0, levels, (rows + cols, rows + cols)).astype(np.float32)
    joint[rows:, :rows] = joint[:rows, rows:].T
    parts = joint[:rows, rows:], joint[:rows, :rows], joint[rows:, rows:]
    actual = rerank_distances(*parts, k1, 3, 0.3, variant=variant, backend=backend)
    expected = dense(joint, rows, k1, 3, 0.3, 2 if variant == "zhong" else 4)
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE)
    best = rerank_distances(*parts, k1, 3, 0.3, 5, variant=variant, backend=backend)
    values, columns = reference.smallest(actual, min(5, cols))
    np.testing.assert_array_equal(best.distances, values)
    np.testing.assert_array_equal(best.indices, columns)
    np.testing.assert_array_equal(
        rerank_distances(*(part.astype(np.float64) for part in parts), k1, 3, 0.3, variant=variant, backend=backend), actual
    )


GOLDEN = {
    "indices": "1014390320e27e96",
    "distances": "374a20cf7a469e4b",
    "farthest": "40b9b0bbe49d753d",
}
GOLDEN_VALUES = [0.5363021, 0.5421047, 0.5359831, 0.5643786, 0.5164496, 0.3890754, 0.6726539, 0.4761733, 0.4769374, 0.2781103]


def checksum(array: NDArray[Any]) -> str:
    return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()[:16]


def test_stored_case(implementation: Any, backend: str) -> None:
    """A clustered set with copies; lists by checksum, values as the reference gave them."""
    q, g, *_ = market_like()
    found = implementation.bind("neighbours")(q, g, 21, "cosine")
    assert {name: checksum(array) for name, array in found._asdict().items()} == GOLDEN
    result = rerank(q, g, backend=backend)
    np.testing.assert_allclose(result[np.arange(0, 60, 6), np.arange(0, 60, 6)], GOLDEN_VALUES, atol=TOLERANCE)
    np.testing.assert_allclose(result, rerank(q, g, backend="reference"), atol=TOLERANCE)


def test_stored_case_ranks_better_than_before(backend: str) -> None:
    q, g, *ids = market_like()
    plain = evaluate(get_backend(backend).distance_matrix(q, g, "cosine"), *ids)
    better = evaluate(rerank(q, g, backend=backend), *ids)
    assert round(plain.mAP, 4) == 0.5210
    assert round(better.mAP, 4) == 0.6717


def test_blocks_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    q, g, *_ = market_like()
    expected, values, best = rerank(q, g, backend="numpy"), stored_distances(), rerank(q, g, top=5, backend="numpy")
    monkeypatch.setattr(numpy_kreciprocal, "_BLOCK", 2000)
    monkeypatch.setattr(kreciprocal, "_BLOCK", 500)
    np.testing.assert_allclose(rerank(q, g, backend="numpy"), expected, atol=TOLERANCE)
    assert_same_result(rerank(q, g, top=5, backend="numpy"), best)
    np.testing.assert_allclose(expected, dense(values, 60, 20, 6, 0.3, 1), atol=TOLERANCE)


def test_results_do_not_depend_on_threads(compiled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    q, g, *_ = market_like()
    results = []
    for threads in (1, 2, 3, 16):
        monkeypatch.setenv("STCANET_NUM_THREADS", str(threads))
        results.append((rerank(q, g, backend="compiled"), rerank(q, g, top=9, backend="compiled")))
    for matrix, best in results[1:]:
        np.testing.assert_array_equal(matrix, results[0][0])
        np.testing.assert_array_equal(best.distances, results[0][1].distances)
        np.testing.assert_array_equal(best.indices, results[0][1].indices)


# ---- what is easy to get wrong ------------------------------------------------------------------------------------


def test_queries_are_neighbours_too(backend: str) -> None:
    q, g, *_ = market_like()
    assert np.abs(rerank(q, g, backend=backend)[:30] - rerank(q[:30], g, backend=backend)).max() > 1e-3


def test_the_maximum_is_over_queries_too(backend: str) -> None:
    """Of λ = 1 only the scaled distance is left."""
    q, g = np.array([[0], [100]], np.float32), np.array([[10], [20]], np.float32)
    actual = rerank(q, g, lambda_value=1.0, metric="euclidean", backend=backend)
    np.testing.assert_allclose(actual, [[0.01, 0.04], [0.81, 0.64]], rtol=1e-6)


def test_true_distances_are_squared(backend: str) -> None:
    """The three ways to the paper's squared distances agree, and so do those to torchreid's fourth power."""
    q, g, *_ = market_like()
    q, g = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, g))
    pairs = [(a, b) for a, b in ((q, g), (q, q), (g, g))]
    true = [reference.distance_matrix(a, b, "euclidean") for a, b in pairs]
    squared = [x.astype(np.float64) ** 2 for x in true]
    for variant in ("zhong", "torchreid"):
        cosine = rerank(q, g, variant=variant, backend=backend)
        for other in (
            rerank(q, g, metric="euclidean", variant=variant, backend=backend),
            rerank_distances(*true, variant=variant, backend=backend),
        ):
            assert np.quantile(np.abs(cosine - other), 0.99) < 1e-5  # the rest: near-ties that fall otherwise
    fourth = rerank_distances(*squared, backend=backend)
    assert np.quantile(np.abs(fourth - rerank(q, g, variant="torchreid", backend=backend)), 0.99) < 1e-5


def test_copies_beyond_k1_push_a_row_out_of_its_own_list(backend: str) -> None:
    q, g = np.ones((2, 3), np.float32), np.ones((40, 3), np.float32)
    actual = rerank(q, g, 5, 1, 0.3, backend=backend)
    # The lists are rows 0 to 5 for everybody: 0 to 5 are one set, every other row is alone.
    expected = np.where(np.arange(2, 42) <= 5, 0.0, 0.7)
    np.testing.assert_allclose(actual, [expected, expected], atol=TOLERANCE)


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1, 4), (4, 1)])
def test_fewer_rows_than_neighbours(backend: str, rows: int, cols: int) -> None:
    """All are neighbours of all; nothing wraps around or is filled up."""
    joint = np.random.default_rng(rows).normal(size=(rows + cols, 3)).astype(np.float32)
    actual = rerank(joint[:rows], joint[rows:], backend=backend)
    expected = rerank(joint[:rows], joint[rows:], rows + cols - 1, rows + cols, backend="reference")
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE)


def test_k2_may_exceed_k1(backend: str) -> None:
    q, g, *_ = market_like()
    actual = rerank(q, g, 4, 9, backend=backend)
    np.testing.assert_allclose(actual, dense(stored_distances(), 60, 4, 9, 0.3, 1), atol=TOLERANCE)


# ---- the best of every query --------------------------------------------------------------------------------------


def exact_values(problem: dict[str, Any], backend: str) -> Embeddings:
    """Final distances [Q, G] as the selection defines them: from exact distances, rounded once."""
    query, gallery, metric = problem["query"], problem["gallery"], problem["metric"]
    chosen, count = get_backend(backend), len(query)
    source = EmbeddingSource(query, gallery, metric, chosen)
    parameters = Settings(problem["k1"], problem["k2"], problem["lambda_value"], POWERS[metric, problem["variant"]])
    found = source.neighbours(parameters.list_length(count + len(gallery)), None, None, 1 << 20)
    indptr, columns, values = chosen.overlaps(*encode(chosen, found, parameters, source.measure), count)
    overlap = np.zeros((count, len(gallery)))
    overlap[np.repeat(np.arange(count), np.diff(indptr)), columns] = values
    return parameters.final(overlap, reference.distance_matrix(query, gallery, metric), found.farthest[:count, None])


def best_of(values: Embeddings, places: int) -> SearchResult:
    distances, indices = reference.smallest(values, min(places, values.shape[1]))
    return SearchResult(distances, np.where(np.isinf(distances), -1, indices).astype(np.int64))


def assert_same_result(actual: SearchResult, expected: SearchResult) -> None:
    np.testing.assert_array_equal(actual.distances, expected.distances)
    np.testing.assert_array_equal(actual.indices, expected.indices)
    assert actual.distances.dtype == np.float32
    assert actual.indices.dtype == np.int64


@settings(max_examples=60, deadline=None)
@given(
    problem=problems(), top=st.sampled_from([1, 3, 10, 50]), seed=st.none() | st.integers(0, 100), more=st.sampled_from([0, 16])
)
def test_top(backend: str, problem: dict[str, Any], top: int, seed: int | None, more: int) -> None:
    """Exactly the smallest, ties by index, with or without cameras, also where lists are too short to be sure at once."""
    values, cameras = exact_values(problem, backend), {}
    if seed is not None:
        rng = np.random.default_rng(seed)
        cameras = {"q_camids": rng.integers(0, 3, len(values)), "g_camids": rng.integers(0, 3, values.shape[1])}
        values[cameras["q_camids"][:, None] == cameras["g_camids"]] = np.inf
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rerank_top, "list_length", lambda top, num_gallery: min(num_gallery, top + more))
        actual = rerank(**problem, top=top, **cameras, backend=backend)
    assert_same_result(actual, best_of(values, top))


@pytest.mark.parametrize("lambda_value", [0.0, 1e-7, 1e-3, 0.3, 1.0])
@pytest.mark.parametrize(("k1", "k2", "more"), [(20, 6, 16), (3, 1, 16), (3, 1, 0)])
def test_top_of_the_stored_case(
    backend: str, k1: int, k2: int, more: int, lambda_value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """λ near 0 makes ties of everything that does not overlap, and their order must be that of the gallery."""
    monkeypatch.setattr(rerank_top, "list_length", lambda top, num_gallery: min(num_gallery, top + more))
    q, g, _, _, *cameras = market_like()
    problem = {"query": q, "gallery": g, "k1": k1, "k2": k2, "lambda_value": lambda_value}
    problem |= {"metric": "cosine", "variant": "zhong"}
    values = exact_values(problem, backend)
    hidden = np.where(cameras[0][:, None] == cameras[1], np.float32(np.inf), values)
    for top in (1, 20, 100, 299):
        assert_same_result(rerank(**problem, top=top, backend=backend), best_of(values, top))
        actual = rerank(**problem, top=top, q_camids=cameras[0], g_camids=cameras[1], backend=backend)
        assert_same_result(actual, best_of(hidden, top))


def test_top_of_a_tie_outside_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """λ is 0, and both gallery rows overlap with the query alike: the first wins, though the second is the nearer one."""
    monkeypatch.setattr(rerank_top, "list_length", lambda top, _: top)
    source = EmbeddingSource(np.array([[0]], np.float32), np.array([[2], [1]], np.float32), "euclidean", get_backend("numpy"))
    rows = np.array([0, 1, 3, 5]), np.array([0, 0, 1, 0, 2], np.int32), np.array([1, 0.5, 0.5, 0.5, 0.5], np.float32)
    lists = GalleryLists(*source.backend.top_k(source.query, source.gallery, 1, "euclidean"), None, None)
    selector = TopSelector(source, Settings(1, 1, 0.0), rows, np.array([2, 2, 1], np.float32), 1, lists)
    assert selector.select(1 << 20, lambda _: None).indices == [[0]]


def test_top_measures_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole rows are for ties; of what overlaps, only what can win is measured."""
    rows, measured = [], []
    select_row, measure = TopSelector._select_row, EmbeddingSource.measure
    monkeypatch.setattr(TopSelector, "_select_row", lambda self, q, result: (rows.append(q), select_row(self, q, result)))
    monkeypatch.setattr(EmbeddingSource, "measure", lambda self, i, j: (measured.append(len(i)), measure(self, i, j))[1])
    q, g, *_ = market_like()
    rerank(q, g, top=10, backend="numpy")
    assert rows == []
    assert sum(measured[1:]) < 60 * 5  # the first call is for the weights
    rerank(q, g, 3, 1, 0.0, top=200, backend="numpy")
    assert len(rows) == 60


def test_top_agrees_with_the_matrix(backend: str) -> None:
    q, g, *_ = market_like()
    matrix, best = rerank(q, g, backend=backend), rerank(q, g, top=30, backend=backend)
    np.testing.assert_allclose(best.distances, np.sort(matrix, axis=1)[:, :30], atol=TOLERANCE)
    np.testing.assert_allclose(best.distances, np.take_along_axis(matrix, best.indices, axis=1), atol=TOLERANCE)


def test_top_of_distances_with_cameras(backend: str) -> None:
    *_, q_camids, g_camids = market_like()
    joint = stored_distances()
    parts = joint[:60, 60:], joint[:60, :60], joint[60:, 60:]
    values = rerank_distances(*parts, backend=backend)
    values[q_camids[:, None] == g_camids] = np.inf
    actual = rerank_distances(*parts, top=299, q_camids=q_camids, g_camids=g_camids, backend=backend)
    assert_same_result(actual, best_of(values, 299))
    assert (actual.indices[:, -1] == -1).all()


# ---- places, progress, memory -------------------------------------------------------------------------------------


def test_out_is_filled(backend: str) -> None:
    q, g, *_ = market_like()
    out = np.full((60, 300), np.nan, np.float32)
    assert rerank(q, g, out=out, backend=backend) is out
    np.testing.assert_array_equal(out, rerank(q, g, backend=backend))
    joint, again = stored_distances(), np.full((60, 300), np.nan, np.float32)
    parts = joint[:60, 60:], joint[:60, :60], joint[60:, 60:]
    assert rerank_distances(*parts, out=again, backend=backend) is again
    np.testing.assert_array_equal(again, rerank_distances(*parts, backend=backend))


@pytest.mark.parametrize("name", ["reference", "numpy"])
def test_out_of_the_slow_backends(name: str, tmp_path: Path) -> None:
    q, g, *_ = market_like()
    out = np.empty((60, 300), np.float32)
    assert rerank(q, g, out=out, backend=name) is out
    written = np.load(rerank(q, g, out=tmp_path / "a.npy", backend=name))
    np.testing.assert_allclose(written, out, atol=TOLERANCE)
    assert_same_result(best_of(out, 5), best_of(written, 5))


def test_a_file_is_written_block_by_block(backend: str, tmp_path: Path) -> None:
    q, g, *_ = market_like()
    path = tmp_path / "new" / "distances.npy"
    needed = _needed(q, g, out=path, backend=backend)
    assert rerank(q, g, out=str(path), max_memory=needed, backend=backend) == path
    written = np.load(path, mmap_mode="r")
    assert [file.name for file in path.parent.iterdir()] == ["distances.npy"]
    np.testing.assert_allclose(written, rerank(q, g, backend=backend), atol=TOLERANCE)


def _needed(*inputs: Any, **options: Any) -> int:
    with pytest.raises(MemoryLimitError) as caught:
        rerank(*inputs, **options, max_memory=1)
    assert caught.value.limit == 1
    assert "top=" in str(caught.value)
    return caught.value.needed


@pytest.mark.parametrize(
    ("rows", "cols", "depth", "options"),
    [
        (10, 90, 16, {}),
        (300, 1200, 48, {}),
        (300, 1200, 48, {"top": 10}),
        (300, 1200, 48, {"out": "file.npy"}),
        (20, 280, 2048, {}),
        (5, 5000, 1500, {}),
    ],
)
def test_memory_limit_is_kept(
    rows: int, cols: int, depth: int, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NumPy's own allocations show; `benchmarks` measures whole processes. The last case is nearly all copied rows."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    joint = rng.normal(size=(cols // 20, depth)).astype(np.float32)[np.arange(rows + cols) % (cols // 20)]
    joint += rng.normal(size=joint.shape).astype(np.float32)
    q, g = joint[:rows], joint[rows:]
    needed = _needed(q, g, **options, backend="numpy")
    with pytest.raises(MemoryLimitError):
        rerank(q, g, **options, max_memory=needed - 1, backend="numpy")
    estimate = rerank_memory(rows, cols, depth, top=options.get("top"), to_file="out" in options, backend="numpy")
    for limit, allowed in ((needed, needed), (None, estimate)):
        tracemalloc.start()
        rerank(q, g, **options, max_memory=limit, backend="numpy")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert allowed / 5 < peak <= allowed


def test_blocks_follow_the_limit() -> None:
    task = Task(3000, 16000, 256, 21, None, "compiled", 0)
    assert plan_scratch(task, None) == plan_scratch(task, 1 << 40) == task.scratch()
    assert plan_scratch(task, task.fixed_bytes() + MIN_SCRATCH + 5) == MIN_SCRATCH + 5
    with pytest.raises(MemoryLimitError):
        plan_scratch(task, task.fixed_bytes() + MIN_SCRATCH - 1)


def test_memory_of_copies_counts() -> None:
    narrow = rerank_memory(300, 1200, 48, dtype=np.float16)
    assert narrow - rerank_memory(300, 1200, 48) == 1500 * 48 * 4
    x = np.ones((30, 5), np.float16)
    assert _needed(x, x) - _needed(x.astype(np.float32), x.astype(np.float32)) == 60 * 5 * 4


def test_results_do_not_depend_on_the_limit(backend: str) -> None:
    q, g, *_ = market_like()
    limited = rerank(q, g, max_memory=_needed(q, g, backend=backend), backend=backend)
    np.testing.assert_allclose(limited, rerank(q, g, backend=backend), atol=TOLERANCE)
    needed = _needed(q, g, top=7, backend=backend)
    assert_same_result(rerank(q, g, top=7, max_memory=needed, backend=backend), rerank(q, g, top=7, backend=backend))


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


# ---- the front ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reference", "numpy", "auto"])
@pytest.mark.parametrize(("rows", "cols"), [(0, 5), (5, 0), (0, 0)])
def test_empty_sides(name: str, rows: int, cols: int, tmp_path: Path) -> None:
    q, g = np.ones((rows, 3), np.float32), np.ones((cols, 3), np.float32)
    result = rerank(q, g, backend=name)
    assert result.shape == (rows, cols)
    assert result.dtype == np.float32
    best = rerank(q, g, top=2, backend=name)
    assert best.distances.shape == best.indices.shape == (rows, min(2, cols))
    assert np.load(rerank(q, g, out=tmp_path / "a.npy", backend=name)).shape == (rows, cols)
    assert rerank_distances(np.ones((rows, cols)), np.ones((rows, rows)), np.ones((cols, cols)), backend=name).shape == (
        rows,
        cols,
    )


def test_other_types_are_converted(tmp_path: Path) -> None:
    q, g, *_ = market_like()
    expected = rerank(q, g)
    for dtype in (np.float16, np.float64, np.int32):
        np.testing.assert_array_equal(rerank(q.astype(dtype), g.astype(dtype)), expected)
    np.save(tmp_path / "g.npy", g)
    np.testing.assert_array_equal(rerank(q, np.load(tmp_path / "g.npy", mmap_mode="r")), expected)
    np.testing.assert_array_equal(rerank(np.asfortranarray(q), g[::-1][::-1]), expected)


@pytest.mark.parametrize("name", ["reference", "auto"])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"query": np.ones(3)}, ShapeError, r"query must have shape \[N, D\]"),
        ({"query": np.ones((2, 4))}, ShapeError, r"same D, got \[2, 4\] and \[5, 3\]"),
        ({"gallery": np.full((5, 3), np.nan)}, ShapeError, "gallery must be finite"),
        ({"k1": 0}, OptionError, "k1 must be an integer of at least 1, got 0"),
        ({"k1": 2.5}, OptionError, "k1 must be an integer"),
        ({"k2": -1}, OptionError, "k2 must be an integer of at least 1"),
        ({"lambda_value": 1.01}, OptionError, "lambda_value must be a number from 0 to 1, got 1.01"),
        ({"lambda_value": float("nan")}, OptionError, "lambda_value"),
        ({"lambda_value": "much"}, OptionError, "lambda_value"),
        ({"metric": "l1"}, OptionError, "metric must be 'cosine' or 'euclidean'"),
        ({"variant": "fast-reid"}, OptionError, "variant must be 'zhong' or 'torchreid', got 'fast-reid'"),
        ({"top": 0}, OptionError, "top must be an integer of at least 1"),
        ({"max_memory": 0}, OptionError, "max_memory must be an integer of at least 1"),
        ({"q_camids": [0, 1], "g_camids": [0] * 5}, OptionError, "q_camids must be left out without top"),
        ({"q_camids": [0, 1], "top": 3}, ShapeError, "together"),
        ({"q_camids": [0], "g_camids": [0] * 5, "top": 3}, ShapeError, r"q_camids must have shape \[2\]"),
        ({"out": np.empty((2, 5))}, ShapeError, r"float32 array \[2, 5\], got float64"),
        ({"out": np.empty((5, 2), np.float32)}, ShapeError, r"got float32 \[5, 2\]"),
        ({"out": np.empty((5, 2), np.float32).T}, ShapeError, "not contiguous"),
        ({"out": np.broadcast_to(np.float32(0), (2, 5))}, ShapeError, "read-only"),
        ({"out": "distances.bin"}, OptionError, ".npy"),
        ({"out": 3}, OptionError, ".npy"),
        ({"out": np.empty((2, 5), np.float32), "top": 3}, OptionError, "left out together with top"),
    ],
)  # fmt: skip
def test_bad_arguments(name: str, change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rerank(**{"query": np.ones((2, 3)), "gallery": np.ones((5, 3)), "backend": name, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q_g": np.ones(3)}, "q_g must have two dimensions"),
        ({"q_g": [[1, 2], [3]]}, "q_g must be one matrix"),
        ({"q_q": np.ones((5, 5))}, r"q_q must have shape \[2, 2\], as q_g has it, got \[5, 5\]"),
        ({"g_g": np.ones((5, 2))}, r"g_g must have shape \[5, 5\]"),
        ({"g_g": np.ones((5, 5), complex)}, "real numbers"),
        ({"q_q": np.array([[0, 1], [-1e-7, 0]])}, r"q_q must hold .* row 1 has others \(from -1e-07 to 0\); clip"),
        ({"q_g": np.full((2, 5), np.nan)}, "row 0"),
        ({"g_g": np.full((5, 5), np.inf)}, "row 0"),
    ],
)  # fmt: skip
def test_bad_distances(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        rerank_distances(**{"q_g": np.ones((2, 5)), "q_q": np.ones((2, 2)), "g_g": np.ones((5, 5)), **change})
