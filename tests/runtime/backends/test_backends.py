"""Every backend, instruction set and thread count against the specification: the same bits, not nearly the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from implementations import IMPLEMENTATIONS, TINIEST
from numpy.typing import NDArray

from stcanet_runtime import backends
from stcanet_runtime.backends import numpy_, reference, reference_distance
from stcanet_runtime.errors import BackendError, OptionError

Embeddings = NDArray[np.float32]
TopK = Callable[..., tuple[Embeddings, NDArray[np.int64]]]
METRICS = ("cosine", "euclidean")
MANY = 50  # queries; the compiled kernels search fewer than 8 + D / 24, at most 40, in another way

AVAILABLE = backends.available()
if AVAILABLE["compiled"] is None:
    from stcanet_runtime.backends import compiled
needs_compiled = pytest.mark.skipif(AVAILABLE["compiled"] is not None, reason=str(AVAILABLE["compiled"]))


@pytest.fixture(scope="module")
def top_k(implementation: Any) -> TopK:
    bound: TopK = implementation.bind("top_k")
    return bound


def assert_same(actual: tuple[Any, Any], expected: tuple[Any, Any]) -> None:
    np.testing.assert_array_equal(actual[1], expected[1])
    np.testing.assert_array_equal(actual[0], expected[0])
    assert actual[0].dtype == np.float32
    assert actual[1].dtype == np.int64


def gaussian(seed: int, *shape: int) -> Embeddings:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# ---- which of them the tests run on -------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [pytest.param(why, id=str(one)) for one, why in IMPLEMENTATIONS.items()])
def test_the_tests_of_backends_run_on(missing: str | None) -> None:
    if missing:
        pytest.skip(f"{missing}: no test of the fixture 'implementation' ran on it")


# ---- the specification itself -------------------------------------------------------------------------------------


def test_reference_by_hand() -> None:
    q = np.array([[3, 4], [0, 0]], np.float32)
    g = np.array([[3, 4], [6, 8], [-3, -4], [4, -3], [0, 0]], np.float32)
    np.testing.assert_array_equal(reference.distance_matrix(q, g, "cosine"), [[0, 0, 2, 1, 1], [1, 1, 1, 1, 1]])
    expected = np.sqrt(np.array([[0, 25, 100, 50, 25], [25, 100, 25, 25, 0]], np.float64)).astype(np.float32)
    np.testing.assert_array_equal(reference.distance_matrix(q, g, "euclidean"), expected)
    distances, indices = reference.top_k(q[:1], g, 7, "cosine", np.array([1]), np.array([1, 0, 0, 0, 0]))
    np.testing.assert_array_equal(indices, [[1, 3, 4, 2, -1, -1, -1]])
    np.testing.assert_array_equal(distances, np.array([[0, 1, 1, 2, np.inf, np.inf, np.inf]], np.float32))


@pytest.mark.parametrize("depth", [1, 15, 16, 17, 100])
def test_reference_sums_in_the_documented_order(depth: int) -> None:
    terms = np.random.default_rng(depth).normal(size=depth) * 10.0 ** np.arange(depth).clip(max=12)
    partial = [0.0] * 16
    for i, term in enumerate(terms):
        partial[i % 16] += float(term)
    while len(partial) > 1:
        half = len(partial) // 2
        partial = [partial[i] + partial[i + half] for i in range(half)]
    assert float(reference_distance.ordered_sum(terms)) == partial[0]


@pytest.mark.parametrize("metric", METRICS)
def test_reference_is_accurate(metric: str) -> None:
    q, g = gaussian(1, 5, 300), gaussian(2, 7, 300)
    wide_q, wide_g = q.astype(np.longdouble), g.astype(np.longdouble)
    if metric == "cosine":
        unit_q = wide_q / np.sqrt((wide_q**2).sum(1, keepdims=True))
        unit_g = wide_g / np.sqrt((wide_g**2).sum(1, keepdims=True))
        expected = 1 - (unit_q[:, None] * unit_g).sum(-1)
    else:
        expected = np.sqrt(((wide_q[:, None] - wide_g) ** 2).sum(-1))
    np.testing.assert_array_max_ulp(reference.distance_matrix(q, g, metric), expected.astype(np.float32), maxulp=1)


# ---- top-k --------------------------------------------------------------------------------------------------------


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    """Small problems, made to have ties: few distinct values, copies, scaled copies, zero rows, near copies."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, cols = draw(st.integers(0, 20)), draw(st.integers(0, 70))
    depth = draw(st.sampled_from([1, 2, 3, 7, 15, 16, 17, 33, 64]))
    kind = draw(st.sampled_from(["gaussian", "integers", "binary", "near"]))
    everything = {
        "gaussian": lambda: rng.normal(size=(rows + cols, depth)),
        "integers": lambda: rng.integers(-3, 4, size=(rows + cols, depth)),
        "binary": lambda: rng.integers(0, 2, size=(rows + cols, depth)),
        "near": lambda: 1.0 + 1e-6 * rng.normal(size=(rows + cols, depth)),
    }[kind]().astype(np.float32)
    everything *= np.float32(draw(st.sampled_from([1.0, TINIEST, 1e-30, 1e-3, 1e4, 1e29])))
    if rows + cols > 3:
        count = draw(st.integers(0, rows + cols))
        everything[rng.integers(0, rows + cols, count)] = everything[rng.integers(0, rows + cols, count)]
        everything[rng.integers(0, rows + cols, count // 2)] *= np.float32(0.5)
        everything[rng.integers(0, rows + cols, count // 8)] = 0
    groups = draw(st.booleans())
    return {
        "query": everything[:rows],
        "gallery": everything[rows:],
        "k": draw(st.sampled_from([1, 2, 3, 10, max(1, cols), cols + 3])),
        "metric": draw(st.sampled_from(METRICS)),
        "q_groups": rng.integers(0, 3, rows) if groups else None,
        "g_groups": rng.integers(0, 3, cols) if groups else None,
    }


@settings(max_examples=150)
@given(problem=problems(), scratch=st.sampled_from([1, 1 << 10, 1 << 27]))
def test_top_k_equals_reference(top_k: TopK, problem: dict[str, Any], scratch: int) -> None:
    assert_same(top_k(**problem, scratch_bytes=scratch), reference.top_k(**problem))


# Around what is done at a time: of some queries 4 with 2 rows, in stripes of 1024, until there are 8 + D / 24 of them; and of
# the sweep 384 rows and chains of 128 columns.
@pytest.mark.parametrize(
    ("rows", "cols", "depth"),
    [
        (0, 5, 3),
        (5, 0, 3),
        (1, 1, 1),
        (2, 3, 67),
        (3, 1, 4),
        (4, 2051, 33),
        (5, 5, 16),
        (7, 2100, 5),
        (8, 2100, 5),
        (13, 31, 127),
        (13, 48, 128),
        (14, 49, 129),
        (383, 385, 3),
        (384, 384, 2),
        (385, 383, 1),
        (17, 300, 2048),
        (39, 1200, 768),
        (40, 1200, 768),
        (20, 4099, 4),
    ],
)
@pytest.mark.parametrize("metric", METRICS)
def test_top_k_around_block_sizes(top_k: TopK, rows: int, cols: int, depth: int, metric: str) -> None:
    rng = np.random.default_rng(rows + cols)
    q, g = gaussian(3, rows, depth), gaussian(4, cols, depth)
    g[rng.integers(0, max(1, cols), cols // 3)] = g[rng.integers(0, max(1, cols), cols // 3)]
    q_groups, g_groups = rng.integers(0, 6, rows), rng.integers(0, 6, cols)
    for k in (1, 21):
        assert_same(top_k(q, g, k, metric), reference.top_k(q, g, k, metric))
        expected = reference.top_k(q, g, k, metric, q_groups, g_groups)
        assert_same(top_k(q, g, k, metric, q_groups, g_groups), expected)


@pytest.mark.parametrize("spread", [3e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("metric", METRICS)
def test_top_k_where_float32_cannot_order(top_k: TopK, metric: str, spread: float) -> None:
    """Distances differ by less than the error of a float32 product: without the bound the order is wrong.

    The gallery is long enough to fill a shortlist many times, so that every one of its limits is put to the test.
    """
    rng = np.random.default_rng(5)
    base = rng.normal(size=512)
    g = (base + spread * rng.normal(size=(1500, 512))).astype(np.float32)
    q = (base + spread * rng.normal(size=(MANY, 512)) + rng.normal(size=512)).astype(np.float32)
    expected = reference.top_k(q, g, 10, metric)
    plain = np.argsort(_float32_distances(q, g, metric), axis=1, kind="stable")[:, :10]
    assert (plain != expected[1]).any(), "the case is too easy to show anything"
    assert_same(top_k(q, g, 10, metric), expected)
    assert_same(top_k(q[:3], g, 200, metric), reference.top_k(q[:3], g, 200, metric))


def test_top_k_where_float32_sums_lean(top_k: TopK) -> None:
    """All terms of a sum are the same, so each addition rounds as the one before; from row to row they differ by a bit."""
    values = np.random.default_rng(1).permutation(1 + np.arange(300, dtype=np.float32) * np.float32(2**-23))
    q, g = np.zeros((1, 8000), np.float32), np.repeat(values[:, None], 8000, axis=1)
    distances, indices = reference.top_k(q, g, 60, "euclidean")
    for k in range(30, 60):
        assert_same(top_k(q, g, k, "euclidean"), (distances[:, :k], indices[:, :k]))


# Nearly the worst for sums of float32: in half of the partial sums every product is too small to be added, and every square
# is just large enough to be rounded up. Where an instruction set makes so many partial sums, the second row is lost with less
# than 0.49 (euclidean, 4), 0.31 (cosine, 8) or 0.06 to 0.09 (32) of the bound, which is that of 4.
@pytest.mark.parametrize(("partials", "queries"), [(4, 2), (8, 2), (32, 1)])
@pytest.mark.parametrize("metric", METRICS)
def test_top_k_where_float32_sums_are_as_wrong_as_can_be(top_k: TopK, metric: str, partials: int, queries: int) -> None:
    rows, half = np.zeros((3, 8000 // partials, partials)), partials // 2
    step = 2.0**-10.5 * np.sqrt(32 / partials)  # what one row is farther away by
    rows[0, :, :half], rows[1:, :, :half] = 2.0**-12 * (1 - 4e-3), 2.0**-12 * (1 + 2e-3)
    rows[:, 0, :half] = 1
    rows[0, 0, half - 1], rows[1, 0, half + 1] = 0.9975, step
    if metric == "euclidean":
        rows[0], rows[1] = 0, rows[2]
        rows[1, 0, half + 1] = step * np.sqrt(half / 2)
    q, g = np.split(rows.reshape(3, 8000).astype(np.float32), [1])
    q = np.repeat(q, queries, axis=0)
    assert (reference.top_k(q, g, 1, metric)[1] == 1).all()
    assert_same(top_k(q, g, 1, metric), reference.top_k(q, g, 1, metric))


def test_top_k_where_squares_round_to_subnormal(top_k: TopK) -> None:
    value = np.sqrt(3.51 * 2.0**-149)
    q, g = np.zeros((1, 32), np.float32), np.repeat(np.float32([[value * (1 + 1e-5)], [value]]), 32, axis=1)
    assert reference.top_k(q, g, 1, "euclidean")[1] == 1
    assert_same(top_k(q, g, 1, "euclidean"), reference.top_k(q, g, 1, "euclidean"))


def _float32_distances(q: Embeddings, g: Embeddings, metric: str) -> Embeddings:
    if metric == "euclidean":
        return np.asarray((q * q).sum(1)[:, None] + (g * g).sum(1) - 2 * (q @ g.T))
    unit_q, unit_g = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, g))
    return np.asarray(1 - unit_q @ unit_g.T)


# q[0], q[16], g[0], g[16], distance: sums so close to the middle of two float32 that a fused multiply-add tips them over.
FUSION_CASES = [
    ("0x1.1f712cp+0", "0x1.9970cp-1", "0x1.f39e6ap-27", "0x1.d475d8p-9", "0x1.605cdep+0"),
    ("0x1.5ca0fp+0", "0x1.6e5e46p-2", "-0x1.01c6p-28", "0x1.64d1d8p-11", "0x1.686a4ep+0"),
    ("0x1.6b7c26p-1", "0x1.c2d23p-1", "-0x1.03c6f8p-26", "0x1.0c5754p-10", "0x1.21590ap+0"),
    ("0x1.49311cp+0", "0x1.41a3aep-2", "0x1.237c78p-26", "0x1.ec52e6p-10", "0x1.52c1a6p+0"),
]


@pytest.mark.parametrize("case", FUSION_CASES)
@pytest.mark.parametrize("depth", [17, 32])
def test_top_k_sums_are_not_fused(top_k: TopK, case: tuple[str, ...], depth: int) -> None:
    values = [float.fromhex(value) for value in case]
    q, g = np.zeros((2, 1, depth), np.float32)
    q[0, [0, 16]], g[0, [0, 16]] = values[:2], values[2:4]
    for compute in (top_k, reference.top_k):
        assert compute(q, g, 1, "euclidean")[0] == values[4]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 50, 2000])
def test_top_k_of_identical_rows_is_in_index_order(top_k: TopK, metric: str, k: int) -> None:
    g = np.repeat(gaussian(6, 1, 24), 2000, axis=0)
    for rows in (1, MANY):
        distances, indices = top_k(g[:rows], g, k, metric)
        np.testing.assert_array_equal(indices, np.tile(np.arange(k), (rows, 1)))
        np.testing.assert_array_equal(distances, 0)


@pytest.mark.parametrize("metric", METRICS)
def test_top_k_with_one_huge_row(top_k: TopK, metric: str) -> None:
    """The error is absolute in units of the longest row: an outlier makes the screen blind, and must not make it wrong."""
    q, g = gaussian(7, MANY, 40), gaussian(8, 500, 40)
    g[123] *= 1e9
    assert_same(top_k(q, g, 5, metric), reference.top_k(q, g, 5, metric))


@pytest.mark.parametrize("queries", [3, MANY])
@pytest.mark.parametrize("metric", METRICS)
def test_top_k_of_rows_of_every_magnitude(top_k: TopK, metric: str, queries: int) -> None:
    """Their squares overflow and vanish in float32."""
    rng = np.random.default_rng(13)
    everything = rng.normal(size=(1500, 31)) * 10.0 ** rng.uniform(-40, 29, size=(1500, 1))
    q, g = np.split(everything.astype(np.float32), [queries])
    assert_same(top_k(q, g, 10, metric), reference.top_k(q, g, 10, metric))


def test_top_k_with_every_row_invisible(top_k: TopK) -> None:
    q, g, ones = gaussian(9, MANY, 8), gaussian(10, 300, 8), np.ones(300, np.int64)
    distances, indices = top_k(q, g, 4, "cosine", ones[:MANY], ones)
    assert (indices == -1).all()
    assert np.isposinf(distances).all()


@needs_compiled
@pytest.mark.parametrize("rows", [1, 5, 400])
def test_top_k_does_not_depend_on_threads(rows: int) -> None:
    q, g = gaussian(11, rows, 20), np.repeat(gaussian(12, 1700, 20), 3, axis=0)
    results = [compiled.top_k(q, g, 30, "cosine", threads=threads) for threads in (1, 2, 3, 16)]
    for result in results[1:]:
        assert_same(result, results[0])


# ---- distance matrix ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("rows", "cols", "depth"), [(0, 3, 4), (3, 0, 4), (1, 1, 1), (385, 769, 3), (9, 2060, 33), (5, 40, 2048)]
)
def test_distance_matrix_within_its_bound(implementation: Any, rows: int, cols: int, depth: int, metric: str) -> None:
    q, g = gaussian(13, rows, depth), gaussian(14, cols, depth)
    if rows and cols:
        g[cols // 2] = q[0]
    expected = reference.distance_matrix(q, g, metric)
    actual = implementation.bind("distance_matrix")(q, g, metric)
    assert actual.shape == expected.shape
    assert actual.dtype == np.float32
    unit = (min(depth, 128) + depth / 128 + 12) * 1.01 * 2.0**-24 if implementation.name == "compiled" else 1e-12
    rounding = np.spacing(expected)
    if metric == "cosine":
        assert (np.abs(actual - expected) <= unit + rounding).all()
    else:
        longest = max([float(np.square(x, dtype=np.float64).sum(1).max(initial=0)) for x in (q, g)])
        error = np.abs(np.square(actual, dtype=np.float64) - np.square(expected, dtype=np.float64))
        assert (error <= 2 * unit * longest + 3 * rounding * expected).all()


@pytest.mark.parametrize("metric", METRICS)
def test_distance_matrix_of_near_copies(implementation: Any, metric: str) -> None:
    """|q|² + |g|² - 2 q·g would leave nothing of these distances."""
    q = gaussian(15, 6, 128)
    g = np.concatenate([q, q + np.float32(1e-6) * gaussian(16, 6, 128)])
    actual = implementation.bind("distance_matrix")(q, g, metric)
    expected = reference.distance_matrix(q, g, metric)
    assert (np.diagonal(actual) == 0).all()
    np.testing.assert_array_equal(np.diagonal(actual[:, 6:]), np.diagonal(expected[:, 6:]))


@pytest.mark.parametrize("metric", METRICS)
def test_distance_matrix_at_the_ends_of_the_range(implementation: Any, metric: str) -> None:
    for scale in (TINIEST, 1e-30, 1e29):
        q, g = (np.float32(scale) * gaussian(seed, 5, 33) for seed in (17, 18))
        expected = reference.distance_matrix(q, g, metric)
        actual = implementation.bind("distance_matrix")(q, g, metric)
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=2e-45)


# ---- bindings -----------------------------------------------------------------------------------------------------


@needs_compiled
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": np.zeros((2, 4), np.float32)}, "same D, got 4 and 3"),
        ({"query": np.zeros(3, np.float32)}, r"query must have shape \[N, D\]"),
        ({"query": np.zeros((2, 0), np.float32)}, "D >= 1"),
        ({"metric": "manhattan"}, "'manhattan'"),
        ({"q_groups": np.zeros(2, np.int64)}, "together"),
        ({"q_groups": np.zeros(2, np.int64), "g_groups": np.zeros(4, np.int64)}, r"g_groups must have shape \[5\]"),
    ],
)
def test_kernels_check_what_they_are_given(change: dict[str, Any], message: str) -> None:
    arguments = {"query": np.zeros((2, 3), np.float32), "gallery": np.zeros((5, 3), np.float32), "k": 1}
    with pytest.raises(ValueError, match=message):
        compiled.top_k(**{**arguments, "metric": "cosine", **change})


@needs_compiled
def test_kernels_do_not_convert_silently() -> None:
    with pytest.raises(TypeError):
        compiled.top_k(np.zeros((2, 3)), np.zeros((5, 3), np.float32), 1, "cosine")  # type: ignore[arg-type]


@needs_compiled
def test_forced_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STCANET_ISA", "generic")
    assert compiled.resolve_isa() == "generic"
    assert "uses generic" in backends.explain("compiled")
    monkeypatch.setenv("STCANET_ISA", "mmx")
    with pytest.raises(BackendError, match="'mmx' is not available here; available: generic"):
        compiled.top_k(gaussian(0, 1, 1), gaussian(0, 1, 1), 1, "cosine")


@needs_compiled
@pytest.mark.parametrize("threads", ["-1", "two", "1.5", "65537", str(2**62), str(2**64)])
def test_bad_thread_count(monkeypatch: pytest.MonkeyPatch, threads: str) -> None:
    monkeypatch.setenv("STCANET_NUM_THREADS", threads)
    with pytest.raises(OptionError, match="STCANET_NUM_THREADS"):
        compiled.resolve_threads()
    assert compiled.resolve_threads(3) == 3
    assert compiled.resolve_threads(65536) == 65536
    if threads.isdigit():
        with pytest.raises(OptionError, match="STCANET_NUM_THREADS"):
            compiled.resolve_threads(int(threads))


@needs_compiled
def test_quota_and_affinity_bound_the_threads_that_nobody_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STCANET_NUM_THREADS", raising=False)
    monkeypatch.setattr("stcanet_runtime.machine._affinity", lambda: 3)
    assert [compiled.resolve_threads(threads) for threads in (None, 0, 5)] == [3, 3, 5]
    monkeypatch.setattr("stcanet_runtime.machine._quota", lambda: 2)
    assert [compiled.resolve_threads(threads) for threads in (None, 0, 5)] == [2, 2, 5]


@needs_compiled
@pytest.mark.parametrize("threads", [2**62, 2**64 - 1])
def test_kernels_bear_any_number_of_threads(threads: int) -> None:
    """Multiplied by four it is 0, or nearly, in 64 bits."""
    from stcanet_runtime import _kernels

    x = gaussian(0, 300, 8)
    found = _kernels.top_k(x[:1], x, 3, "cosine", None, None, 1 << 20, threads)
    np.testing.assert_array_equal(found[1], compiled.top_k(x[:1], x, 3, "cosine", threads=1)[1])


@needs_compiled
def test_more_rows_than_indices_of_32_bits(tmp_path: Path) -> None:
    """Refused before anything is read: the files have no contents."""
    from stcanet_runtime import _kernels

    def rows(dtype: type, *shape: int) -> Any:
        return np.memmap(tmp_path / f"{len(list(tmp_path.iterdir()))}.bin", dtype, "w+", shape=shape)

    one, many = np.ones((1, 1), np.float32), rows(np.float32, 2**31, 1)
    with pytest.raises(ValueError, match=r"at most 2\^31 - 1 rows"):
        _kernels.top_k(one, rows(np.float16, 2**31, 1), 1, "cosine", None, None, 1 << 20)
    with pytest.raises(ValueError, match=r"at most 2\^31 - 1 rows"):
        _kernels.smallest(many.reshape(1, -1), 1)
    with pytest.raises(ValueError, match=r"at most 2\^31 - 1 rows"):
        _kernels.neighbours(one, many, 1, "cosine", None, None, None, 1 << 20)
    sparse = np.zeros(2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32)
    with pytest.raises(ValueError, match=r"at most 2\^31 - 1 rows"):
        _kernels.select_best(one, many, "cosine", *sparse, one[0], (one, np.zeros((1, 1), np.int64), None, None), 1, 1, 0.3)


# ---- choosing -----------------------------------------------------------------------------------------------------


@pytest.fixture
def only_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STCANET_BACKEND", raising=False)
    for name in ("compiled", "jit"):
        monkeypatch.setitem(backends._PROBES, name, lambda name=name: f"no {name} in this test")


@pytest.mark.usefixtures("only_numpy")
def test_auto_takes_the_first_that_runs_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backends.get_backend() is numpy_
    assert backends.explain() == (
        "numpy (the fastest that can run here; not compiled: no compiled in this test; not jit: no jit in this test)"
    )
    monkeypatch.setitem(backends._PROBES, "jit", lambda: None)
    assert backends.resolve()[0] == "jit"
    monkeypatch.setitem(backends._PROBES, "compiled", lambda: None)
    assert backends.resolve()[0] == "compiled"


@pytest.mark.usefixtures("only_numpy")
def test_named_backend_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match="'compiled' cannot run: no compiled in this test; install") as caught:
        backends.get_backend("compiled")
    assert caught.value.backend == "compiled"
    monkeypatch.setenv("STCANET_BACKEND", "jit")
    with pytest.raises(BackendError, match="'jit' cannot run"):
        backends.get_backend()
    monkeypatch.setenv("STCANET_BACKEND", "fortran")
    with pytest.raises(OptionError, match="'fortran'"):
        backends.get_backend()


def test_force_by_context_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STCANET_BACKEND", "numpy")
    assert backends.resolve() == ("numpy", "set by STCANET_BACKEND")
    with backends.use_backend("reference") as backend:
        assert backend is reference is backends.get_backend()
        assert backends.resolve("numpy") == ("numpy", "asked for by name")
    assert backends.get_backend() is numpy_
    with pytest.raises(OptionError, match="backend must be 'auto', 'reference'"), backends.use_backend("fortran"):
        pass


def test_every_name_is_reported() -> None:
    assert tuple(AVAILABLE) == backends.NAMES == ("reference", "numpy", "compiled", "jit", "gpu")
    assert AVAILABLE["reference"] is None
    assert "gpu" not in backends.AUTO_ORDER, "not measured on one yet"


def test_import_loads_nothing_heavy() -> None:
    code = (
        "import sys, stcanet_runtime.retrieval.ranking, stcanet_runtime.backends as b; b.available(); b.get_backend('numpy');"
        "print([m for m in ('numba', 'torch', 'scipy', 'onnxruntime') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
