"""What `bench_evaluate` measures: our CMC, mAP and mINP, and what others use for the same.

* `published`: the Market-1501 protocol as the Python of nearly every project has it: the whole matrix sorted, then query by
  query the precision at every place of the ranking, by a list comprehension. Written anew from the description of its steps.
  ``vectorised=True`` takes that division out of Python, and changes nothing else.
* `torchreid_python`: that code itself, as the package torchreid has it (``pip install --no-deps torchreid``; PyTorch and the
  rest of the package are not loaded). The Cython version is not in its wheel.
* `fastreid_cython`: the fastest public one, which the package fastreid has as source (``pip install --no-deps fastreid``, and
  Cython and a C compiler to build it: `build_fastreid`). Its sums are float32.

All sort with NumPy's default, which is not stable: ties fall as the processor has it. Looked at and not measured:
open-metric-learning, pytorch-metric-learning and torchmetrics compute mean average precision without the camera rule, from the
nearest k or from one list of all Q x G pairs.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import unittest.mock
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from isolated import Outcome
from numpy.typing import NDArray

from stcanet_runtime.retrieval.evaluate import Evaluation

Embeddings = NDArray[np.float32]
Matrix = NDArray[np.float32]
People = NDArray[np.int64]
"""[N, 2]: identity and camera."""

MAX_RANK = 50


def ours_from_matrix(distances: Matrix, q_people: People, g_people: People, *, backend: str) -> Outcome:
    """From distances [Q, G]."""
    from stcanet_runtime import backends, evaluate

    with backends.use_backend(backend):
        return _outcome(evaluate(distances[:, : len(g_people)], *_ids(q_people, g_people), MAX_RANK))


def ours_from_embeddings(query: Embeddings, gallery: Embeddings, q_people: People, g_people: People, **options: Any) -> Outcome:
    """From embeddings, without a matrix."""
    from stcanet_runtime import evaluate_embeddings

    return _outcome(evaluate_embeddings(query, gallery, *_ids(q_people, g_people), MAX_RANK, **options))


def ours_by_way_of_a_matrix(query: Embeddings, gallery: Embeddings, q_people: People, g_people: People) -> Outcome:
    """From embeddings, through a matrix that is made first."""
    from stcanet_runtime import distance_matrix, evaluate

    return _outcome(evaluate(distance_matrix(query, gallery), *_ids(q_people, g_people), MAX_RANK))


def _outcome(result: Evaluation) -> Outcome:
    return Outcome({"figures": np.array([result.mAP, result.mINP]), "cmc": result.cmc})


def _ids(q_people: People, g_people: People) -> tuple[People, People, People, People]:
    return q_people[:, 0], g_people[:, 0], q_people[:, 1], g_people[:, 1]


def published(distances: Matrix, q_people: People, g_people: People, *, vectorised: bool = False) -> Outcome:
    """The published steps; see the module. No mINP, as there."""
    q_pids, g_pids, q_camids, g_camids = _ids(q_people, g_people)
    ranking = np.argsort(distances[:, : len(g_people)], axis=1)
    correct = (g_pids[ranking] == q_pids[:, None]).astype(np.int32)
    curves, precisions = [], []
    for query in range(len(q_people)):
        order = ranking[query]
        hidden = (g_pids[order] == q_pids[query]) & (g_camids[order] == q_camids[query])
        hits = correct[query][~hidden]
        if not hits.any():
            continue
        found = hits.cumsum()
        curves.append(np.minimum(found, 1)[:MAX_RANK])
        if vectorised:
            precision = found / np.arange(1, len(found) + 1)
        else:
            precision = np.asarray([count / (place + 1.0) for place, count in enumerate(found)])
        precisions.append((precision * hits).sum() / hits.sum())
    cmc = np.asarray(curves, np.float32).sum(axis=0) / len(curves)
    return Outcome({"figures": np.array([np.mean(precisions)]), "cmc": cmc})


def torchreid_python(distances: Matrix, q_people: People, g_people: People) -> Outcome:
    """The same by the function of the installed package torchreid."""
    distances = distances[:, : len(g_people)]
    cmc, mean_precision = _torchreid().eval_market1501(distances, *_ids(q_people, g_people), MAX_RANK)
    return Outcome({"figures": np.array([mean_precision]), "cmc": cmc})


@functools.cache
def _torchreid() -> Any:
    spec = importlib.util.find_spec("torchreid")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("torchreid is not installed")
    # An empty package in its place while the module looks for the Cython version, which is not there: it would import
    # PyTorch and OpenCV. The module then warns.
    with (
        unittest.mock.patch.dict(sys.modules, {"torchreid": ModuleType("torchreid")}),
        warnings.catch_warnings(action="ignore"),
    ):
        return load_alone("torchreid_rank_alone", Path(spec.origin).parent / "reid" / "metrics" / "rank.py")


def fastreid_cython(distances: Matrix, q_people: People, g_people: People, *, library: str) -> Outcome:
    """The same by the Cython code of the installed package fastreid, which `build_fastreid` built."""
    module = load_alone("rank_cy", Path(library))
    distances = distances[:, : len(g_people)]
    cmc, precisions, penalties = module.evaluate_cy(distances, *_ids(q_people, g_people), MAX_RANK)
    figures = np.array([np.mean(precisions), np.mean(penalties)], np.float64)
    return Outcome({"figures": figures, "cmc": np.asarray(cmc)})


def build_fastreid(folder: Path) -> Path:
    """Build the Cython code of the installed package fastreid in `folder`; returns the library.

    Raises:
        ModuleNotFoundError: fastreid or Cython is not installed.
        subprocess.CalledProcessError: it does not compile.
    """
    spec = importlib.util.find_spec("fastreid")
    if spec is None or spec.origin is None or importlib.util.find_spec("Cython") is None:
        raise ModuleNotFoundError("fastreid and Cython are needed")
    source = folder / "rank_cy.pyx"
    shutil.copy(Path(spec.origin).parent / "evaluation" / "rank_cylib" / source.name, source)
    variables = {**os.environ, "CFLAGS": f"-O2 -I{np.get_include()}"}
    command = [sys.executable, "-m", "Cython.Build.Cythonize", "--inplace", str(source)]
    subprocess.run(command, env=variables, cwd=folder, capture_output=True, check=True)
    return next(folder.glob("rank_cy*.so"))


def load_alone(name: str, path: Path) -> Any:
    """A module from its file, without the package around it."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
