"""The specification of ranks, for `reference`: sorted and compared in full."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.matches import Thresholds, Truth
from stcanet_runtime.backends.neighbours import DEFAULT_SCRATCH
from stcanet_runtime.backends.reference_distance import distance_matrix
from stcanet_runtime.progress import Progress


def ranks(distances: NDArray[Any], truth: Truth) -> NDArray[np.int64] | None:
    """Places of the true matches of every query among what it sees.

    What a query sees is ordered by (distance, gallery index), as a stable sort does; infinite distances come last.

    Args:
        distances: [Q, G] float32 or float64, C-contiguous; smaller is closer.
        truth: matches of each query, and what is left out.

    Returns:
        [M] ranks from 1, ascending for each query; None when any distance is NaN, seen or not.
    """
    if np.isnan(distances).any():
        return None
    result = [np.empty(0, np.int64)]
    for i, row in enumerate(distances):
        visible = np.ones(len(row), np.bool_)
        visible[truth.hidden_of(i)] = visible[truth.junk] = False
        ranking = np.argsort(row, kind="stable")
        ranking = ranking[visible[ranking]]
        result.append(np.flatnonzero(np.isin(ranking, truth.matches_of(i))) + 1)
    return np.concatenate(result)


def count_closer(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    thresholds: Thresholds,
    metric: str,
    *,
    progress: Progress | None = None,
    scratch_bytes: int = DEFAULT_SCRATCH,  # noqa: ARG001  (the definition takes the memory that it takes)
) -> NDArray[np.int64]:
    """How many gallery rows come before each threshold in the order of (float32 distance, gallery index).

    Distances are those of the definition, and the counts the same in every backend.

    Args:
        query: [Q, D] float32, finite.
        gallery: [G, D] float32, finite.
        thresholds: M thresholds of the queries.
        metric: ``"cosine"`` or ``"euclidean"``.
        progress: called between blocks; what it raises ends the work.
        scratch_bytes: memory for blocks, about; the result does not depend on it.

    Returns:
        [M].
    """
    counts, index = np.zeros(len(thresholds.distances), np.int64), np.arange(len(gallery))
    for i in range(len(query)):
        if progress is not None:
            progress(i, len(query))
        row = distance_matrix(query[i : i + 1], gallery, metric)[0]
        for k in range(thresholds.start[i], thresholds.start[i + 1]):
            limit, place = thresholds.distances[k], thresholds.places[k]
            counts[k] = np.count_nonzero((row < limit) | ((row == limit) & (index < place)))
    if progress is not None:
        progress(len(query), len(query))
    return counts
