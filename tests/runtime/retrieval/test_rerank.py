"""Re-ranking against an independent dense implementation: every backend and instruction set, every kind of result."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rerank_cases import (
    TOLERANCE,
    assert_same_result,
    dense,
    expected_of,
    market_like,
    noise,
    problems,
    stored_distances,
)

from stcanet_runtime import evaluate, rerank, rerank_distances, rerank_memory
from stcanet_runtime.backends import get_backend, numpy_kreciprocal, reference, weights
from stcanet_runtime.errors import OptionError, ShapeError
from stcanet_runtime.retrieval.kreciprocal import Settings
from stcanet_runtime.retrieval.rerank import Reranking

# ---- the specification --------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(problem=problems())
def test_reference_equals_dense(problem: dict[str, Any]) -> None:
    np.testing.assert_allclose(rerank(**problem, backend="reference"), expected_of(**problem), atol=1e-7)


@settings(max_examples=60)
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


def test_parameters() -> None:
    assert [Settings(k1).half for k1 in (1, 3, 15, 19, 20, 21, 23, 25)] == [0, 2, 8, 10, 10, 10, 12, 12]
    assert [Settings(k1).half for k1 in range(1, 999)] == [int(np.around(k1 / 2)) for k1 in range(1, 999)]
    assert Reranking() == Reranking(20, 6, 0.3)
    assert str(Reranking(5, 2, 0.25)) == "re-ranked (k1 5, k2 2, lambda 0.25)"
    assert Settings(20, 6).list_length(1000) == 21
    assert Settings(3, 6).list_length(1000) == 6
    assert Settings(20, 6).list_length(7) == 7


# ---- every backend ------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(problem=problems())
def test_embeddings(backend: str, problem: dict[str, Any]) -> None:
    actual = rerank(**problem, backend=backend)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, rerank(**problem, backend="reference"), atol=TOLERANCE)


@settings(max_examples=40)
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
    monkeypatch.setattr(weights, "_BLOCK", 500)
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


@pytest.mark.parametrize("many", [2**63, 2**70, 10**400])
def test_more_neighbours_than_an_integer_counts(backend: str, many: int) -> None:
    joint = noise(4, 30, 5).astype(np.float32)
    q, g = joint[:9], joint[9:]
    for name in (backend, "reference"):
        expected = rerank(q, g, 1000, 1000, backend=name)
        np.testing.assert_array_equal(rerank(q, g, many, many, backend=name), expected)
        assert_same_result(rerank(q, g, many, many, top=5, backend=name), rerank(q, g, 1000, 1000, top=5, backend=name))
    assert rerank_memory(9, 21, 5, many, many) == rerank_memory(9, 21, 5, 1000, 1000)


def test_memory_of_parameters_that_rerank_does_not_take() -> None:
    counts = {"k1": 0}, {"k2": 0}, {"top": 0}, {"top": 1.5}, {"top": "3"}, {"num_query": -5}, {"num_gallery": 5.5}, {"dim": 0}
    for wrong in (*counts, {"dtype": "foo"}, {"dtype": np.complex64}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            rerank_memory(**{"num_query": 9, "num_gallery": 21, "dim": 5, **wrong})
    assert rerank_memory(2000, 8000, 5, top=np.int8(30)) == rerank_memory(2000, 8000, 5, top=30)


def test_distances_are_at_most_one(backend: str) -> None:
    """Of the matrix they may be above the largest of the lists, which is exact, and are raised to a power."""
    for seed in range(4):
        x = np.random.default_rng(seed).normal(size=(30, 300)).astype(np.float32)
        for metric in ("cosine", "euclidean"):
            assert rerank(x[:15], x[15:], lambda_value=1, metric=metric, variant="torchreid", backend=backend).max() <= 1


def test_k2_may_exceed_k1(backend: str) -> None:
    q, g, *_ = market_like()
    actual = rerank(q, g, 4, 9, backend=backend)
    np.testing.assert_allclose(actual, dense(stored_distances(), 60, 4, 9, 0.3, 1), atol=TOLERANCE)


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
        ({"lambda_value": "0.3"}, OptionError, "lambda_value"),
        ({"metric": "l1"}, OptionError, "metric must be 'cosine' or 'euclidean'"),
        ({"variant": "fast-reid"}, OptionError, "variant must be 'zhong' or 'torchreid', got 'fast-reid'"),
        ({"variant": ["zhong"]}, OptionError, "variant must be 'zhong' or 'torchreid'"),
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
        ({"q_g": [[1, 2], [3]]}, "q_g must be one array"),
        ({"q_q": np.ones((5, 5))}, r"q_q must have shape \[2, 2\], as q_g has it, got \[5, 5\]"),
        ({"g_g": np.ones((5, 2))}, r"g_g must have shape \[5, 5\]"),
        ({"g_g": np.ones((5, 5), complex)}, "real numbers"),
        ({"q_q": np.array([[0, 1], [-1e-7, 0]])}, r"q_q must hold .* row 1 has others \(from -1e-07 to 0\); clip"),
        ({"q_g": np.full((2, 5), np.nan)}, "row 0"),
        ({"g_g": np.full((5, 5), np.inf)}, "row 0"),
        ({"g_g": np.ma.array(np.ones((5, 5)), mask=np.eye(5))}, "g_g must have no masked elements"),
    ],
)  # fmt: skip
def test_bad_distances(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        rerank_distances(**{"q_g": np.ones((2, 5)), "q_q": np.ones((2, 2)), "g_g": np.ones((5, 5)), **change})
