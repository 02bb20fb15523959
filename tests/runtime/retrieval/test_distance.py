"""The checked front of the distances."""

from __future__ import annotations

import numpy as np
import pytest

from stcanet_runtime import distance_matrix, rerank_distances
from stcanet_runtime.embeddings import MAX_MAGNITUDE, as_embeddings
from stcanet_runtime.errors import OptionError, ShapeError
from stcanet_runtime.retrieval.distance import METRICS


def test_as_embeddings_keeps_what_is_right_already() -> None:
    x = np.ones((3, 4), np.float32)
    assert as_embeddings(x, "x") is x


@pytest.mark.parametrize(
    "x",
    [
        np.ones((3, 4), np.float16),
        np.ones((3, 4), np.float64),
        np.ones((3, 4), np.uint8),
        np.ones((4, 3), np.float32).T,
        np.ones((3, 8), np.float32)[:, ::2],
        np.ones((3, 4), ">f4"),
        np.frombuffer(b"\0" + np.ones(12, np.float32).tobytes(), np.uint8)[1:].view(np.float32).reshape(3, 4),
        [[1, 1, 1, 1]] * 3,
    ],
)
def test_as_embeddings_converts(x: object) -> None:
    result = as_embeddings(x, "x")  # type: ignore[arg-type]
    assert result.dtype == np.float32
    assert result.dtype.isnative
    assert result.flags.c_contiguous
    assert result.flags.aligned
    np.testing.assert_array_equal(result, np.ones((3, 4)))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones(4), r"gallery must have shape \[N, D\] with D >= 1, got \[4\]"),
        (np.ones((2, 3, 4)), r"got \[2, 3, 4\]"),
        (np.ones((2, 0)), r"got \[2, 0\]"),
        (np.ones((2, 2), complex), "complex128"),
        (np.ones((2, 2), bool), "bool"),
        (np.array([["a", "b"]]), "real numbers"),
        ([[1, 2], [3]], "one array"),
        (np.array([[0, 0], [0, np.nan]]), "row 1"),
        (np.array([[np.nan, 0], [0, 0]]), "row 0"),
        (np.array([[0, 0], [-np.inf, 0]], np.float16), "row 1"),
        (np.array([[1e300, 0]]), "row 0"),
    ],
)
def test_as_embeddings_refuses(x: object, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        as_embeddings(x, "gallery")  # type: ignore[arg-type]


def test_largest_magnitude_gives_finite_distances() -> None:
    x = np.full((1, 4096), MAX_MAGNITUDE, np.float64)
    for metric in METRICS:
        assert np.isfinite(distance_matrix(x, -x, metric)).all()


def test_the_limit_as_float32_is_within_the_limit() -> None:
    """float32(1e30) is 1.000000015e30; the next one is refused."""
    x = np.array([[1e30, -1e30]], np.float32)
    assert as_embeddings(x, "x") is x
    assert rerank_distances(-x[:, 1:], [[0]], [[0]]).shape == (1, 1)
    with pytest.raises(ShapeError, match="at most 1e\\+30"):
        as_embeddings(np.nextafter(x, 2 * x), "x")


def test_distances_of_different_depth_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"same D, got \[2, 3\] and \[2, 4\]"):
        distance_matrix(np.ones((2, 3)), np.ones((2, 4)))


def test_unknown_options_are_refused() -> None:
    x = np.ones((2, 3))
    with pytest.raises(OptionError, match="metric must be 'cosine' or 'euclidean', got 'l1'"):
        distance_matrix(x, x, "l1")
    with pytest.raises(OptionError, match="backend must be 'auto'"):
        distance_matrix(x, x, backend="fortran")


@pytest.mark.parametrize("backend", ["auto", "reference", "numpy"])
def test_values(backend: str) -> None:
    q, g = np.array([[1, 0], [0, 0]]), np.array([[2, 0], [0, 3], [-1, 0]])
    np.testing.assert_allclose(distance_matrix(q, g, backend=backend), [[0, 1, 2], [1, 1, 1]], atol=1e-6)
    expected = [[1, np.sqrt(10), 2], [2, 3, 1]]
    np.testing.assert_allclose(distance_matrix(q, g, "euclidean", backend), expected, rtol=1e-6)
