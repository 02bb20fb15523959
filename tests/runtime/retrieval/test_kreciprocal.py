"""The stages of re-ranking, every backend and instruction set against the specification: lists to the bit, sums to 1e-6."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from implementations import TINIEST
from numpy.typing import NDArray

from stcanet_runtime.backends import get_backend, reference
from stcanet_runtime.backends.neighbours import GalleryLists, Neighbours, row_groups
from stcanet_runtime.backends.screen import kth_bound, make_screen

Embeddings = NDArray[np.float32]
Function = Callable[..., Any]
METRICS = ("cosine", "euclidean")
SUM_TOLERANCE = 1e-6
SEEDS = st.integers(0, 2**32 - 1)


def gaussian(seed: int, *shape: int) -> Embeddings:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def assert_same(actual: Any, expected: Any) -> None:
    """Equal arrays of equal types, one by one."""
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
        assert one.shape == other.shape


def assert_same_rows(actual: Any, expected: Any) -> None:
    """Equal sparse rows, values up to the tolerance of sums."""
    assert_same(actual[:2], expected[:2])
    np.testing.assert_allclose(actual[2], expected[2], atol=SUM_TOLERANCE, rtol=0)
    assert actual[2].dtype == np.float32


@st.composite
def joint_sets(draw: st.DrawFn, tiny: bool = True) -> dict[str, Any]:
    """Small joint sets, made to have ties: few distinct values, clusters, copies, scaled copies, zero rows, near copies."""
    rng = np.random.default_rng(draw(SEEDS))
    total = draw(st.integers(1, 50))
    rows = draw(st.sampled_from([0, 1, total // 4, total // 2, total]))
    depth = draw(st.sampled_from([1, 2, 3, 7, 15, 16, 17, 33, 64]))
    kind = draw(st.sampled_from(["gaussian", "integers", "binary", "near", "clusters", "identical"]))
    joint = {
        "gaussian": lambda: rng.normal(size=(total, depth)),
        "integers": lambda: rng.integers(-3, 4, size=(total, depth)),
        "binary": lambda: rng.integers(0, 2, size=(total, depth)),
        "near": lambda: 1.0 + 1e-6 * rng.normal(size=(total, depth)),
        "clusters": lambda: rng.normal(size=(9, depth))[rng.integers(0, 9, total)] + 0.2 * rng.normal(size=(total, depth)),
        "identical": lambda: np.ones((total, depth)),
    }[kind]().astype(np.float32)
    joint *= np.float32(draw(st.sampled_from([1.0, 1e-30, 1e-3, 1e4, 1e29] + [TINIEST] * tiny)))
    if kind != "identical":
        count = draw(st.integers(0, total))
        joint[rng.integers(0, total, count)] = joint[rng.integers(0, total, count)]
        joint[rng.integers(0, total, count // 2)] *= np.float32(0.5)
        joint[rng.integers(0, total, count // 8)] = 0
    return {
        "query": joint[:rows],
        "gallery": joint[rows:],
        "k": min(total, draw(st.sampled_from([1, 2, 3, 6, 21, max(1, total - 1), total]))),
        "metric": draw(st.sampled_from(METRICS)),
    }


# ---- neighbours ---------------------------------------------------------------------------------------------------


def test_reference_by_hand() -> None:
    query, gallery = np.array([[0.0]], np.float32), np.array([[3], [-1], [1], [0]], np.float32)
    dense = np.empty((1, 4), np.float32)
    found = reference.neighbours(query, gallery, 3, "euclidean", dense=dense)
    np.testing.assert_array_equal(found.indices, [[0, 4, 2], [1, 3, 0], [2, 0, 4], [3, 0, 4], [0, 4, 2]])
    np.testing.assert_array_equal(found.distances, [[0, 0, 1], [0, 2, 3], [0, 1, 1], [0, 1, 1], [0, 0, 1]])
    np.testing.assert_array_equal(found.farthest, [3, 4, 4, 2, 3])
    np.testing.assert_array_equal(dense, [[3, 1, 1, 0]])


@settings(max_examples=80)
@given(problem=joint_sets(), scratch=st.sampled_from([1, 5000, 1 << 26]))
def test_neighbours_equal_reference(implementation: Any, problem: dict[str, Any], scratch: int) -> None:
    found = implementation.bind("neighbours")(**problem, scratch_bytes=scratch)
    assert isinstance(found, Neighbours)
    assert_same(found, reference.neighbours(**problem))


@settings(max_examples=80)
@given(problem=joint_sets(), scratch=st.sampled_from([1, 5000, 1 << 26]), places=st.integers(1, 60), seed=SEEDS)
def test_gallery_lists_equal_top_k(implementation: Any, problem: dict[str, Any], scratch: int, places: int, seed: int) -> None:
    """From the products of the neighbour search, longer or shorter than its lists, with and without groups."""
    rng, sizes = np.random.default_rng(seed), (len(problem["query"]), len(problem["gallery"]))
    groups = [rng.integers(0, 3, size) for size in sizes] if seed % 2 else [None, None]
    lists = GalleryLists(np.empty((sizes[0], places), np.float32), np.empty((sizes[0], places), np.int64), *groups)
    found = implementation.bind("neighbours")(**problem, lists=lists, scratch_bytes=scratch)
    assert_same(found, reference.neighbours(**problem))
    assert_same(lists[:2], reference.top_k(problem["query"], problem["gallery"], places, problem["metric"], *groups))


# Around the blocks of the sweep (384 rows) and its chains (128 columns).
@pytest.mark.parametrize(
    ("rows", "cols", "depth"),
    [
        (1, 0, 3),
        (0, 1, 3),
        (1, 1, 1),
        (20, 107, 5),
        (20, 108, 128),
        (20, 109, 129),
        (0, 383, 3),
        (383, 1, 3),
        (384, 1, 2),
        (300, 725, 4),
        (7, 60, 2048),
    ],
)
@pytest.mark.parametrize("metric", METRICS)
def test_neighbours_around_block_sizes(implementation: Any, rows: int, cols: int, depth: int, metric: str) -> None:
    joint, expected = _case_with_copies(rows + cols, depth, rows, metric)
    for k, wanted in expected.items():
        assert_same(implementation.bind("neighbours")(joint[:rows], joint[rows:], k, metric), wanted)


@pytest.mark.parametrize(("rows", "cols"), [(1, 800), (383, 600), (384, 500), (400, 20), (500, 900)])
@pytest.mark.parametrize("metric", METRICS)
def test_gallery_lists_around_block_sizes(implementation: Any, rows: int, cols: int, metric: str) -> None:
    """Queries and gallery rows meet within blocks and across them; copies tie."""
    joint, _ = _case_with_copies(rows + cols, 24, rows, metric)
    groups, places = (np.arange(rows) % 3, np.arange(cols) % 3), 30
    lists = GalleryLists(np.empty((rows, places), np.float32), np.empty((rows, places), np.int64), *groups)
    dense = np.full((rows, cols), np.nan, np.float32)
    bound = implementation.bind("neighbours")
    bound(joint[:rows], joint[rows:], 21, metric, dense=dense, lists=lists, scratch_bytes=1 << 18)
    assert_same(lists[:2], get_backend("numpy").top_k(joint[:rows], joint[rows:], places, metric, *groups))
    np.testing.assert_allclose(dense, reference.distance_matrix(joint[:rows], joint[rows:], metric), atol=1e-5)


@cache
def _case_with_copies(total: int, depth: int, rows: int, metric: str) -> tuple[Embeddings, dict[int, Neighbours]]:
    rng, joint = np.random.default_rng(total), gaussian(1, total, depth)
    joint[rng.integers(0, total, total // 3)] = joint[rng.integers(0, total, total // 3)]
    return joint, {k: reference.neighbours(joint[:rows], joint[rows:], k, metric) for k in {1, min(21, total)}}


@pytest.mark.parametrize("spread", [3e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("metric", METRICS)
def test_neighbours_where_float32_cannot_order(implementation: Any, metric: str, spread: float) -> None:
    """Neither the order nor the farthest row can be told from float32 products."""
    joint, expected = _case_of_near_copies(metric, spread)
    assert_same(implementation.bind("neighbours")(joint[:50], joint[50:], 10, metric), expected)


@cache
def _case_of_near_copies(metric: str, spread: float) -> tuple[Embeddings, Neighbours]:
    rng = np.random.default_rng(2)
    base = rng.normal(size=(2, 512)) + 3.0
    joint = (base[rng.integers(0, 2, 400)] + spread * rng.normal(size=(400, 512))).astype(np.float32)
    expected = reference.neighbours(joint[:50], joint[50:], 10, metric)
    plain = _float32_distances(joint, metric)
    assert (np.argsort(plain, axis=1, kind="stable")[:, :10] != expected.indices).any(), "the case is too easy"
    measured = reference.pair_distances(joint[:50], joint[50:], np.arange(400), plain.argmax(axis=1), metric)
    assert (measured != expected.farthest).any(), "the case is too easy"
    return joint, expected


def _float32_distances(x: Embeddings, metric: str) -> Embeddings:
    if metric == "euclidean":
        return np.asarray((x * x).sum(1)[:, None] + (x * x).sum(1) - 2 * (x @ x.T))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(1 - unit @ unit.T)


@pytest.mark.parametrize("metric", METRICS)
def test_neighbours_of_identical_rows_are_in_index_order(implementation: Any, metric: str) -> None:
    joint = np.repeat(gaussian(3, 1, 24), 600, axis=0)
    found = implementation.bind("neighbours")(joint[:100], joint[100:], 21, metric)
    np.testing.assert_array_equal(found.indices, np.tile(np.arange(21), (600, 1)))
    np.testing.assert_array_equal(found.distances, 0)
    np.testing.assert_array_equal(found.farthest, 0)


@pytest.mark.parametrize("metric", METRICS)
def test_neighbours_with_one_huge_row(implementation: Any, metric: str) -> None:
    """Errors are absolute in units of the longest row: an outlier makes the screen blind, and must not make it wrong."""
    joint = gaussian(4, 300, 40)
    joint[123] *= 1e9
    found = implementation.bind("neighbours")(joint[:50], joint[50:], 5, metric)
    assert_same(found, reference.neighbours(joint[:50], joint[50:], 5, metric))


@pytest.mark.parametrize("metric", METRICS)
def test_neighbours_fill_the_distance_matrix(implementation: Any, metric: str) -> None:
    joint = gaussian(5, 300, 33)
    joint[200] = joint[10]
    query, gallery = joint[:90], joint[90:]
    dense = np.full((90, 210), np.nan, np.float32)
    found = implementation.bind("neighbours")(query, gallery, 7, metric, dense=dense)
    np.testing.assert_allclose(dense, reference.distance_matrix(query, gallery, metric), atol=1e-5)
    assert dense[10, 110] == 0
    assert_same(found, reference.neighbours(query, gallery, 7, metric))


@pytest.mark.parametrize("spread", [0.1, 3e-3, 1e-4])
@pytest.mark.parametrize("metric", METRICS)
def test_close_rows_are_told_apart(implementation: Any, metric: str, spread: float) -> None:
    """Embeddings of a collapsed model: re-ranking divides by the largest distance of a row, so errors count beside that."""
    joint = 1 + np.float32(spread) * gaussian(11, 300, 257)
    query, gallery = joint[:60], joint[60:]
    expected = reference.neighbours(query, gallery, 21, metric)
    dense = np.empty((60, 240), np.float32)
    assert_same(implementation.bind("neighbours")(query, gallery, 21, metric, dense=dense), expected)
    off = np.abs(dense - reference.distance_matrix(query, gallery, metric)) / expected.farthest[:60, None]
    assert off.max() < 2e-6


@pytest.mark.parametrize("metric", METRICS)
def test_the_screen_of_numpy_sees_close_rows_from_their_mean(metric: str) -> None:
    """Else the lists would be the same, and every pair would be measured for them."""
    joint = 1 + np.float32(1e-3) * gaussian(11, 300, 257)
    screen = make_screen(joint[:60], joint[60:], metric)
    assert screen.offset is not None
    keys = screen.offset - 2 * (screen.query @ screen.gallery.T)
    candidates = (keys <= np.sort(keys, axis=1)[:, 20:21] + screen.window).sum(axis=1)
    assert candidates.max() < 30


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("far", [0.0, -1.0, -1e4])
def test_close_rows_and_one_elsewhere(implementation: Any, metric: str, far: float) -> None:
    """A row of zeros, an opposite one, a huge one: no centre for all, and the same results."""
    joint = 1 + np.float32(3e-3) * gaussian(12, 200, 40)
    joint[77] *= np.float32(far)
    query, gallery = joint[:60], joint[60:]
    lists = GalleryLists(np.empty((60, 9), np.float32), np.empty((60, 9), np.int64), None, None)
    found = implementation.bind("neighbours")(query, gallery, 21, metric, lists=lists)
    assert_same(found, reference.neighbours(query, gallery, 21, metric))
    assert_same(lists[:2], reference.top_k(query, gallery, 9, metric))


def test_neighbours_report_progress(implementation: Any) -> None:
    calls, joint = [], gaussian(6, 900, 8)

    def progress(done: int, total: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        calls.append((done, total))

    implementation.bind("neighbours")(joint[:100], joint[100:], 5, "cosine", progress=progress, scratch_bytes=100_000)
    assert len(calls) >= 2
    assert all(type(value) is int for call in calls for value in call)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert len({total for _, total in calls}) == 1
    assert calls[-1][0] <= calls[-1][1]


def test_neighbours_are_stopped_by_an_exception(implementation: Any) -> None:
    joint = gaussian(7, 900, 8)

    def progress(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        implementation.bind("neighbours")(joint[:100], joint[100:], 5, "cosine", progress=progress, scratch_bytes=100_000)


def test_neighbours_do_not_depend_on_threads(compiled: Any) -> None:
    joint = np.repeat(gaussian(8, 700, 20), 3, axis=0)
    results = [compiled.neighbours(joint[:301], joint[301:], 21, "cosine", threads=threads) for threads in (1, 2, 3, 16)]
    for result in results[1:]:
        assert_same(result, results[0])


# ---- pairs and selection ------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(problem=joint_sets(), seed=st.integers(0, 1000), count=st.sampled_from([0, 1, 17, 300]))
def test_pair_distances_equal_reference(implementation: Any, problem: dict[str, Any], seed: int, count: int) -> None:
    query, gallery = problem["query"], problem["gallery"]
    rows, cols = np.random.default_rng(seed).integers(0, len(query) + len(gallery), (2, count))
    arguments = (query, gallery, rows, cols, problem["metric"])
    assert_same([implementation.bind("pair_distances")(*arguments)], [reference.pair_distances(*arguments)])


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 5), cols=st.integers(1, 600), levels=st.sampled_from([1, 2, 30, 10**6])
)
def test_smallest_equals_reference(implementation: Any, seed: int, rows: int, cols: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, levels, (rows, cols)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.inf
    for k in {1, max(1, cols // 9), cols}:
        assert_same(implementation.bind("smallest")(values, k), reference.smallest(values, k))


@settings(max_examples=40)
@given(seed=SEEDS, cols=st.integers(1, 2000), levels=st.sampled_from([1, 5, 10**6]))
def test_bound_of_the_kth_value(seed: int, cols: int, levels: int) -> None:
    values = np.random.default_rng(seed).integers(0, levels, (3, cols)).astype(np.float32)
    for k in {1, min(2, cols), max(1, cols // 100), cols}:
        exact = np.sort(values, axis=1)[:, k - 1]
        assert (kth_bound(values, k) >= exact).all()
        assert ((values <= kth_bound(values, k)[:, None]).sum(axis=1) >= k).all()


@given(costs=st.lists(st.integers(0, 9), max_size=30), limit=st.integers(1, 12))
def test_row_groups(costs: list[int], limit: int) -> None:
    groups = list(row_groups(np.array(costs, np.int64), limit))
    assert [i for group in groups for i in range(group.start, group.stop)] == list(range(len(costs)))
    assert all(sum(costs[group]) <= limit or group.stop == group.start + 1 for group in groups)


# ---- sets, averages, overlaps, blend ------------------------------------------------------------------------------


def _lists(problem: dict[str, Any], half: int | None = None) -> tuple[NDArray[np.int32], int]:
    found = reference.neighbours(**problem).indices
    return found, int(np.around((found.shape[1] - 1) / 2)) if half is None else half


def _rows(problem: dict[str, Any], seed: int) -> Any:
    """Sparse rows as the stages get them: expanded sets with weights that add up to 1."""
    indptr, indices = reference.expand(*_lists(problem))
    weights = np.random.default_rng(seed).uniform(0.1, 1.0, len(indices))
    weights /= np.repeat(np.add.reduceat(weights, indptr[:-1]), np.diff(indptr))
    return indptr, indices, weights.astype(np.float32)


@settings(max_examples=40)
@given(problem=joint_sets(), half=st.sampled_from([None, 0, 1, 5]))
def test_expand_equals_reference(implementation: Any, problem: dict[str, Any], half: int | None) -> None:
    lists = _lists(problem, half)
    assert_same(implementation.bind("expand")(*lists), reference.expand(*lists))


def test_expand_of_long_lists_and_then_of_short_ones(implementation: Any) -> None:
    """A thread keeps marks of the rows from one call to the next."""
    for total, places, half in ((200, 101, 50), (150, 140, 70), (60, 4, 2)):
        joint = np.repeat(gaussian(total, total // 10, 6), 10, axis=0) + gaussian(1, total, 6)
        lists = reference.neighbours(joint[:9], joint[9:], places, "cosine").indices
        assert_same(implementation.bind("expand", threads=1)(lists, half), reference.expand(lists, half))


def test_a_set_without_members_is_the_row_itself(implementation: Any) -> None:
    """Ten copies and lists of four: rows 4 to 9 are in no list, not even in their own."""
    lists = np.tile(np.arange(4, dtype=np.int32), (10, 1))
    indptr, indices = implementation.bind("expand")(lists, 2)
    np.testing.assert_array_equal(indptr, [0, 4, 8, 12, 16, 17, 18, 19, 20, 21, 22])
    np.testing.assert_array_equal(indices, [*([0, 1, 2, 3] * 4), 4, 5, 6, 7, 8, 9])


def test_two_thirds_are_not_enough(implementation: Any) -> None:
    """R(0, 3) is {0, 1, 2}; R(1, 2) is {1, 0, 3}, of which two of three lie in it: 3 does not join."""
    lists = np.array([[0, 1, 2, 4], [1, 0, 3, 5], [2, 0, 4, 5], [3, 1, 5, 4], [4, 5, 2, 3], [5, 4, 3, 1]], np.int32)
    indptr, indices = implementation.bind("expand")(lists, 2)
    np.testing.assert_array_equal(indices[: indptr[1]], [0, 1, 2])
    assert_same((indptr, indices), reference.expand(lists, 2))


@settings(max_examples=40)
@given(problem=joint_sets(), seed=st.integers(0, 1000), k2=st.sampled_from([1, 2, 6, 100]))
def test_average_equals_reference(implementation: Any, problem: dict[str, Any], seed: int, k2: int) -> None:
    rows, lists = _rows(problem, seed), np.ascontiguousarray(_lists(problem)[0][:, :k2])
    assert_same_rows(implementation.bind("average")(*rows, lists), reference.average(*rows, lists))


@settings(max_examples=40)
@given(problem=joint_sets(), seed=st.integers(0, 1000), cut=st.sampled_from([None, 0, 1, 3]))
def test_overlaps_equal_reference(implementation: Any, problem: dict[str, Any], seed: int, cut: int | None) -> None:
    rows, count = _rows(problem, seed), len(problem["query"])
    span = () if cut is None else (min(cut, count), min(2 * cut, count))
    assert_same_rows(implementation.bind("overlaps")(*rows, count, *span), reference.overlaps(*rows, count, *span))


@settings(max_examples=40)
@given(problem=joint_sets(tiny=False), power=st.sampled_from([1, 2, 4]), lambda_value=st.sampled_from([0.0, 0.3, 1.0]))
def test_blend_equals_reference(implementation: Any, problem: dict[str, Any], power: int, lambda_value: float) -> None:
    query, gallery = problem["query"], problem["gallery"]
    farthest = reference.neighbours(**problem).farthest[: len(query)]
    nearness = reference.overlaps(*_rows(problem, 0), len(query))
    expected = reference.distance_matrix(query, gallery, problem["metric"])
    actual = expected.copy()
    reference.blend(expected, nearness, farthest, power, lambda_value)
    implementation.bind("blend")(actual, nearness, farthest, power, lambda_value)
    np.testing.assert_allclose(actual, expected, atol=SUM_TOLERANCE, rtol=0)


def test_blend_of_tiny_distances(implementation: Any) -> None:
    """1 / farthest is not a float32."""
    dense = np.array([[0, TINIEST, 2 * TINIEST]], np.float32)
    nothing = np.zeros(2, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)
    implementation.bind("blend")(dense, nothing, dense[:, 2].copy(), 1, 0.5)
    np.testing.assert_allclose(dense, [[0.5, 0.75, 1.0]], atol=1e-3)


def test_stages_do_not_depend_on_threads(compiled: Any) -> None:
    problem = {"query": gaussian(9, 80, 4), "gallery": gaussian(10, 700, 4), "k": 21, "metric": "cosine"}
    lists, half = _lists(problem)
    rows, first = _rows(problem, 1), np.ascontiguousarray(lists[:, :6])
    for threads in (2, 3, 16):
        assert_same(compiled.expand(lists, half, threads=threads), compiled.expand(lists, half, threads=1))
        assert_same(compiled.average(*rows, first, threads=threads), compiled.average(*rows, first, threads=1))
        assert_same(compiled.overlaps(*rows, 80, threads=threads), compiled.overlaps(*rows, 80, threads=1))
