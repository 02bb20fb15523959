"""The stages of re-ranking as the backends have them, each by its definition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.neighbours import Sparse


def reciprocal(order: NDArray[np.integer], i: int, k: int) -> NDArray[np.integer]:
    """``R(i, k)``: those among the first k + 1 of i that have i among their own first k + 1, in the order of i's."""
    forward = order[i, : k + 1]
    return np.asarray(forward[(order[forward, : k + 1] == i).any(axis=1)])


def expanded_set(order: NDArray[np.integer], i: int, k: int, half: int) -> NDArray[np.integer]:
    """``R(i, k)`` and those ``R(c, half)`` of its members of which more than 2/3 lies in it, ascending; never empty."""
    original = reciprocal(order, i, k)
    united = [original]
    for c in original:
        near = reciprocal(order, c, half)
        if 3 * len(np.intersect1d(near, original)) > 2 * len(near):
            united.append(near)
    members = np.unique(np.concatenate(united))
    return members if len(members) else np.array([i])


def expand(neighbours: NDArray[np.int32], half: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The expanded k-reciprocal sets of all rows; see `reference.rerank`.

    Args:
        neighbours: [N, K], K = k1 + 1, or N where that is less.
        half: ``around(k1 / 2)``.

    Returns:
        The columns of the sparse rows [N, N]: indptr and indices.
    """
    sets = [expanded_set(neighbours, i, neighbours.shape[1] - 1, half) for i in range(len(neighbours))]
    return _indptr([len(members) for members in sets]), np.concatenate([np.empty(0, np.int32), *sets]).astype(np.int32)


def average(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], values: NDArray[np.float32], neighbours: NDArray[np.int32]
) -> Sparse:
    """Mean of the sparse rows of each row's neighbours.

    Args:
        indptr: [N + 1].
        indices: columns in 0..N - 1.
        values: positive, so that no entry of the mean cancels.
        neighbours: [N, k2].
    """
    dense = _dense(indptr, indices, values)
    return _sparse(np.array([dense[row].mean(axis=0) for row in neighbours]))


def overlaps(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    num_query: int,
    start: int = 0,
    stop: int | None = None,
) -> Sparse:
    """``m[q, g] = Σ_j min(V[q, j], V[g, j])`` as sparse rows [stop - start, G], only where it is above zero.

    Args:
        indptr: [N + 1] of V [N, N].
        indices: columns of V.
        values: not negative.
        num_query: Q; the gallery is the rest, and column 0 of the result is its first row.
        start: first query.
        stop: end of the queries; None for Q.

    Returns:
        Sparse rows, exact to 1e-6.
    """
    v = _dense(indptr, indices, values)
    queries, gallery = v[:num_query][start:stop], v[num_query:]
    shape = (len(queries), len(gallery))
    return _sparse(np.array([np.minimum(row, gallery).sum(axis=1) for row in queries]).reshape(shape))


def blend(dense: NDArray[np.float32], nearness: Sparse, farthest: NDArray[np.float32], power: int, lambda_value: float) -> None:
    """``(1 - λ) J + λ (distance / farthest)^power``, in place; J is 1 where nothing overlaps, and 0 / 0 counts as 0.

    Args:
        dense: [R, G] distances of some queries, replaced by the result, exact to 1e-6.
        nearness: overlaps of these queries, [R, G].
        farthest: [R].
        power: of the distance.
        lambda_value: λ.
    """
    indptr, columns, values = nearness
    overlap = np.zeros(dense.shape)
    overlap[np.repeat(np.arange(len(dense)), np.diff(indptr)), columns] = values
    scale = farthest[:, None].astype(np.float64)
    relative = np.divide(dense, scale, out=np.zeros(dense.shape), where=scale > 0)
    dense[:] = (1.0 - lambda_value) * (1.0 - overlap / (2.0 - overlap)) + lambda_value * relative**power


def smallest(values: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The k smallest values [R, k] of each row [R, N] by (value, column), and their columns; 1 <= k <= N."""
    order = np.argsort(values, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(values, order, axis=1), order.astype(np.int32)


def _indptr(counts: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _dense(indptr: NDArray[np.int64], indices: NDArray[np.int32], values: NDArray[np.float32]) -> NDArray[np.float64]:
    total = len(indptr) - 1
    dense = np.zeros((total, total))
    dense[np.repeat(np.arange(total), np.diff(indptr)), indices] = values
    return dense


def _sparse(dense: NDArray[np.float64]) -> Sparse:
    rows, columns = np.nonzero(dense)
    counts = np.bincount(rows, minlength=len(dense))
    return _indptr(counts), columns.astype(np.int32), dense[rows, columns].astype(np.float32)
