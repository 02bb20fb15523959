"""Sets, averages and overlaps of k-reciprocal neighbours in NumPy, without a loop over rows and without SciPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.neighbours import Sparse, row_groups

_BLOCK = 1 << 21  # elements of a temporary array


def _reciprocal(lists: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether row i is in the list of its neighbour, [N, K] for lists [N, K]."""
    result, step = np.empty(lists.shape, bool), max(1, _BLOCK // lists.shape[1] ** 2)
    for start in range(0, len(lists), step):
        block = lists[start : start + step]
        itself = np.arange(start, start + len(block), dtype=np.int32)[:, None, None]
        result[start : start + step] = (lists[block] == itself).any(axis=2)
    return result


def expand(neighbours: NDArray[np.int32], half: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The expanded k-reciprocal sets; arguments and result as `reference.expand`."""
    total, places = neighbours.shape
    near = neighbours[:, : half + 1]
    outside = np.int32(total)  # marks a place that holds no member
    members = np.where(_reciprocal(neighbours), neighbours, outside)
    near_members = np.where(_reciprocal(near), near, outside)
    near_members = np.concatenate([near_members, np.full((1, near.shape[1]), outside)])  # the set of "outside" is empty
    counts, indices = np.empty(total, np.int64), []
    step = max(1, _BLOCK // (places * near.shape[1]))
    inside = np.zeros((min(step, total), total + 1), bool)
    for start in range(0, total, step):
        block = members[start : start + step]
        united = _unite(block, near_members, inside[: len(block)])
        united[(united == outside).all(axis=1), 0] = start + np.flatnonzero((united == outside).all(axis=1))
        counts[start : start + step], columns = _distinct(united, outside)
        indices.append(columns)
    return np.concatenate([[0], np.cumsum(counts)]), np.concatenate(indices)


def _unite(members: NDArray[np.int32], near_members: NDArray[np.int32], inside: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Members [B, K] and those of the half sets that join, with repetitions, padded with N.

    Args:
        members: [B, K].
        near_members: [N + 1, half + 1].
        inside: [B, N + 1], all false; false again at the end. Only what the members touch is read or written.
    """
    row, outside = np.arange(len(members))[:, None], near_members.shape[0] - 1
    inside[row, members] = True
    inside[:, outside] = False
    candidates = near_members[members]  # [B, K, half + 1]
    common = np.count_nonzero(inside[row[:, :, None], candidates], axis=2)
    joins = 3 * common > 2 * np.count_nonzero(candidates != outside, axis=2)
    inside[row, members] = False
    candidates[~joins] = outside
    return np.concatenate([members, candidates.reshape(len(members), -1)], axis=1)


def _distinct(columns: NDArray[np.int32], outside: np.int32) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Number of different columns of each row, and these columns, ascending row by row."""
    columns.sort(axis=1)
    new = columns != outside
    new[:, 1:] &= columns[:, 1:] != columns[:, :-1]
    return np.count_nonzero(new, axis=1), columns[new]


def _entries(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places ``start … start + count - 1`` of all slices in turn."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + counts, counts)


def _sum_by_key(keys: NDArray[np.int64], values: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Distinct keys, ascending, and the sum of the values of each, in the order in which they come."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    new = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
    return keys[new], np.asarray(np.bincount(np.cumsum(new) - 1, weights=values[order]), np.float64)


def average(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], values: NDArray[np.float32], neighbours: NDArray[np.int32]
) -> Sparse:
    """Mean of the sparse rows of each row's neighbours; arguments and result as `reference.average`."""
    total, lengths = len(neighbours), np.diff(indptr)
    sizes, columns, means = np.zeros(total, np.int64), [], []
    for rows in row_groups(lengths[neighbours].sum(axis=1), _BLOCK):
        chosen = neighbours[rows].ravel()
        counts = lengths[chosen]
        source = _entries(indptr[chosen], counts)
        row = np.repeat(np.repeat(np.arange(rows.stop - rows.start), neighbours.shape[1]), counts)
        keys, sums = _sum_by_key(row * np.int64(total) + indices[source], values[source].astype(np.float64))
        sizes[rows] = np.bincount(keys // total, minlength=rows.stop - rows.start)
        columns.append((keys % total).astype(np.int32))
        means.append((sums / neighbours.shape[1]).astype(np.float32))
    return np.concatenate([[0], np.cumsum(sizes)]), np.concatenate(columns), np.concatenate(means)


def overlaps(indptr: NDArray[np.int64], indices: NDArray[np.int32], values: NDArray[np.float32], num_query: int) -> Sparse:
    """Overlap of the rows of queries with those of the gallery; arguments and result as `reference.overlaps`."""
    total = len(indptr) - 1
    first = indptr[num_query]
    num_gallery = total - num_query
    # The gallery's entries by column: an inverted index.
    order = np.argsort(indices[first:], kind="stable")
    holder = np.repeat(np.arange(num_gallery), np.diff(indptr[num_query:]))[order]
    held = values[first:][order].astype(np.float64)
    column_starts = np.searchsorted(indices[first:][order], np.arange(total + 1))
    costs = np.diff(column_starts)[indices[:first]]
    row_costs = np.diff(np.concatenate([[0], np.cumsum(costs)])[indptr[: num_query + 1]])
    sizes, columns, sums = np.zeros(num_query, np.int64), [np.empty(0, np.int32)], [np.empty(0, np.float32)]
    query_rows = np.repeat(np.arange(num_query), np.diff(indptr[: num_query + 1]))
    for rows in row_groups(row_costs, _BLOCK):
        mine = slice(indptr[rows.start], indptr[rows.stop])
        source = _entries(column_starts[indices[mine]], costs[mine])
        row = np.repeat(query_rows[mine] - rows.start, costs[mine])
        shared = np.minimum(np.repeat(values[mine].astype(np.float64), costs[mine]), held[source])
        keys, overlap = _sum_by_key(row * num_gallery + holder[source], shared)
        keys, overlap = keys[overlap > 0], overlap[overlap > 0]
        sizes[rows] = np.bincount(keys // num_gallery, minlength=rows.stop - rows.start)
        columns.append((keys % num_gallery).astype(np.int32))
        sums.append(overlap.astype(np.float32))
    return np.concatenate([[0], np.cumsum(sizes)]), np.concatenate(columns), np.concatenate(sums)


def blend(
    dense: NDArray[np.float32],
    nearness: Sparse,
    farthest: NDArray[np.float32],
    power: int,
    lambda_value: float,
) -> None:
    """Turn distances into final distances, in place; arguments as `reference.blend`."""
    indptr, columns, overlap = nearness
    scale = np.where(farthest > 0, farthest, np.float32(np.inf))
    rows = np.repeat(np.arange(len(dense)), np.diff(indptr))
    near = lambda_value * (dense[rows, columns] / scale[rows].astype(np.float64)) ** power
    near += (1.0 - lambda_value) * (1.0 - overlap / (2.0 - overlap.astype(np.float64)))
    dense /= scale[:, None]
    dense **= power
    dense *= np.float32(lambda_value)
    dense += np.float32(1.0 - lambda_value)
    dense[rows, columns] = near
