"""What is the GPU backend's own: its kernels one by one, where arrays lie, and what it says where it cannot run.

All that it shares with the other backends is tested with theirs: the fixture `implementation` has it on a model of a GPU.
"""

from __future__ import annotations

import sys
from typing import Any

import gpu_model
import numpy as np
import pytest
from numpy.typing import NDArray
from rerank_cases import TOLERANCE, assert_same_result, market_like

from stcanet_runtime import rerank, search
from stcanet_runtime.backends import (
    AUTO_ORDER,
    explain,
    get_backend,
    gpu,
    gpu_arrays,
    gpu_device,
    gpu_ranks,
    gpu_search,
    reference,
)
from stcanet_runtime.backends.matches import Thresholds, Truth
from stcanet_runtime.errors import BackendError, ShapeError

pytestmark = pytest.mark.skipif(gpu_model.COMPILER is None, reason="no C++ compiler for the kernels on the CPU")


def gaussian(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> gpu_model.Model:
    found = gpu_model.Model()
    monkeypatch.setattr(gpu_device, "device", lambda: found)
    monkeypatch.setattr("stcanet_runtime.backends._PROBES", {"gpu": lambda: None, "numpy": lambda: None})
    return found


# ---- kernels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 15, 16, 17, 70])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_sixteen_lanes_give_the_sum_of_the_definition(metric: str, depth: int) -> None:
    """As on a GPU: threads of a warp that exchange their sums; elsewhere in the tests one thread does it all."""
    query, gallery = gaussian(1, 2, depth), gaussian(2, 3, depth)
    joint = gpu_search.JointRows(gpu_model.Model("lanes"), query, gallery, metric)
    rows, cols = (
        joint.device.xp.asarray(places, np.int32) for places in ([0, 4, 3], [2, 1, 3])
    )  # an odd number: half a warp is idle
    expected = reference.pair_distances(query, gallery, np.array([0, 4, 3]), np.array([2, 1, 3]), metric)
    np.testing.assert_array_equal(joint.device.get(joint.measure(rows, cols, 0, 0)), expected)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("close", [False, True])
def test_keys_tell_distances_and_close_rows_are_seen_from_their_mean(model: Any, metric: str, close: bool) -> None:
    joint = gaussian(11, 300, 257)
    query, gallery = np.split(1 + np.float32(1e-3) * joint if close else joint, [60])
    screen = gpu_search.make_screen(gpu_search.JointRows(model, query, gallery, metric), itself=False)
    keys = np.concatenate([model.get(products) for _, products in screen.blocks(1 << 15)])
    keys = keys if screen.offset is None else keys + model.get(screen.offset)
    distances = np.float64(reference.distance_matrix(query, gallery, metric))
    squared = 2 * distances if metric == "cosine" else distances**2
    assert np.abs(screen.unit**2 * squared - model.get(screen.own)[:, None] - keys).max() < screen.window
    candidates = (keys <= np.sort(keys, axis=1)[:, 20:21] + screen.window).sum(axis=1)
    assert candidates.max() < 40


@pytest.mark.parametrize("piece", [1, 7, 299, 300])
@pytest.mark.parametrize("case", ["plain", "offset", "hidden"])
def test_all_between_the_limits_is_collected_whatever_pieces_rows_are_in(
    model: Any, piece: int, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_search, "_PIECE", piece)
    products = model.xp.asarray(gaussian(15, 4, 303))
    offset = model.xp.asarray(gaussian(16, 303)) if case == "offset" else None
    groups = (model.xp.arange(4), model.xp.arange(300) % 7) if case == "hidden" else (None, None)
    keys = gpu_search.Keys(products, 2, 300, offset, *groups)
    near, far = model.xp.asarray(np.float32([-1, -2, 0, -9])), model.xp.asarray(np.float32([2, 1, 0, 9]))
    for most in (None, far):
        found = set()
        for part, _, rows, cols in gpu_search.candidates(model, keys, near, most, 16 * 200):
            pairs = list(zip((rows + part.start).tolist(), cols.tolist(), strict=True))
            assert len(set(pairs)) == len(pairs)
            found |= set(pairs)
        values = (products if offset is None else products + offset)[:, 2:302]
        expected = (values <= near[:, None]) | (values >= (np.inf if most is None else most[:, None]))
        if case == "hidden":
            expected &= groups[0][:, None] != groups[1]
        assert found == set(zip(*map(np.ndarray.tolist, np.nonzero(np.asarray(expected))), strict=True))


@pytest.mark.parametrize("piece", [7, 16384])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_evaluation_measures_what_the_screen_leaves_open(
    model: Any, metric: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_search, "_PIECE", piece)
    query, gallery = np.split(gaussian(12, 330, 257), [30])
    places = np.arange(30) * 10
    distances = reference.pair_distances(query, gallery, np.arange(30), 30 + places, metric)
    thresholds = Thresholds(np.arange(31), distances, places)
    measured: list[int] = []
    launch = model.launch

    def watched(name: str, count: int, *arguments: Any) -> None:
        measured.extend([count] if name == "measure" else [])
        launch(name, count, *arguments)

    monkeypatch.setattr(model, "launch", watched)
    counts = gpu.count_closer(query, gallery, thresholds, metric, scratch_bytes=1 << 14)
    np.testing.assert_array_equal(counts, reference.count_closer(query, gallery, thresholds, metric))
    assert 30 <= sum(measured) < 0.1 * 30 * 300


def test_ranks_of_many_blocks(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    distances = np.random.default_rng(13).integers(0, 9, (23, 40)).astype(np.float32)  # with ties
    truth = Truth(np.arange(24) * 2, np.tile([3, 17], 23), np.arange(24), np.full(23, 5), np.array([8, 30]))
    monkeypatch.setattr(gpu_ranks, "DEFAULT_SCRATCH", 24 * 40 * 4)
    np.testing.assert_array_equal(gpu.ranks(distances, truth), reference.ranks(distances, truth))
    distances[20, 0] = np.nan
    assert gpu.ranks(distances, truth) is None


@pytest.mark.parametrize("columns", [1, 3, 256, 257, 3000])
def test_limits_hold_the_kth_key_and_no_more_than_the_window(model: Any, columns: int) -> None:
    products, offset = model.xp.asarray(gaussian(3, 4, columns + 2)), model.xp.asarray(np.abs(gaussian(4, columns + 2)))
    groups = model.xp.arange(4), model.xp.arange(columns) % 7
    hidden = groups[0][:, None] == groups[1]
    values = np.where(hidden, np.inf, (products + offset)[:, 2:])
    for k in {1, min(20, columns), columns}:
        keys = gpu_search.Keys(products, 2, columns, offset, *groups)
        near, _ = gpu_search.limits(model, keys, k, 0.25, far=False)
        kth = np.sort(values, axis=1)[:, k - 1]
        assert (near >= kth + np.float32(0.25)).all()
        if columns > 20 > k:  # close to it, so that little is measured
            finite = np.isfinite(kth)
            assert ((values[finite] <= near[finite, None] - 0.25).sum(axis=1) <= 2 * k + 2).all()
    _, far = gpu_search.limits(model, gpu_search.Keys(products, 2, columns, None, None, None), 1, 0.25, far=True)
    np.testing.assert_array_equal(far, products[:, 2:].max(axis=1) - np.float32(0.25))


@pytest.mark.parametrize("depth", [1, 64, 2048])
def test_error_of_a_float16_product(depth: int) -> None:
    """The bound holds, also where most of a row is subnormal in float16, and is not far above what rounding alone can do."""
    rng, worst = np.random.default_rng(depth), 0.0
    for spread in (1.0, 30.0):
        x, y = (rng.normal(size=(50, depth)) * np.exp(spread * rng.uniform(-1, 0, (50, depth))) for _ in range(2))
        x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
        half = gpu_model.Model().products(x.astype(np.float16), y.astype(np.float16))
        worst = max(worst, float(np.abs(half / -2.0 - x @ y.T).max()))
    assert worst < gpu_search.half_error(depth) < 0.002
    assert gpu_search.half_error(1 << 22) == np.inf


@pytest.mark.usefixtures("model")
def test_without_the_window_the_lists_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the screen is coarse shows: it is the bound that makes the lists exact."""
    query = np.eye(1, 64, dtype=np.float32)
    gallery = gaussian(5, 200, 64)
    gallery *= np.float32(0.75**0.5) / np.linalg.norm(gallery[:, 1:], axis=1, keepdims=True)
    gallery[:, 0] = 0.5 + 1e-5 * gaussian(6, 200)  # keys near 0, where their rounding hides nothing
    expected = reference.top_k(query, gallery, 8, "euclidean")
    np.testing.assert_array_equal(gpu.top_k(query, gallery, 8, "euclidean")[1], expected[1])
    monkeypatch.setattr(gpu_search.screen, "window", lambda *_: 0.0)
    assert (gpu.top_k(query, gallery, 8, "euclidean")[1] != expected[1]).any()


# ---- where arrays lie ---------------------------------------------------------------------------------------------


class Exporter:
    """A tensor of another library."""

    def __init__(self, array: NDArray[Any], kind: int) -> None:
        self.array, self._kind = array, kind

    def __dlpack__(self, **_: Any) -> Any:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._kind, 0

    def __array__(self, *_: Any, **__: Any) -> Any:
        if self._kind == 2:
            raise TypeError("implicit conversion is not allowed")
        return self.array


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("kind", [1, 2])
def test_tensors_of_other_libraries(kind: int) -> None:
    """In memory and on a GPU; the other backends say what to do with the latter."""
    q, g, *_ = market_like()
    expected = search(q, g, 5, backend="numpy")
    assert_same_result(search(Exporter(q, kind), Exporter(g, kind), 5, backend="gpu"), expected)
    if kind == 2:
        with pytest.raises(ShapeError, match="give a copy in memory, or take backend='gpu' for distances, search or"):
            search(Exporter(q, kind), g, backend="numpy")


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros(3, np.float32), r"shape \[N, D\]"),
        (np.zeros((2, 3), bool), "real numbers"),
        (np.full((2, 3), np.nan, np.float32), "finite"),
        (np.full((2, 3), 1e31, np.float32), "1e\\+30"),
    ],
)
def test_what_is_on_the_device_is_checked_there(bad: NDArray[Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        gpu.as_embeddings(Exporter(bad, 2), "query")


@pytest.mark.usefixtures("model")
def test_lists_stay_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `top`, only numbers of candidates come to memory between the embeddings and the result."""
    q, g, *_ = market_like()
    given, as_given = [], gpu_arrays.as_given
    monkeypatch.setattr(gpu, "as_given", lambda device, like, *arrays: given.append(like) or as_given(device, like, *arrays))
    assert_same_result(rerank(q, g, top=10, backend="gpu"), rerank(q, g, top=10, backend="numpy"))
    assert len(given) >= 4
    assert all(isinstance(array, gpu_model.DeviceArray) for array in given)


@pytest.mark.usefixtures("model")
def test_memory_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """No block of keys is larger than the scratch, however many images there are."""
    sizes, products = [], gpu_model.Model.products
    monkeypatch.setattr(
        gpu_model.Model, "products", lambda self, a, b: sizes.append(4 * len(a) * len(b)) or products(self, a, b)
    )
    x = gaussian(7, 300, 8)
    gpu.neighbours(x[:50], x[50:], 5, "cosine", scratch_bytes=1 << 16)
    assert len(sizes) > 5
    assert max(sizes) <= 1 << 16


# ---- where it cannot run ------------------------------------------------------------------------------------------


def test_a_named_backend_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "gpu" not in AUTO_ORDER
    assert not explain().startswith("gpu")
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(gpu_device.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BackendError, match="'gpu' cannot run: CuPy is not installed; install CuPy"):
        get_backend("gpu")


def test_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    class Runtime:
        @staticmethod
        def getDeviceCount() -> int:  # noqa: N802
            raise RuntimeError("cudaErrorInsufficientDriver: too old\nmore")

    cupy = type("cupy", (), {"cuda": type("cuda", (), {"runtime": Runtime})})
    monkeypatch.setattr(gpu_device.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert gpu_device.why_not() == "CuPy finds no GPU: cudaErrorInsufficientDriver: too old"
    Runtime.getDeviceCount = staticmethod(lambda: 0)  # type: ignore[method-assign]
    assert gpu_device.why_not() == "CuPy finds no GPU"
    Runtime.getDeviceCount = staticmethod(lambda: 1)  # type: ignore[method-assign]
    cupy.cuda.cublas = "cuBLAS"  # type: ignore[attr-defined]

    def missing() -> None:
        raise ImportError("Failure finding libnvrtc\nmore")

    cupy.cuda.nvrtc = type("nvrtc", (), {"getVersion": staticmethod(missing)})  # type: ignore[attr-defined]
    assert gpu_device.why_not() == "CuPy does not find a library of CUDA: Failure finding libnvrtc"
    cupy.cuda.nvrtc.getVersion = lambda: (13, 0)  # type: ignore[attr-defined]
    assert gpu_device.why_not() is None


# ---- the real thing -----------------------------------------------------------------------------------------------

no_gpu = gpu_device.why_not()


@pytest.mark.gpu
@pytest.mark.skipif(no_gpu is not None, reason=str(no_gpu))
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_on_a_gpu(metric: str) -> None:
    import cupy

    rng = np.random.default_rng(8)
    x = (rng.normal(size=(60, 2048))[rng.integers(0, 60, 3000)] + rng.normal(size=(3000, 2048))).astype(np.float32)
    x[2000:2100] = x[100:200]
    q, g = x[:400], x[400:]
    near, expected = gpu.neighbours(q, g, 21, metric), get_backend("numpy").neighbours(q, g, 21, metric)
    for one, other in zip(near, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    best = rerank(q, g, top=100, metric=metric, backend="numpy")
    assert_same_result(rerank(cupy.asarray(q), cupy.asarray(g), top=100, metric=metric, backend="gpu"), best)
    matrix = rerank(q, g, metric=metric, backend="numpy")
    np.testing.assert_allclose(rerank(q, g, metric=metric, backend="gpu"), matrix, atol=TOLERANCE)
