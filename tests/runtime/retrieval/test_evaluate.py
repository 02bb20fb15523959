"""CMC, mAP and mINP against cases counted by hand, and against a second implementation that is only obvious."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from stcanet_runtime import DataError, OptionError, ShapeError, backends, evaluate
from stcanet_runtime.retrieval.evaluate import Evaluation


def test_hits_at_ranks_2_and_5() -> None:
    result = evaluate([[0.1, 0.2, 0.3, 0.4, 0.5]], [1], [2, 1, 2, 2, 1])
    assert result.mAP == pytest.approx((1 / 2 + 2 / 5) / 2)
    assert result.mINP == pytest.approx(2 / 5)
    assert_array_equal(result.cmc, [0, 1, 1, 1, 1])


def test_average_precision_by_trapezoids() -> None:
    # Hits at 1, 3 and 6: before them the precision is 1 (by definition), 1 / 2 and 2 / 5.
    result = evaluate([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]], [1], [1, 2, 1, 2, 2, 1], ap_rule="trapezoid")
    assert result.mAP == pytest.approx(((1 + 1) + (1 / 2 + 2 / 3) + (2 / 5 + 3 / 6)) / 2 / 3)
    assert result.protocol.ap_rule == "trapezoid"
    assert result.mINP == 1 / 2
    with pytest.raises(OptionError, match="'rectangle' or 'trapezoid'"):
        evaluate([[0.1]], [1], [1], ap_rule="middle")  # type: ignore[arg-type]


def test_two_queries_are_averaged() -> None:
    # Query 1 finds its person at ranks 1 and 3; query 2 at rank 2 only.
    result = evaluate([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]], [7, 8], [7, 8, 7])
    assert result.mAP == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
    assert result.mINP == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert_array_equal(result.cmc, [0.5, 1, 1])
    assert result.num_valid_queries == 2
    assert_allclose(result.average_precision, [(1 + 2 / 3) / 2, 1 / 2])


def test_same_camera_removes_only_the_querys_own_identity() -> None:
    # In order: own image (same person, same camera: removed), another person on the same camera (stays), the match.
    result = evaluate([[0.0, 0.1, 0.2]], [1], [1, 2, 1], [0], [0, 0, 1])
    assert result.mAP == pytest.approx(1 / 2)
    assert_array_equal(result.cmc, [0, 1, 1])
    assert "removed" in result.protocol.same_camera_rule


def test_without_cameras_nothing_is_removed_and_the_protocol_says_so() -> None:
    result = evaluate([[0.0, 0.1, 0.2]], [1], [1, 2, 1])
    assert result.mAP == pytest.approx((1 + 2 / 3) / 2)
    assert result.protocol.same_camera_rule.startswith("off")


def test_cameras_may_have_names() -> None:
    named = evaluate([[0.0, 0.1, 0.2]], [1], [1, 2, 1], ["gate"], ["gate", "gate", "hall"])
    assert named.mAP == pytest.approx(1 / 2)


def test_junk_is_dropped_and_distractors_stay() -> None:
    result = evaluate([[0.1, 0.2, 0.3]], [1], [-1, 0, 1])
    assert result.mAP == pytest.approx(1 / 2)  # behind the distractor, not behind the junk
    protocol = result.protocol
    assert (protocol.num_gallery, protocol.num_junk, protocol.num_distractors) == (2, 1, 1)


def test_pid_0_is_an_identity_where_a_query_has_it() -> None:
    result = evaluate([[0.1, 0.2], [0.1, 0.2]], [0, 1], [0, 1])
    assert result.mAP == pytest.approx((1 + 1 / 2) / 2)
    assert result.protocol.num_distractors == 0


def test_a_query_without_a_match_is_skipped_and_counted() -> None:
    distances = [[0.1, 0.2], [0.1, 0.2], [0.1, 0.2]]
    # Query 2 is nowhere in the gallery, query 3 only on its own camera.
    result = evaluate(distances, [1, 9, 2], [1, 2], [0, 0, 5], [1, 5])
    assert result.num_valid_queries == 1
    assert result.protocol.num_skipped_queries == 2
    assert result.protocol.num_query == 3
    assert result.mAP == 1
    assert_array_equal(result.average_precision, [1, np.nan, np.nan])


def test_a_junk_query_is_skipped() -> None:
    assert evaluate([[0.1, 0.2], [0.1, 0.2]], [-1, 1], [-1, 1]).num_valid_queries == 1


def test_no_valid_query_is_an_error_that_says_why() -> None:
    with pytest.raises(DataError, match="none of 1 query has a true match among 2"):
        evaluate([[0.1, 0.2]], [1], [1, 2], [0], [0, 0])
    with pytest.raises(DataError, match="none of 0"):
        evaluate(np.empty((0, 2)), [], [1, 2])
    with pytest.raises(DataError):
        evaluate(np.empty((2, 0)), [1, 2], [])


def test_ties_keep_the_order_of_the_gallery() -> None:
    assert evaluate([[0.5, 0.5, 0.5]], [1], [2, 2, 1]).mAP == pytest.approx(1 / 3)
    assert evaluate([[0.5, 0.5, 0.5]], [1], [1, 2, 2]).mAP == 1
    many = np.zeros((1, 100))  # above 16 elements unstable sorts show
    assert evaluate(many, [1], [2] * 40 + [1] + [2] * 59).mINP == pytest.approx(1 / 41)


def test_gallery_shorter_than_max_rank_cuts_the_cmc() -> None:
    result = evaluate([[0.1, 0.2, 0.3]], [1], [2, 1, 2], max_rank=50)
    assert_array_equal(result.cmc, [0, 1, 1])
    assert result.rank(1) == 0
    assert result.rank(20) == 1  # everything is found within a gallery of three
    assert result.protocol.max_rank == 50


def test_max_rank_cuts_the_cmc_but_no_other_figure() -> None:
    result = evaluate([[0.1, 0.2, 0.3]], [1], [2, 2, 1], max_rank=2)
    assert_array_equal(result.cmc, [0, 0])
    assert result.mAP == pytest.approx(1 / 3)
    with pytest.raises(OptionError, match="from 1 to max_rank 2"):
        result.rank(3)
    with pytest.raises(OptionError):
        result.rank(0)


def test_infinite_distances_rank_last() -> None:
    assert evaluate([[np.inf, 0.1, np.inf]], [1], [2, 2, 1]).mAP == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.1, 0.2], [1], [1, 2]), r"distmat must be numbers \[Q, G\]"),
        (([["a"]], [1], [1]), "distmat must be numbers"),
        (([[0.1, np.nan]], [1], [1, 2]), "distmat holds NaN"),
        (([[0.1, 0.2]], [1, 1], [1, 2]), r"q_pids must have shape \[1\]"),
        (([[0.1, 0.2]], [1], [1]), r"g_pids must have shape \[2\]"),
        (([[0.1, 0.2]], [1.0], [1, 2]), "q_pids must hold integers"),
        (([[0.1, 0.2]], [1], [1, 2], [0]), "give both, or neither"),
        (([[0.1, 0.2]], [1], [1, 2], None, [0, 0]), "give both, or neither"),
        (([[0.1, 0.2]], [1], [1, 2], [0], [0]), r"g_camids must have shape \[2\]"),
        (([[0.1, 0.2]], [1], [1, 2], [0], ["a", "b"]), "both be integers or both names"),
        (([[0.1, 0.2]], [1], [1, 2], [0.0], [0.0, 1.0]), "both be integers or both names"),
        (([[0.1, 0.2], [0.3]], [1, 1], [1, 2]), "distmat must be one array"),
        (([[0.1, 0.2]], [2**63], [1, 2]), r"q_pids must hold integers below 2\*\*63, got 9223372036854775808"),
        (([[0.1, 0.2]], [1], np.array([1, 2**64 - 1], np.uint64)), "g_pids must hold integers below"),
        (([[0.1, 0.2]], [1], [1, 2], [2**64 - 1], [0, 1]), "q_camids must hold integers below"),
        ((np.ma.array([[0.1, 0.2]], mask=[[True, False]]), [1], [1, 2]), "distmat must have no masked elements"),
        (([[0.1, 0.2]], [1], np.ma.array([1, 2], mask=[True, False])), "g_pids must have no masked elements"),
        (([[0.1, 0.2]], [1], [1, 2], [0], np.ma.array([1, 2], mask=[True, False])), "g_camids must have no masked elements"),
    ],
)
def test_bad_input(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        evaluate(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, -1, 1.5, "5", None, float("nan")])
def test_bad_ranks(count: Any) -> None:
    with pytest.raises(OptionError, match=f"max_rank must be an integer of at least 1, got {count!r}"):
        evaluate([[0.1]], [1], [1], max_rank=count)
    with pytest.raises(OptionError, match=f"k must be an integer of at least 1, got {count!r}"):
        evaluate([[0.1]], [1], [1]).rank(count)


def test_ranks_of_numpy_are_integers() -> None:
    result = evaluate([[0.1]], [1], [1], max_rank=np.int64(3))
    assert result.rank(np.int64(3)) == 1
    assert json.loads(json.dumps(result.to_dict()))["protocol"]["max_rank"] == 3


def test_input_is_not_changed() -> None:
    distances = np.array([[0.3, 0.1, 0.2]], np.float32)
    evaluate(distances, [1], [-1, 1, 2])
    assert_array_equal(distances, np.array([[0.3, 0.1, 0.2]], np.float32))


def test_result_is_json_with_its_protocol() -> None:
    result = evaluate([[0.1, 0.2]], [1], [1, 2], metric="cosine")
    value = json.loads(json.dumps(result.to_dict()))
    assert value["mAP"] == 1
    assert value["cmc"] == [1, 1]
    assert value["protocol"]["ap_rule"] == "rectangle"
    assert value["protocol"]["metric"] == "cosine"


def test_summary_is_in_percent_and_names_the_skipped() -> None:
    summary = evaluate([[0.1, 0.2], [0.1, 0.2]], [1, 5], [2, 1]).summary()
    assert summary == "mAP 50.00, rank-1 0.00, rank-5 100.00, rank-10 100.00, rank-20 100.00, mINP 50.00 (1 query, 1 skipped)"


def textbook(
    distmat: list[list[float]], q_pids: list[int], g_pids: list[int], q_cams: list[int] | None, g_cams: list[int] | None
) -> tuple[list[float], float, float, int, float] | None:
    """The protocol written down in loops over Python lists, one query after the other. Slow, obvious, independent."""
    firsts, precisions, penalties, areas = [], [], [], []
    for q, pid in enumerate(q_pids):
        ranking = sorted(range(len(g_pids)), key=lambda g: (distmat[q][g], g))
        kept = []
        for g in ranking:
            if g_pids[g] == -1:
                continue
            if q_cams is not None and g_cams is not None and g_pids[g] == pid and g_cams[g] == q_cams[q]:
                continue
            kept.append(g_pids[g] == pid)
        if not any(kept):
            continue
        hits, at_hits, area, before = 0, [], 0.0, 1.0
        for place, hit in enumerate(kept, 1):
            if hit:
                hits += 1
                at_hits.append(hits / place)
                area += (before + hits / place) / 2
            before = hits / place
        firsts.append(kept.index(True))
        precisions.append(sum(at_hits) / len(at_hits))
        areas.append(area / len(at_hits))
        penalties.append(at_hits[-1])
    if not firsts:
        return None
    length = min(50, sum(pid != -1 for pid in g_pids))
    cmc = [sum(first <= k for first in firsts) / len(firsts) for k in range(length)]
    return cmc, sum(precisions) / len(precisions), sum(penalties) / len(penalties), len(firsts), sum(areas) / len(areas)


@settings(max_examples=300)
@given(st.data())
def test_equals_the_textbook(data: st.DataObject) -> None:
    queries, gallery = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 60))
    # Few values, so that ties are everywhere.
    row = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]), min_size=gallery, max_size=gallery)
    distmat = data.draw(st.lists(row, min_size=queries, max_size=queries))
    pids, cams = st.integers(-1, 4), st.integers(0, 2)
    q_pids = data.draw(st.lists(st.integers(0, 4), min_size=queries, max_size=queries))
    g_pids = data.draw(st.lists(pids, min_size=gallery, max_size=gallery))
    q_cams = g_cams = None
    if data.draw(st.booleans()):
        q_cams = data.draw(st.lists(cams, min_size=queries, max_size=queries))
        g_cams = data.draw(st.lists(cams, min_size=gallery, max_size=gallery))
    expected = textbook(distmat, q_pids, g_pids, q_cams, g_cams)
    if expected is None:
        with pytest.raises(DataError):
            evaluate(distmat, q_pids, g_pids, q_cams, g_cams)
        return
    result: Evaluation = evaluate(distmat, q_pids, g_pids, q_cams, g_cams)
    cmc, mean_precision, mean_penalty, valid, mean_area = expected
    assert_allclose(result.cmc, cmc, rtol=0, atol=1e-15)
    assert result.mAP == pytest.approx(mean_precision, abs=1e-12)
    trapezoid = evaluate(distmat, q_pids, g_pids, q_cams, g_cams, ap_rule="trapezoid")
    assert trapezoid.mAP == pytest.approx(mean_area, abs=1e-12)
    assert result.mINP == pytest.approx(mean_penalty, abs=1e-12)
    assert result.num_valid_queries == valid


def test_the_twin_agrees_at_the_size_of_a_real_test_set_row() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = 12, 3000
    distances = rng.random((queries, gallery), dtype=np.float32)
    q_pids, g_pids = rng.integers(1, 40, queries), rng.integers(-1, 40, gallery)
    q_cams, g_cams = rng.integers(0, 6, queries), rng.integers(0, 6, gallery)
    result = evaluate(distances, q_pids, g_pids, q_cams, g_cams)
    expected = textbook(distances.tolist(), q_pids.tolist(), g_pids.tolist(), q_cams.tolist(), g_cams.tolist())
    assert expected is not None
    assert_allclose(result.cmc, expected[0], rtol=0, atol=1e-15)
    assert (result.mAP, result.mINP) == pytest.approx(expected[1:3], abs=1e-12)


@pytest.mark.parametrize("backend", [name for name, problem in backends.available().items() if problem is None])
def test_goes_through_the_backends(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    distances, q_pids, g_pids = rng.integers(0, 9, (20, 300)), rng.integers(0, 6, 20), rng.integers(-1, 6, 300)
    expected = textbook(distances.tolist(), q_pids.tolist(), g_pids.tolist(), None, None)
    assert expected is not None
    used = []
    with backends.use_backend(backend) as chosen:
        ranks = chosen.ranks
        monkeypatch.setattr(chosen, "ranks", lambda *arguments: used.append(backend) or ranks(*arguments))
        result = evaluate(distances.astype(np.float32), q_pids, g_pids)
    assert used == [backend]
    assert (result.mAP, result.mINP) == pytest.approx(expected[1:3], abs=1e-12)


def in_order(dtype: Any, rng: np.random.Generator) -> NDArray[Any]:
    """Distances [8, 400] of this type with ties and with steps as small as it has."""
    start = {"f": 1.0, "i": 100.0, "u": 100.0}[np.dtype(dtype).kind]
    steps = [np.array(start, dtype)]
    for _ in range(20):
        last = steps[-1]
        steps.append(last + 1 if last.dtype.kind in "iu" else np.nextafter(last, np.array(9, dtype)))
    base = np.array(steps)
    if (size := np.dtype(dtype).itemsize) >= 4 and np.dtype(dtype).kind in "iu":
        base = base + np.array(2 ** (8 * size - 2), dtype)  # where a float of as many bytes cannot tell neighbours apart
    return base[rng.integers(0, len(base), (8, 400))].astype(dtype)


TYPES = [
    *(np.float16, np.float32, np.float64, np.longdouble),
    *(np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, ">f4", ">f8"),
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("group", [1, 1000, 1 << 21])
def test_every_type_and_layout_gives_the_same(dtype: Any, group: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Queries are taken in groups when their lists are long; layouts that the kernels do not take are converted."""
    rng = np.random.default_rng(4)
    distances = in_order(dtype, rng)
    people = rng.integers(1, 9, 8), rng.integers(-1, 9, 400), rng.integers(0, 3, 8), rng.integers(0, 3, 400)
    numbers = np.unique(distances, return_inverse=True)[1].reshape(distances.shape)
    expected = textbook(numbers.tolist(), *(part.tolist() for part in people))
    assert expected is not None
    # By its name: as an attribute of the package, this is the function.
    monkeypatch.setattr(import_module("stcanet_runtime.retrieval.evaluate"), "_GROUP_ELEMENTS", group)
    np.save(tmp_path / "distances.npy", distances)
    wide = np.repeat(distances, 2, axis=1)
    layouts = {
        "C": distances,
        "Fortran": np.asfortranarray(distances),
        "strided": wide[:, ::2],
        "backwards": distances[:, ::-1][:, ::-1],
        "mapped": np.load(tmp_path / "distances.npy", mmap_mode="r"),
        "unaligned": np.frombuffer(b"." + distances.tobytes(), distances.dtype, offset=1).reshape(distances.shape),
    }
    for name, layout in layouts.items():
        result = evaluate(layout, *people)
        assert (result.mAP, result.mINP) == pytest.approx(expected[1:3], abs=1e-12), name
        assert_allclose(result.cmc, expected[0], rtol=0, atol=1e-15, err_msg=name)


def test_other_types_are_converted_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    module, rows = import_module("stcanet_runtime.retrieval.evaluate"), []
    converted = module._converted
    monkeypatch.setattr(module, "_GROUP_ELEMENTS", 1000)
    monkeypatch.setattr(module, "_converted", lambda piece: rows.append(len(piece)) or converted(piece))
    evaluate(np.ones((5, 400), np.float16), [1] * 5, [1] * 50 + [2] * 350)
    assert rows == [2, 2, 1]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_nan_of_every_type(dtype: Any) -> None:
    distances = np.ones((3, 40), dtype)
    distances[2, 39] = np.nan  # in the row of a query without a match
    for layout in (distances, np.asfortranarray(distances)):
        with pytest.raises(ShapeError, match="distmat holds NaN"):
            evaluate(layout, [1, 2, 3], [1, 2] + 38 * [9])
