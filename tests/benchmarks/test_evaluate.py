"""The peers of the evaluation benchmark compute what ours does, and a difference would be seen."""

from __future__ import annotations

import importlib.util
import shutil

import bench_evaluate
import numpy as np
import peers_evaluate
import pytest
import tables_evaluate
from market_like import describe

MATRIX_PEERS = [
    peers_evaluate.published,
    lambda *inputs: peers_evaluate.published(*inputs, vectorised=True),
    pytest.param(
        peers_evaluate.torchreid_python,
        marks=pytest.mark.skipif(importlib.util.find_spec("torchreid") is None, reason="torchreid is not installed"),
    ),
]


@pytest.fixture(scope="module")
def inputs():
    data = describe(240, 32, seed=2, identities=12, cameras=3)
    people = np.stack([data.pids, data.camids], axis=1)
    query, gallery = data.rows(0, 40), data.rows(40, 240)
    return {"distances": 1 - query @ gallery.T, "query": query, "gallery": gallery, "people": (people[:40], people[40:])}


@pytest.fixture(scope="module")
def ours(inputs):
    return peers_evaluate.ours_from_matrix(inputs["distances"], *inputs["people"], backend="reference").arrays


@pytest.mark.parametrize("peer", MATRIX_PEERS)
def test_peers_compute_the_same(peer, inputs, ours):
    arrays = peer(inputs["distances"], *inputs["people"]).arrays
    assert arrays["figures"][0] == pytest.approx(ours["figures"][0], abs=1e-12)
    np.testing.assert_allclose(arrays["cmc"], ours["cmc"], rtol=0, atol=1e-6)


@pytest.mark.skipif(
    importlib.util.find_spec("fastreid") is None or importlib.util.find_spec("Cython") is None or shutil.which("cc") is None,
    reason="fastreid, Cython and a C compiler are needed",
)
def test_fastreid_computes_the_same(inputs, ours, tmp_path):
    library = str(peers_evaluate.build_fastreid(tmp_path))
    arrays = peers_evaluate.fastreid_cython(inputs["distances"], *inputs["people"], library=library).arrays
    np.testing.assert_allclose(arrays["figures"], ours["figures"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(arrays["cmc"], ours["cmc"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("function", ["ours_from_embeddings", "ours_by_way_of_a_matrix"])
def test_ways_of_ours_agree(function, inputs, ours):
    arrays = getattr(peers_evaluate, function)(inputs["query"], inputs["gallery"], *inputs["people"]).arrays
    np.testing.assert_allclose(arrays["figures"], ours["figures"], rtol=0, atol=1e-6)


def test_the_whole_run_in_processes_with_its_table(tmp_path, monkeypatch):
    report = {}
    monkeypatch.setattr(bench_evaluate, "write_result", lambda *found: report.update({"place": found[:2], **found[2]}))
    arguments = "--query 40 --gallery 200 --identities 12 --depth 16 --repeats 1 --skip torchreid fastreid"
    monkeypatch.setattr("sys.argv", ["bench_evaluate", *arguments.split(), "--scratch", str(tmp_path), "--out", str(tmp_path)])
    bench_evaluate.main()
    assert report["place"] == (tmp_path, "evaluate")
    rows = report["results"]["matrix"] | report["results"]["embeddings"]
    assert not [row["error"] for row in rows.values() if "error" in row]
    assert max(row["mAP_difference"] for row in rows.values()) < 1e-12
    table = "\n".join(tables_evaluate.evaluate(report))
    assert "| Python and NumPy, as published |" in table
    assert not list(tmp_path.iterdir())


def test_a_difference_is_seen(tmp_path):
    contenders = [bench_evaluate.Contender(name, "", ()) for name in ("first", "second")]
    for number, precision in enumerate((0.5, 0.25)):
        (tmp_path / str(number)).mkdir()
        np.save(tmp_path / str(number) / "figures.npy", np.array([precision]))
        np.save(tmp_path / str(number) / "cmc.npy", np.array([0.5, 1 - number / 8]))
    rows = {"first": {}, "second": {}}
    bench_evaluate._compare(contenders, tmp_path, rows)
    assert rows["second"] == {"mAP": 0.25, "rank1": 0.5, "mAP_difference": 0.25, "cmc_difference": 0.125}
