"""What a benchmark could get wrong: a peer that computes something else, comparisons that cannot fail, data that nobody has."""

from __future__ import annotations

import functools
import importlib.util
import os
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import agreement
import isolated
import market_like
import numpy as np
import peers_rerank
import pytest
import tables
import tables_rerank
from contest import Candidate, hold, prepared

from stcanet_runtime.backends import get_backend, reference

PARAMETERS = {"k1": 7, "k2": 3, "lambda_value": 0.3}


@pytest.fixture(scope="module")
def pair():
    return market_like.market_like(15, 90, 64, seed=3, identities=12, cameras=3)[:2]


def expected(query, gallery, k1, k2, lambda_value):
    joint = np.concatenate([query, gallery])
    return reference.rerank(reference.distance_matrix(joint, joint, "euclidean"), len(query), k1, k2, lambda_value, 2)


@pytest.mark.parametrize("c_order", [False, True])
@pytest.mark.parametrize(("k1", "k2", "lambda_value"), [(7, 3, 0.3), (20, 6, 0.3), (5, 1, 0.0), (6, 12, 1.0)])
def test_the_published_steps_are_the_specification(pair, c_order, k1, k2, lambda_value):
    outcome = peers_rerank.published(*pair, k1=k1, k2=k2, lambda_value=lambda_value, c_order=c_order)
    np.testing.assert_allclose(outcome.arrays["distances"], expected(*pair, k1, k2, lambda_value), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("measured", "idle"),
    [
        (peers_rerank.ours_dense, set()),
        # Lists come from the search itself: nothing is done with a distance matrix.
        (functools.partial(peers_rerank.ours_top, top=5), {"gallery_s"}),
    ],
)
def test_phases_add_up_and_the_backend_is_left_as_it_was(pair, measured, idle):
    backend = get_backend("numpy")
    before = dict(vars(backend))
    start = time.perf_counter()
    seconds = measured(*pair, backend="numpy", **PARAMETERS).facts
    wall = time.perf_counter() - start
    assert dict(vars(backend)) == before
    assert {phase for phase in seconds if seconds[phase] <= 0} == idle
    assert 0.5 * wall < sum(seconds.values()) <= wall


@pytest.mark.skipif(importlib.util.find_spec("torchreid") is None, reason="torchreid is not installed")
def test_torchreid_is_the_specification(pair):
    outcome = peers_rerank.torchreid_rerank(*pair, **PARAMETERS)
    np.testing.assert_allclose(outcome.arrays["distances"], expected(*pair, **PARAMETERS), rtol=0, atol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss is not installed")
def test_faiss_finds_our_neighbours(pair):
    ours, theirs = (
        peers_rerank.ours_neighbours(*pair, k=8, backend="numpy").arrays,
        peers_rerank.faiss_neighbours(*pair, k=8).arrays,
    )
    assert agreement.neighbours(*pair, theirs, ours)["places_wrong"] == 0


def test_a_wrong_neighbour_is_counted_and_a_tie_is_not(pair):
    query, gallery = pair[0], np.concatenate([pair[1], pair[1][:1]])  # the last row is a copy
    ours = peers_rerank.ours_neighbours(query, gallery, k=8, backend="numpy").arrays
    other = {key: array.copy() for key, array in ours.items()}
    assert agreement.neighbours(query, gallery, other, ours)["places_differ"] == 0
    row = len(query)
    assert list(ours["indices"][row, :2]) == [row, len(query) + len(gallery) - 1]
    other["indices"][row, :2] = ours["indices"][row, 1::-1]
    counted = agreement.neighbours(query, gallery, other, ours)
    assert (counted["places_differ"], counted["places_wrong"]) == (2, 0)
    other["indices"][row, 5] = ours["indices"][row, 7]
    assert agreement.neighbours(query, gallery, other, ours)["places_wrong"] == 1


def test_best_places_are_those_of_a_stable_sort():
    values = np.random.default_rng(0).integers(0, 6, (9, 40)).astype(np.float32)
    order = np.argsort(values, axis=1, kind="stable")[:, :11]
    smallest, columns = agreement.best(values, 11)
    np.testing.assert_array_equal(columns, order)
    np.testing.assert_array_equal(smallest, np.take_along_axis(values, order, axis=1))


def test_a_difference_of_matrices_is_seen_in_every_block(monkeypatch):
    monkeypatch.setattr(agreement, "_BLOCK", 3 * 30)
    matrix = np.random.default_rng(0).random((10, 30), np.float32)
    other = matrix.copy()
    assert agreement.dense(other, matrix) == {"max_difference": 0, "mean_difference": 0, "top20_differs": 0}
    other[9, 4] = -1
    figures = agreement.dense(other, matrix)
    assert figures["max_difference"] == pytest.approx(1 + matrix[9, 4])
    assert figures["mean_difference"] == pytest.approx(figures["max_difference"] / 300)
    assert figures["top20_differs"] == 0.1
    found = get_backend("numpy").smallest(matrix, 25)
    assert agreement.top(found[0], found[1].astype(np.int64), matrix)["max_difference"] == 0
    assert agreement.top(found[0], found[1].astype(np.int64), other)["top20_differs"] == 0.1


def test_rows_do_not_depend_on_how_they_are_cut(monkeypatch, tmp_path):
    monkeypatch.setattr(market_like, "_BLOCK", 32)
    data = market_like.describe(100, 40, seed=5, identities=9)
    whole = data.rows(0, 100)
    # Products of few rows may be rounded in another order.
    np.testing.assert_allclose(np.concatenate([data.rows(0, 33), data.rows(33, 100)]), whole, rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, rtol=0, atol=1e-6)
    market_like.save_rows(tmp_path / "rows.npy", data, 10, 90)
    np.testing.assert_allclose(np.load(tmp_path / "rows.npy"), whole[10:90], rtol=0, atol=1e-6)
    assert data.rows(7, 7).shape == (0, 40)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]


def test_people_are_seen_by_several_cameras_and_vary_in_number():
    query, gallery, *ids = market_like.market_like(100, 900, 64, seed=1, identities=40)
    assert (query.shape, gallery.shape, [len(part) for part in ids]) == ((100, 64), (900, 64), [100, 900, 100, 900])
    assert query.dtype == gallery.dtype == np.float32
    counts = np.bincount(ids[1])[1:]
    assert counts.min() < 15 < 30 < counts.max()
    assert set(ids[3]) == set(range(6))


def test_peak_memory_is_that_of_the_call(tmp_path):
    np.save(tmp_path / "query.npy", np.zeros((4, 4), np.float32))
    (tmp_path / "hungry.py").write_text(
        "import numpy as np\nfrom isolated import Outcome\n"
        "calls = []\n"
        "def eat(query, size):\n"
        "    calls.append(None)\n"
        "    np.ones(size * 2 if len(calls) == 1 else size, np.uint8)  # the warm-up takes more\n"
        "    return Outcome({'sum': query.sum()[None]}, {'fact': 1.5})\n"
    )
    call = isolated.Call(
        "hungry:eat",
        {"query": str(tmp_path / "query.npy")},
        {"size": 200 << 20},
        environment={"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
        save_to=str(tmp_path),
    )
    ballast = np.ones(400 << 20, np.uint8)  # a parent's memory is not the child's
    figures = isolated.run(call)
    assert ballast[0] == 1
    assert 195 << 20 < figures["peak_over_start_bytes"] < 230 << 20
    assert figures["peak_bytes"] < 380 << 20
    assert figures["fact"] == 1.5
    assert np.load(tmp_path / "sum.npy") == [0]
    with pytest.raises(isolated.CallError, match="allocate"):
        isolated.run(isolated.Call(**{**vars(call), "arguments": {"size": 4 << 30}, "address_space": 1 << 30}))


def test_a_candidate_that_fails_stands_in_the_table(tmp_path):
    good = Candidate("good", "peers_rerank:ours_dense", {**PARAMETERS, "backend": "numpy"}, "dense")
    bad = Candidate("bad", "peers_rerank:ours_dense", {**PARAMETERS, "backend": "no such"}, "dense")
    late = Candidate("late", "peers_rerank:published", PARAMETERS, "dense", limit=10)
    with prepared(120, 64, 0, tmp_path) as setting:
        rows = hold([bad, good, late], setting, 2)
    assert "no such" in rows["bad"]["error"]
    assert "above N = 10" in rows["late"]["error"]
    assert rows["good"]["max_difference"] == 0
    assert len(rows["good"]["wall_s_all"]) == 2
    assert not list(Path(tmp_path).iterdir())


def test_tables_of_every_result_file_can_be_made():
    row = {"wall_s": 1.0, "cpu_s": 2.0, "peak_bytes": 1 << 30, "peak_over_start_bytes": 1 << 29}
    phases = {f"{phase}_s": 0.2 for phase in ("search", "sets", "overlaps", "gallery", "rest")}
    phases["address_space_peak_bytes"] = 1 << 31
    quality = {"max_difference": 1e-7, "top20_differs": 0.0, "mAP": 0.9}
    sizes = {"query": 3368, "gallery": 15913, "depth": 2048, "k1": 20, "k2": 6, "lambda_value": 0.3, "repeats": 3}
    facts = {
        "cpus": 2,
        "processor": "x",
        "cpu_features": ["avx2"],
        "load_average": 0.1,
        "python": "3",
        "versions": {},
        "commit": "c",
    }
    search = row | {"places_differ": 1, "places_wrong": 0}
    reports = {
        "rerank": {
            "sizes": sizes,
            "data": {"mAP": 0.8},
            "results": {"rerank": {"ours": row | quality, "late": {"error": "no"}}, "neighbours": {"ours": search}},
        },
        "rerank_growth": {"sizes": sizes, "results": {"5000": {"ours": row}, "94000": {"ours": {"error": "not run"}}}},
        "rerank_msmt": {
            "sizes": sizes | {"address_space_bytes": 4 << 30},
            "results": {"dense": row | phases, "top": {"error": "no"}},
            "agreement": {"max_difference": 0.0, "top20_differs": 0.0},
        },
    }
    for name, report in reports.items():
        report |= {"benchmark": name, "environment": facts}
    pages = {path.name: text for path, text in tables.pages(reports).items()}
    assert pages["BENCHMARKS.md"].count("\n## rerank") == 3
    assert f"benchmarks/{tables_rerank.CHART}" in pages["README.md"]
    assert "mAP 80.0 before, 90.00 after" in pages["README.md"]
    chart = ET.fromstring(pages.pop(tables_rerank.CHART))
    texts = [element.text for element in chart.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == [
        "Re-ranking of 3,368 queries and 15,913 gallery rows of 2,048 dimensions",
        *("ours", "seconds", "1.0", "GiB of memory besides the inputs", "0.50"),
    ]
    for text in pages.values():
        for block in text.split("\n\n"):
            assert len({line.count("|") for line in block.splitlines() if line.startswith("|")}) <= 1, block
