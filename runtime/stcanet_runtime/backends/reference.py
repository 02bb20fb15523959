"""The specification of distances and top-k: NumPy, float64, every step visible, nothing clever.

**Distance.** `reference_distance` states it, to the last bit: which sum in which order.

**Ranking.** Rows are ordered by (float32 distance, gallery index), as a stable sort does.

**Re-ranking.** `rerank` states every choice. The stages into which the fast backends cut it are in `reference_stages`, and are
functions of this module too; so are `reference_ranks`, which evaluation is made of.

Memory and time are those of the definition: use it for checking, and `numpy_` where nothing is compiled.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends import formulas, reference_ranks, reference_resize, reference_stages
from stcanet_runtime.backends.neighbours import DEFAULT_SCRATCH, GalleryLists, Neighbours, Sparse, joint_rows
from stcanet_runtime.backends.reference_distance import distance_matrix, pair_distance
from stcanet_runtime.progress import Progress

READS_FLOAT16 = False
ON_DEVICE = False


def top_k(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    k: int,
    metric: str,
    q_groups: NDArray[np.int64] | None = None,
    g_groups: NDArray[np.int64] | None = None,
    *,
    scratch_bytes: int = DEFAULT_SCRATCH,  # noqa: ARG001
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k nearest visible gallery rows of every query row.

    Args:
        query: [Q, D] float32, finite.
        gallery: [G, D] float32, finite.
        k: places, at least 1; may exceed G.
        metric: ``"cosine"`` or ``"euclidean"``.
        q_groups: [Q] int64; gallery row j is invisible to query row i when ``q_groups[i] == g_groups[j]``.
        g_groups: [G] int64, together with ``q_groups``.
        scratch_bytes: memory for blocks, about; the result does not depend on it.

    Returns:
        Distances [Q, k] float32 and indices [Q, k] int64, ordered by (distance, index); places without a visible
        gallery row hold infinity and -1.
    """
    matrix = distance_matrix(query, gallery, metric)
    if q_groups is not None and g_groups is not None:
        matrix[q_groups[:, None] == g_groups[None, :]] = np.inf
    order = np.argsort(matrix, axis=1, kind="stable")[:, :k]
    distances = np.full((len(query), k), np.inf, np.float32)
    indices = np.full((len(query), k), -1, np.int64)
    distances[:, : order.shape[1]] = np.take_along_axis(matrix, order, axis=1)
    indices[:, : order.shape[1]] = order
    indices[np.isinf(distances)] = -1
    return distances, indices


def neighbours(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    k: int,
    metric: str,
    *,
    dense: NDArray[np.float32] | None = None,
    lists: GalleryLists | None = None,
    progress: Progress | None = None,
    scratch_bytes: int = DEFAULT_SCRATCH,  # noqa: ARG001  (the definition takes the memory that it takes)
) -> Neighbours:
    """The k nearest rows of the joint set to each of its rows, and the largest distance of each.

    A row counts among its own neighbours like any other row. The result is the same bits in every backend.

    Args:
        query: [Q, D] float32, finite; joint rows 0..Q - 1.
        gallery: [G, D] float32, finite; joint rows Q..N - 1.
        k: from 1 to N.
        metric: ``"cosine"`` or ``"euclidean"``.
        dense: [Q, G], filled with what `distance_matrix` would give.
        lists: filled with what `top_k` would give.
        progress: called between blocks; what it raises ends the search.
        scratch_bytes: memory for blocks, about; the result does not depend on it.
    """
    joint = np.concatenate([query, gallery])
    if progress is not None:
        progress(0, len(joint))
    matrix = distance_matrix(joint, joint, metric)
    if dense is not None:
        dense[:] = matrix[: len(query), len(query) :]
    if lists is not None:
        places = lists.distances.shape[1]
        lists.distances[:], lists.indices[:] = top_k(query, gallery, places, metric, lists.q_groups, lists.g_groups)
    distances, indices = smallest(matrix, k)
    if progress is not None:
        progress(len(joint), len(joint))
    return Neighbours(indices, distances, matrix.max(axis=1))


def pair_distances(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    metric: str,
) -> NDArray[np.float32]:
    """Distances [P] of the pairs (rows, cols) [P] of joint rows, by the definition."""
    return pair_distance(joint_rows(query, gallery, rows), joint_rows(query, gallery, cols), metric)


def rerank(
    distances: NDArray[np.float32], num_query: int, k1: int, k2: int, lambda_value: float, power: int
) -> NDArray[np.float64]:
    """k-reciprocal re-ranking (Zhong et al., CVPR 2017), dense and in float64.

    1. *Joint set.* Queries and gallery together are N rows: neighbours, ranks and maxima are over all of them, so a query
       may be the neighbour of another, and one more query changes every result.
    2. *Power of the distance.* The paper uses the squared euclidean distance of unit vectors; only its ratio to a maximum
       counts. That is ``power`` 2 for true euclidean distances, 1 for cosine distances (half of the squared ones).
       torchreid, layumi and the published STCANet code hand squared or cosine distances to code that squares them: 4 and 2.
    3. *Column maximum.* Row i of the working matrix is column i of ``distances``, divided by its maximum over all N, then
       raised: with symmetric distances the row itself. A row of zeros stays zero (the published code divides 0 by 0). The
       faiss versions (fast-reid, SpCL) do not normalise, or blend with distances that are not.
    4. *Order.* By (float32 distance, index). The published code sorts with an unstable sort, and its ties fall as the
       processor has it; on its own those versions that store float16 make ties where there were none.
    5. *Neighbours.* The first k1 + 1, the row itself included wherever it comes: behind its copies with a smaller index.
       Where N is smaller, all N. (SpCL and fast-reid take k1.)
    6. *Reciprocal.* ``R(i, k)``: those among the first k + 1 of i that have i among their own first k + 1.
    7. *Expansion.* For every c in R(i, k1): ``R(c, h)`` joins if *more* than 2/3 of it lies in R(i, k1), as it was before
       anything joined; ``h = around(k1 / 2)`` rounds a half to the even number (k1 = 21 and 19: 10). MATLAB's original takes
       ``round((k1 + 1) / 2)`` rows, one fewer where k1 is 3 modulo 4. With more than k1 copies nothing may be
       reciprocal to i; then the set is {i} (the published code divides 0 by 0).
    8. *Weights.* ``V[i, j] = exp(-working[i, j])`` on the set, divided by their sum. (Several versions keep V in float16,
       whose rows do not add up to 1, as step 10 needs.)
    9. *Average.* V[i] becomes the mean of V over the first k2 of i; k2 = 1 leaves it. k2 may exceed k1 + 1.
    10. *Jaccard distance.* ``m = Σ_j min(V[q, j], V[g, j])`` and ``J = 1 - m / (2 - m)``.
    11. *Blend.* ``(1 - λ) J + λ working``: λ = 1 is the plain distance on another scale. (SpCL has no blend.)

    Args:
        distances: [N, N], not negative, queries first.
        num_query: Q.
        k1: at least 1.
        k2: at least 1.
        lambda_value: λ, in 0..1.
        power: of the distance; see 2.

    Returns:
        [Q, N - Q] float64; smaller is closer.
    """
    working, order = _working(distances, power)
    half = round(Fraction(k1, 2))
    v = np.zeros(working.shape)
    for i in range(len(v)):
        members = reference_stages.expanded_set(order, i, k1, half)
        weights = np.exp(-working[i, members])
        v[i, members] = weights / weights.sum()
    if k2 > 1:
        v = np.array([v[row[:k2]].mean(axis=0) for row in order]).reshape(v.shape)
    jaccard = np.empty((num_query, len(v) - num_query))
    for q in range(num_query):
        overlap = np.minimum(v[q], v[num_query:]).sum(axis=1)
        jaccard[q] = 1.0 - overlap / (2.0 - overlap)
    return np.asarray((1.0 - lambda_value) * jaccard + lambda_value * working[:num_query, num_query:])


def _working(distances: NDArray[np.float32], power: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Working matrix [N, N] and the order of each of its rows [N, N]."""
    columns = np.ascontiguousarray(distances.T, np.float64)
    farthest = columns.max(axis=1, keepdims=True, initial=0.0)
    working = np.divide(columns, farthest, out=np.zeros(columns.shape), where=farthest > 0) ** power
    return working, np.argsort(columns, axis=1, kind="stable")


def select_best(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    metric: str,
    rows: Sparse,
    farthest: NDArray[np.float32],
    lists: GalleryLists,
    places: int,
    power: int,
    lambda_value: float,
    *,
    progress: Progress | None = None,
    scratch_bytes: int = DEFAULT_SCRATCH,  # noqa: ARG001
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best gallery rows of every query by ``(1 - λ) J + λ (distance / farthest)^power``.

    Args:
        query: [Q, D].
        gallery: [G, D].
        metric: ``"cosine"`` or ``"euclidean"``.
        rows: V [N, N].
        farthest: [N].
        lists: the L nearest visible of every query, ``places <= L <= G``; what its groups hide is left out.
        places: m.
        power: of the distance: 1, 2 or 4.
        lambda_value: λ.
        progress: told how many queries are done.
        scratch_bytes: memory for blocks, about; the result does not depend on it.

    Returns:
        Distances [Q, m] float32 and indices [Q, m] int64 by (distance, index), infinity and -1 where nothing is visible. The
        same bits in every backend whose sums of minima are the same.
    """
    overlap = np.zeros((len(query), len(gallery)), np.float32)
    indptr, columns, values = overlaps(*rows, len(query))
    overlap[np.repeat(np.arange(len(query)), np.diff(indptr)), columns] = values
    scale = farthest[: len(query), None]
    blended = formulas.final(overlap, distance_matrix(query, gallery, metric), scale, power, lambda_value)
    if lists.q_groups is not None and lists.g_groups is not None:
        blended[lists.q_groups[:, None] == lists.g_groups[None, :]] = np.inf
    distances, indices = smallest(blended, places)
    if progress is not None:
        progress(len(query), len(query))
    return distances, np.where(np.isinf(distances), -1, indices).astype(np.int64)


average = reference_stages.average
blend = reference_stages.blend
count_closer = reference_ranks.count_closer
resize_boxes = reference_resize.resize_boxes
expand = reference_stages.expand
overlaps = reference_stages.overlaps
ranks = reference_ranks.ranks
smallest = reference_stages.smallest
