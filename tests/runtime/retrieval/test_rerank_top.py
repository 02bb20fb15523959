"""The best of every query after re-ranking: exactly the smallest, on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rerank_cases import (
    POWERS,
    TOLERANCE,
    Embeddings,
    assert_same_result,
    best_of,
    market_like,
    problems,
    stored_distances,
)

from stcanet_runtime import SearchResult, rerank, rerank_distances
from stcanet_runtime.backends import get_backend, reference
from stcanet_runtime.backends.formulas import final
from stcanet_runtime.backends.neighbours import GalleryLists
from stcanet_runtime.backends.numpy_top import TopSelector
from stcanet_runtime.retrieval import rerank_steps
from stcanet_runtime.retrieval.kreciprocal import Settings, encode
from stcanet_runtime.retrieval.rerank_sources import EmbeddingSource


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
    return final(
        overlap,
        reference.distance_matrix(query, gallery, metric),
        found.farthest[:count, None],
        parameters.power,
        parameters.lambda_value,
    )


@settings(max_examples=60)
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
        patch.setattr(rerank_steps, "shortlist_length", lambda top, num_gallery: min(num_gallery, top + more))
        actual = rerank(**problem, top=top, **cameras, backend=backend)
    assert_same_result(actual, best_of(values, top))


@pytest.mark.parametrize("lambda_value", [0.0, 1e-7, 1e-3, 0.3, 1.0])
@pytest.mark.parametrize(("k1", "k2", "more"), [(20, 6, 16), (3, 1, 16), (3, 1, 0)])
def test_top_of_the_stored_case(
    backend: str, k1: int, k2: int, more: int, lambda_value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """λ near 0 makes ties of everything that does not overlap, and their order must be that of the gallery."""
    monkeypatch.setattr(rerank_steps, "shortlist_length", lambda top, num_gallery: min(num_gallery, top + more))
    q, g, _, _, *cameras = market_like()
    problem = {"query": q, "gallery": g, "k1": k1, "k2": k2, "lambda_value": lambda_value}
    problem |= {"metric": "cosine", "variant": "zhong"}
    values = exact_values(problem, backend)
    hidden = np.where(cameras[0][:, None] == cameras[1], np.float32(np.inf), values)
    for top in (1, 20, 100, 299):
        assert_same_result(rerank(**problem, top=top, backend=backend), best_of(values, top))
        actual = rerank(**problem, top=top, q_camids=cameras[0], g_camids=cameras[1], backend=backend)
        assert_same_result(actual, best_of(hidden, top))


@settings(max_examples=40)
@given(problem=problems(), length=st.integers(1, 12), seed=st.none() | st.integers(0, 100))
def test_best_of_lists_that_are_too_short(implementation: Any, problem: dict[str, Any], length: int, seed: int | None) -> None:
    """The bits of the definition, from lists of any length, by one thread and by several."""
    query, gallery, metric = problem["query"], problem["gallery"], problem["metric"]
    parameters = Settings(problem["k1"], problem["k2"], problem["lambda_value"], POWERS[metric, problem["variant"]])
    found = reference.neighbours(query, gallery, parameters.list_length(len(query) + len(gallery)), metric)
    source = EmbeddingSource(query, gallery, metric, get_backend("numpy"))
    rows, length = encode(source.backend, found, parameters, source.measure), min(length, len(gallery))
    groups: tuple[Any, Any] = (None, None)
    if seed is not None:
        rng = np.random.default_rng(seed)
        groups = rng.integers(0, 3, len(query)), rng.integers(0, 3, len(gallery))
    lists = GalleryLists(*reference.top_k(query, gallery, length, metric, *groups), *groups)
    arguments = (query, gallery, metric, rows, found.farthest, lists, max(1, length - 2))
    expected = reference.select_best(*arguments, parameters.power, parameters.lambda_value)
    for threads in (1, 3):
        actual = implementation.bind("select_best", threads)(*arguments, parameters.power, parameters.lambda_value)
        assert_same_result(SearchResult(*actual), SearchResult(*expected))


def test_top_of_a_tie_outside_the_list(implementation: Any) -> None:
    """λ is 0, and both gallery rows overlap with the query alike: the first wins, though the second is the nearer one."""
    query, gallery = np.array([[0]], np.float32), np.array([[2], [1]], np.float32)
    rows = np.array([0, 1, 3, 5]), np.array([0, 0, 1, 0, 2], np.int32), np.array([1, 0.5, 0.5, 0.5, 0.5], np.float32)
    lists = GalleryLists(*reference.top_k(query, gallery, 1, "euclidean"), None, None)
    farthest = np.array([2, 2, 1], np.float32)
    assert implementation.bind("select_best")(query, gallery, "euclidean", rows, farthest, lists, 1, 1, 0.0)[1] == [[0]]


def test_top_measures_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole rows are for ties; of what overlaps, only what can win is measured."""
    rows, measured = [], []
    select_row, measured_values = TopSelector._select_row, TopSelector._measured
    monkeypatch.setattr(TopSelector, "_select_row", lambda self, q, *out: (rows.append(q), select_row(self, q, *out)))
    monkeypatch.setattr(
        TopSelector, "_measured", lambda self, *pairs: (measured.append(len(pairs[1])), measured_values(self, *pairs))[1]
    )
    q, g, *_ = market_like()
    rerank(q, g, top=10, backend="numpy")
    assert rows == []
    assert sum(measured) < 60 * 5
    rerank(q, g, 3, 1, 0.0, top=200, backend="numpy")
    assert len(rows) == 60


def test_top_is_the_same_on_every_backend(backend: str) -> None:
    q, g, *_ = market_like()
    assert_same_result(rerank(q, g, top=40, backend=backend), rerank(q, g, top=40, backend="numpy"))


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
