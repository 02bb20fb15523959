"""The checked front of the search."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stcanet_runtime import SearchResult, search
from stcanet_runtime.errors import OptionError, ShapeError

QUERY = np.array([[1, 0], [0, 1]], np.float32)
GALLERY = np.array([[0, 2], [1, 1], [3, 0], [1, 1]], np.float32)


@pytest.mark.parametrize("backend", ["auto", "reference", "numpy"])
def test_search_by_hand(backend: str) -> None:
    result = search(QUERY, GALLERY, 3, backend=backend)
    np.testing.assert_array_equal(result.indices, [[2, 1, 3], [0, 1, 3]])
    np.testing.assert_allclose(result.distances, [[0, 1 - 0.5**0.5, 1 - 0.5**0.5]] * 2, atol=1e-7)
    by_length = search(QUERY, GALLERY, 2, "euclidean", backend=backend)
    np.testing.assert_array_equal(by_length.indices, [[1, 3], [0, 1]])


def test_own_camera_is_skipped_and_missing_places_are_marked() -> None:
    result = search(QUERY, GALLERY, 4, q_camids=[0, 5], g_camids=[1, 0, 0, 0])
    np.testing.assert_array_equal(result.indices, [[0, -1, -1, -1], [0, 1, 3, 2]])
    np.testing.assert_array_equal(result.distances[0], np.array([1, np.inf, np.inf, np.inf], np.float32))


@pytest.mark.parametrize(("gallery", "k", "places"), [(GALLERY, 99, 4), (GALLERY, np.int64(2), 2), (GALLERY[:0], 3, 0)])
def test_k_is_cut_to_the_gallery(gallery: Any, k: int, places: int) -> None:
    result = search(QUERY, gallery, k)
    assert isinstance(result, SearchResult)
    assert result.distances.shape == result.indices.shape == (2, places)
    assert result.distances.dtype == np.float32
    assert result.indices.dtype == np.int64


def test_no_queries() -> None:
    assert search(QUERY[:0], GALLERY, 3).indices.shape == (0, 3)


@pytest.mark.parametrize("k", [0, -1, 1.5, "3", None])
def test_bad_k(k: Any) -> None:
    with pytest.raises(OptionError, match="k must be an integer of at least 1") as caught:
        search(QUERY, GALLERY, k)
    assert caught.value.option == "k"


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        ({"q_camids": [0, 1]}, "together"),
        ({"g_camids": [0, 1, 2, 3]}, "together"),
        ({"q_camids": [0], "g_camids": [0, 1, 2, 3]}, r"q_camids must have shape \[2\], got \[1\]"),
        ({"q_camids": [0, 1], "g_camids": [[0, 1, 2, 3]]}, r"g_camids must have shape \[4\], got \[1, 4\]"),
        ({"q_camids": [0.5, 1], "g_camids": [0, 1, 2, 3]}, "integers"),
        ({"q_camids": np.full(2, 2**64 - 1, np.uint64), "g_camids": [-1, 0, 0, 0]}, "q_camids must hold integers below"),
        ({"q_camids": [0, 1], "g_camids": np.ma.masked_equal([0, 1, 2, 3], 2)}, "g_camids must have no masked elements"),
    ],
)
def test_bad_cameras(cameras: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        search(QUERY, GALLERY, 1, **cameras)


class Exporter:
    """A tensor of another library, which gives its numbers by DLPack alone."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__


class Withheld:
    """One whose owner says why it cannot be read as it is: torch, where it requires a gradient, or is of bfloat16."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise self._error


def test_tensors_of_other_libraries() -> None:
    expected = search(QUERY, GALLERY, 2)
    assert search(Exporter(QUERY), GALLERY, 2).indices.tolist() == expected.indices.tolist()  # type: ignore[arg-type]
    on_gpu = Exporter(QUERY)
    on_gpu.__dlpack__ = Withheld(BufferError("no")).__array__
    with pytest.raises(ShapeError, match=r"query must be one array: .* \(of what is on a GPU, give a copy in memory\)"):
        search(on_gpu, GALLERY)  # type: ignore[arg-type]
    for error in (RuntimeError("use detach()"), TypeError("no bfloat16")):
        with pytest.raises(ShapeError, match=rf"query .* array: {re.escape(str(error))}"):
            search(Withheld(error), GALLERY)


def test_bad_embeddings_and_metric() -> None:
    with pytest.raises(ShapeError, match="query"):
        search([1, 0], GALLERY)
    with pytest.raises(ShapeError, match="row 0"):
        search([[np.nan, 0]], GALLERY)
    with pytest.raises(ShapeError, match="query must have no masked elements"):
        search(np.ma.array(QUERY, mask=QUERY > 0), GALLERY)
    assert search(np.ma.array(QUERY, mask=QUERY > 1), GALLERY, 1).indices.tolist() == [[2], [0]]  # nothing is masked
    for gallery in (GALLERY, GALLERY[:0]):
        with pytest.raises(OptionError, match="metric"):
            search(QUERY, gallery, metric="l1")


@pytest.mark.parametrize("queries", [1, 12, 20])  # few are searched in another way
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_float16_storage_gives_the_result_of_the_same_values_in_float32(metric: str, queries: int) -> None:
    rng = np.random.default_rng(5)
    gallery = rng.standard_normal((700, 130)).astype(np.float16)
    gallery[0], gallery[1], gallery[2] = 6e-8, np.float16(2.0**-24), -6e4  # subnormal, the smallest, nearly the largest
    query = gallery[:queries] + np.float16(0.01)
    found = search(query, gallery, 5, metric)
    expected = search(query.astype(np.float32), gallery.astype(np.float32), 5, metric, backend="numpy")
    assert np.array_equal(found.indices, expected.indices)
    assert np.array_equal(found.distances, expected.distances)
