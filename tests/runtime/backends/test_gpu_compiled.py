"""The kernels of the GPU backend as they are compiled for a GPU, with CuPy's compiler and options, on a machine of PTX."""

from __future__ import annotations

import os
from typing import Any

import gpu_model
import numpy as np
import pytest
from gpu_model import Compiled
from numpy.testing import assert_array_equal
from random_frames import random_boxes, random_frame
from rerank_cases import TOLERANCE, market_like

from stcanet_runtime import backends, evaluate, evaluate_embeddings, rerank, search
from stcanet_runtime.backends import gpu_device, gpu_search
from stcanet_runtime.images.boxes import crop_boxes
from tests.ptx import nvrtc
from tests.ptx.parser import Module

pytestmark = pytest.mark.skipif(not nvrtc.libraries(), reason="no NVRTC, CuPy's compiler, which PyTorch for CUDA brings")

_SEARCH = {"squared_lengths", "measure", "row_limits", "collect", "place_best"}
_SETS = {"mutual", "join_sets", "unite_sets", "sort_columns", "listed_distances", "set_weights", "average_rows", "overlap_rows"}
_TOP = {"listed_values", "nth_value", "add_touched", "blend_pairs", "find_unsure", "whole_rows"}
KERNELS = {
    "search": _SEARCH,
    "rerank": {*_SEARCH, "raise_farthest", *_SETS, "finish_tile", "blend_rows"},
    "rerank, top": {*_SEARCH, "raise_farthest", *_SETS, *_TOP},
    "evaluate": {"squared_lengths", "measure", "count_sure", "count_measured"},
    "evaluate, distances": {"count_before"},
    "crops": {"weigh_outputs", "first_pass", "second_pass"},
}
"""Which ones each function launches."""


@pytest.fixture(scope="module")
def module() -> Module:
    # CuPy adds the last two: kernels take subnormal float32 for zero (see backends/gpu.py).
    options = (*gpu_device.OPTIONS, "-ftz=true", "--gpu-architecture=compute_90")
    return Module(nvrtc.compile_to_ptx(gpu_device.kernel_source(), options))


@pytest.fixture
def gpu(module: Module, monkeypatch: pytest.MonkeyPatch) -> Compiled:
    found = Compiled(module)
    monkeypatch.setattr(gpu_device, "device", lambda: found)
    monkeypatch.setattr(gpu_search, "_PIECE", 1100)  # two of a long row, and more than the threads of a block read at once
    monkeypatch.setitem(backends._PROBES, "gpu", lambda: None)
    return found


def test_all_kernels_are_here(module: Module) -> None:
    assert {f"{name}_kernel" for names in KERNELS.values() for name in names} == set(module.names)


def drawn() -> np.random.Generator:
    """Another one for each run of the tests; pytest prints the seed where a test fails."""
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")  # noqa: T201
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("metric", "rows"), [("cosine", 1400), ("euclidean", 40)])
def test_search(gpu: Compiled, metric: str, rows: int) -> None:
    query, gallery = np.split(drawn().normal(size=(5 + rows, 33)).astype(np.float32), [5])
    gallery[7] = gallery[3]
    for cameras in ({}, {"q_camids": np.arange(5) % 2, "g_camids": np.arange(rows) % 2}):
        found, expected = (search(query, gallery, 10, metric=metric, backend=name, **cameras) for name in ("gpu", "reference"))
        assert_array_equal(found.indices, expected.indices)
        assert_array_equal(found.distances, expected.distances)
    assert gpu.launched == KERNELS["search"]


@pytest.fixture
def problem() -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    """Queries and gallery, cameras, and what is small enough for a few seconds."""
    query, gallery, _, _, q_camids, g_camids = market_like()
    return query[:6], gallery[:40], {"q_camids": q_camids[:6], "g_camids": g_camids[:40]}, {"k1": 6, "k2": 3}


def test_rerank(gpu: Compiled, problem: Any) -> None:
    query, gallery, _, how = problem
    result, expected = (rerank(query, gallery, backend=name, **how) for name in ("gpu", "reference"))
    np.testing.assert_allclose(result, expected, atol=TOLERANCE)
    assert gpu.launched == KERNELS["rerank"]


@pytest.mark.parametrize("rule", [False, True], ids=["all", "other cameras"])
def test_best_after_reranking(gpu: Compiled, problem: Any, rule: bool) -> None:
    query, gallery, cameras, how = problem
    gallery = np.concatenate([gallery[:20], gallery[:20]])
    how |= {"top": 7, "lambda_value": 0.0, **(cameras if rule else {})}  # so that some queries cannot be sure of their best
    found, expected = (rerank(query, gallery, backend=name, **how) for name in ("gpu", "reference"))
    np.testing.assert_allclose(found.distances, expected.distances, atol=TOLERANCE)
    assert gpu.launched == KERNELS["rerank, top"]


def test_evaluate(gpu: Compiled) -> None:
    query, gallery, q_pids, g_pids, q_camids, g_camids = market_like()
    labels = q_pids[:20], g_pids, q_camids[:20], g_camids
    result, expected = (evaluate_embeddings(query[:20], gallery, *labels, backend=name) for name in ("gpu", "reference"))
    assert result.to_dict() == expected.to_dict()
    assert gpu.launched == KERNELS["evaluate"]


def test_evaluate_distances(gpu: Compiled) -> None:
    distances = drawn().integers(0, 9, (12, 70)).astype(np.float32)  # with ties
    labels = np.arange(12) % 4, np.arange(70) % 4, np.arange(12) % 3, np.arange(70) % 3
    with backends.use_backend("reference"):
        expected = evaluate(distances, *labels)
    with backends.use_backend("gpu"):
        assert evaluate(distances, *labels).to_dict() == expected.to_dict()
    assert gpu.launched == KERNELS["evaluate, distances"]


@pytest.mark.parametrize("format", ["rgb", "nv12", "i420"])
def test_crops(gpu: Compiled, format: str) -> None:
    random = drawn()
    frame, boxes = random_frame(random, format, 61, 83), random_boxes(random, 5, 61, 83)
    there = crop_boxes([gpu_model._on_device(plane) for plane in frame.planes], boxes, format, 16, 8)
    with backends.use_backend("reference"):
        assert_array_equal(gpu.get(there.crops), crop_boxes(frame.planes, boxes, format, 16, 8).crops)
    assert gpu.launched == KERNELS["crops"]
