"""What `bench_rerank` measures: our re-ranking and neighbour search, and what others use for the same.

* `published`: k-reciprocal re-ranking from distance matrices as nearly every project has it, down to the memory layout: all of
  [N, N], sorts of whole rows, float32. Written anew from the description of its steps. ``c_order=True`` adds the one copy that
  it lacks: its working matrix is a transposed view, so that every row of the matrices made like it is strided.
* `faiss_neighbours`: exact search by inner product, which is what faiss-based re-ranking begins with. It needs faiss-cpu
  (``pip install faiss-cpu``), and gives no largest distance, which exact re-ranking needs besides.
* `torchreid_rerank`: that code itself, as the package torchreid has it (``pip install --no-deps torchreid``; PyTorch and the
  rest of the package are not loaded). It gets true distances here, as `published` does; its own engine passes squared ones.

Looked at and not measured: fastreid, which has the same code once more; open-metric-learning, whose re-ranking is a trained
network. No compiled exact k-reciprocal re-ranking was found on PyPI (November 2026).
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from isolated import Outcome
from numpy.typing import NDArray
from peers_evaluate import load_alone

from stcanet_runtime.backends import get_backend

Embeddings = NDArray[np.float32]
Matrix = NDArray[np.float32]
Sets = list[NDArray[np.int64]]


STAGES = {
    "search_s": ("neighbours",),
    "sets_s": ("pair_distances", "expand", "average"),
    "overlaps_s": ("overlaps", "select_best"),
    "gallery_s": ("distance_matrix", "top_k", "smallest", "blend"),
}
"""Phases of ours and the backend functions that make them up; the rest is what the front does: weights, candidates, files."""


def ours_dense(query: Embeddings, gallery: Embeddings, *, backend: str = "auto", **options: Any) -> Outcome:
    """Our re-ranked distances [Q, G]; with ``out``, a path, they are in that file alone."""
    from stcanet_runtime import rerank

    with timed_stages(backend) as seconds:
        distances = rerank(query, gallery, backend=backend, **options)
    return Outcome({} if "out" in options else {"distances": distances}, seconds)


def ours_top(query: Embeddings, gallery: Embeddings, *, top: int, backend: str = "auto", **options: Any) -> Outcome:
    """Our best `top` of every query, without distances [Q, G]."""
    from stcanet_runtime import rerank

    with timed_stages(backend) as seconds:
        found = rerank(query, gallery, top=top, backend=backend, **options)
    return Outcome({"distances": found.distances, "indices": found.indices}, seconds)


@contextmanager
def timed_stages(backend: str) -> Iterator[dict[str, float]]:
    """Wall seconds by phase of what a backend does while the block runs, complete when it ends."""
    module: Any = get_backend(backend)
    seconds = dict.fromkeys([*STAGES, "rest_s"], 0.0)
    running: list[str] = []
    originals = {name: getattr(module, name) for names in STAGES.values() for name in names}

    def timed(phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if running:  # called by a function that is timed already
                return function(*args, **kwargs)
            running.append(phase)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[phase] += time.perf_counter() - start
                running.pop()

        return call

    start = time.perf_counter()
    try:
        for phase, names in STAGES.items():
            for name in names:
                setattr(module, name, timed(phase, originals[name]))
        yield seconds
    finally:
        for name, function in originals.items():
            setattr(module, name, function)
    seconds["rest_s"] = time.perf_counter() - start - sum(seconds.values())


def ours_neighbours(query: Embeddings, gallery: Embeddings, *, k: int, backend: str) -> Outcome:
    """The k nearest of the joint set to each of its rows, and the largest distance of each."""
    found = get_backend(backend).neighbours(query, gallery, k, "cosine")
    return Outcome({"indices": found.indices, "distances": found.distances})


def faiss_neighbours(query: Embeddings, gallery: Embeddings, *, k: int) -> Outcome:
    """The same from faiss, in float32: two searches in one index, so that the joint set is not copied once more."""
    import faiss

    index = faiss.IndexFlatIP(query.shape[1])
    index.add(query)
    index.add(gallery)
    found = [index.search(side, k) for side in (query, gallery)]
    similarity, indices = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Outcome({"indices": indices, "distances": 1 - similarity})


def published(
    query: Embeddings, gallery: Embeddings, *, k1: int, k2: int, lambda_value: float, c_order: bool = False
) -> Outcome:
    """Re-ranked distances [Q, G] by whole matrices; the distances between embeddings count as part of it."""
    q_g, q_q, g_g = euclidean(query, gallery), euclidean(query, query), euclidean(gallery, gallery)
    return Outcome({"distances": published_from_matrices(q_g, q_q, g_g, k1, k2, lambda_value, c_order)})


def torchreid_rerank(query: Embeddings, gallery: Embeddings, *, k1: int, k2: int, lambda_value: float) -> Outcome:
    """The same by the function of the installed package torchreid."""
    spec = importlib.util.find_spec("torchreid")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("torchreid is not installed")
    # The package imports PyTorch, OpenCV and more; its re-ranking needs NumPy alone.
    path = Path(spec.origin).parent / "reid" / "utils" / "rerank.py"
    module = load_alone("torchreid_rerank_alone", path)
    q_g, q_q, g_g = euclidean(query, gallery), euclidean(query, query), euclidean(gallery, gallery)
    return Outcome({"distances": module.re_ranking(q_g, q_q, g_g, k1, k2, lambda_value)})


def euclidean(x: Embeddings, y: Embeddings) -> Matrix:
    """True distances between rows of unit length, by one product."""
    squared = np.maximum(2 - 2 * (x @ y.T), 0)
    return np.asarray(np.sqrt(squared), np.float32)


def published_from_matrices(
    q_g: Matrix, q_q: Matrix, g_g: Matrix, k1: int, k2: int, lambda_value: float, c_order: bool
) -> Matrix:
    """The published steps; see the module.

    Args:
        q_g: [Q, G] true distances.
        q_q: [Q, Q].
        g_g: [G, G].
        k1: neighbours.
        k2: rows to average.
        lambda_value: weight of the distance.
        c_order: copy the working matrix to rows that are contiguous.

    Returns:
        [Q, G].
    """
    num_query = len(q_q)
    working = np.concatenate([np.concatenate([q_q, q_g], axis=1), np.concatenate([q_g.T, g_g], axis=1)])
    working = np.power(working, 2)
    working = (working / working.max(axis=0)).T
    if c_order:
        working = np.ascontiguousarray(working)
    v = np.zeros_like(working)  # takes the memory layout of `working`
    ranks = np.argsort(working).astype(np.int32)
    for i in range(len(v)):
        members = expanded(ranks, i, k1)
        weights = np.exp(-working[i, members])
        v[i, members] = weights / weights.sum()
    working = working[:num_query]
    if k2 > 1:
        averaged = np.zeros_like(v)
        for i in range(len(v)):
            averaged[i] = v[ranks[i, :k2]].mean(axis=0)
        v = averaged
        del averaged
    del ranks
    distances = (1 - lambda_value) * jaccard(v, num_query) + lambda_value * working
    return np.asarray(distances[:, num_query:])


def reciprocal(ranks: NDArray[np.int32], i: int, k: int) -> NDArray[np.int32]:
    """The first k + 1 of i that have i among their own first k + 1."""
    forward = ranks[i, : k + 1]
    backward = ranks[forward, : k + 1]
    return np.asarray(forward[np.where(backward == i)[0]])


def expanded(ranks: NDArray[np.int32], i: int, k1: int) -> NDArray[np.int32]:
    """The reciprocal set of i with the half-size sets of its members that lie in it by more than two thirds."""
    original = reciprocal(ranks, i, k1)
    united, half = original, int(np.around(k1 / 2))
    for member in original:
        candidates = reciprocal(ranks, member, half)
        if len(np.intersect1d(candidates, original)) > 2 / 3 * len(candidates):
            united = np.append(united, candidates)
    return np.unique(united)


def jaccard(v: Matrix, num_query: int) -> Matrix:
    """Jaccard distances [Q, N] of the rows of queries and all rows of v [N, N], by an inverted index."""
    holders: Sets = [np.where(v[:, column] != 0)[0] for column in range(len(v))]
    result = np.zeros((num_query, len(v)), np.float32)
    for i in range(num_query):
        overlap = np.zeros(len(v), np.float32)
        for column in np.where(v[i] != 0)[0]:
            rows = holders[column]
            overlap[rows] += np.minimum(v[i, column], v[rows, column])
        result[i] = 1 - overlap / (2 - overlap)
    return result
