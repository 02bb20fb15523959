"""CMC, mAP and mINP after the Market-1501 protocol: the only implementation in the project.

`evaluate` is given the distances; `evaluate_embeddings` makes them as it goes and never holds a matrix. Formulas: `figures`.
Equal distances keep the order of the gallery, so the rank of a true match is 1 + the number of images that come before it in
the order of (distance, gallery index): a count, for which nothing needs to be sorted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stcanet_runtime.arrays import as_array, check_count
from stcanet_runtime.backends import get_backend, resolve
from stcanet_runtime.embeddings import check_embeddings, check_same_depth
from stcanet_runtime.errors import ShapeError
from stcanet_runtime.progress import Progress
from stcanet_runtime.retrieval.distance import check_metric
from stcanet_runtime.retrieval.embedding_ranks import embedding_ranks
from stcanet_runtime.retrieval.figures import DISTRACTOR_PID, APRule, Evaluation, Protocol, Ranks, check_ap_rule, summarise
from stcanet_runtime.retrieval.ground_truth import JUNK_PID, GroundTruth

__all__ = ["DISTRACTOR_PID", "JUNK_PID", "Evaluation", "Protocol", "evaluate", "evaluate_embeddings"]

_GROUP_ELEMENTS = 1 << 21
"""List entries and converted distances of the queries that are ranked at a time."""


def evaluate(
    distmat: ArrayLike,
    q_pids: ArrayLike,
    g_pids: ArrayLike,
    q_camids: ArrayLike | None = None,
    g_camids: ArrayLike | None = None,
    max_rank: int = 50,
    metric: str | None = None,
    ap_rule: APRule = "rectangle",
) -> Evaluation:
    """Rank the gallery for each query and measure how well the true matches come first.

    Args:
        distmat: ``[Q, G]``, smaller is closer; any order-preserving scale will do. +inf is allowed, NaN is not.
        q_pids: ``[Q]`` identities of the queries. A query with pid −1 is skipped.
        g_pids: ``[G]`` identities of the gallery; −1 is junk and dropped, 0 a distractor and kept.
        q_camids: ``[Q]`` cameras, numbers or names; None turns the camera rule off, and the protocol says so.
        g_camids: ``[G]`` cameras; given if and only if `q_camids` is.
        max_rank: Length of the CMC, cut to the size of the gallery.
        metric: Name of the distance, for the protocol only.
        ap_rule: ``"rectangle"``, the mean of the precision at each hit, or ``"trapezoid"``, as Market-1501's authors have it.

    Returns:
        Figures in 0..1 with the protocol that made them.

    Raises:
        ShapeError: Lengths do not fit, ids are not integers, or a distance is NaN.
        DataError: No query has a true match.
        OptionError: `max_rank` is not an integer of at least 1, or there is no such `ap_rule`.
    """
    distances = _distances(distmat)
    people = GroundTruth.of(q_pids, g_pids, q_camids, g_camids, distances.shape)
    places, rule = check_count(max_rank, "max_rank"), check_ap_rule(ap_rule)
    return summarise(_matrix_ranks(distances, people), people, places, metric, rule)


def evaluate_embeddings(
    query: ArrayLike,
    gallery: ArrayLike,
    q_pids: ArrayLike,
    g_pids: ArrayLike,
    q_camids: ArrayLike | None = None,
    g_camids: ArrayLike | None = None,
    max_rank: int = 50,
    metric: str = "cosine",
    max_memory: int | None = None,
    backend: str = "auto",
    progress: Progress | None = None,
    ap_rule: APRule = "rectangle",
) -> Evaluation:
    """Rank the gallery for each query by its embeddings, in bounded memory, and measure as `evaluate` does.

    The figures are those of the exact distances, the same for every backend, processor, number of threads and `max_memory`:
    distances are float64 sums rounded to float32 once, ranked by (distance, gallery index).

    Args:
        query: ``[Q, D]``; a copy is made unless it is float32, within `max_memory`.
        gallery: ``[G, D]``; as float32 it is not copied, so a memory-mapped file may be larger than the memory. Other types
            are converted piece by piece.
        q_pids: ``[Q]``; this and the following as for `evaluate`.
        g_pids: ``[G]``
        q_camids: ``[Q]``
        g_camids: ``[G]``
        max_rank: Length of the CMC.
        metric: ``"cosine"`` or ``"euclidean"``.
        max_memory: Bytes that may be allocated besides what is given, about; None for 256 MiB and what each image needs.
        backend: ``"auto"`` or a name; see `stcanet_runtime.backends`.
        progress: Called as ``progress(done, total)`` between blocks; an exception from it stops the work.
        ap_rule: As for `evaluate`.

    Raises:
        ShapeError: Wrong shapes or values.
        DataError: No query has a true match.
        OptionError: `max_rank` or `max_memory` is not an integer of at least 1, unknown metric, backend or `ap_rule`.
        BackendError: The named backend cannot run here.
        MemoryLimitError: It cannot be done in `max_memory`.
    """
    q, g = check_embeddings(query, "query"), check_embeddings(gallery, "gallery")
    check_same_depth(q, g)
    people = GroundTruth.of(q_pids, g_pids, q_camids, g_camids, (len(q), len(g)))
    places, chosen = check_count(max_rank, "max_rank"), get_backend(backend)
    limit, rule = None if max_memory is None else check_count(max_memory, "max_memory"), check_ap_rule(ap_rule)
    ranks = embedding_ranks(q, g, people, check_metric(metric), chosen, resolve(backend)[0], limit, progress)
    return summarise(ranks, people, places, metric, rule)


def _matrix_ranks(distances: NDArray[Any], people: GroundTruth) -> Iterator[Ranks]:
    """Ranks of all queries, in pieces that bound the memory of lists and conversions."""
    backend, native = get_backend(), _is_native(distances)
    row_cost = 1 if native else distances.shape[1]
    for queries in people.groups(row_cost, _GROUP_ELEMENTS):
        rows, truth = distances[queries], people.matches(queries)
        ranks = backend.ranks(rows if native else _converted(rows), truth)
        if ranks is None:
            raise ShapeError("distmat holds NaN: the ranking is undefined; look at the embeddings it was made from")
        yield truth.match_start, ranks


def _is_native(distances: NDArray[Any]) -> bool:
    return distances.dtype in (np.float32, np.float64) and distances.flags.c_contiguous and distances.flags.aligned


def _converted(rows: NDArray[Any]) -> NDArray[Any]:
    """Float32 or float64 distances in the same order, C-contiguous."""
    integer, size = rows.dtype.kind in "iu", rows.dtype.itemsize
    if size <= (2 if integer else 4):
        return np.require(rows, np.float32, ["C", "ALIGNED"])
    if size <= (4 if integer else 8):
        return np.require(rows, np.float64, ["C", "ALIGNED"])
    # More digits than a float64 has: the number of each among all values of these rows.
    numbers = np.unique(rows, return_inverse=True)[1].reshape(rows.shape).astype(np.float64)
    if not integer:
        numbers[np.isnan(rows)] = np.nan
    return numbers


def _distances(distmat: ArrayLike) -> NDArray[Any]:
    distances = as_array(distmat, "distmat")
    if distances.ndim != 2 or distances.dtype.kind not in "fiu":
        raise ShapeError(f"distmat must be numbers [Q, G], got {distances.dtype} {list(distances.shape)}")
    return distances
