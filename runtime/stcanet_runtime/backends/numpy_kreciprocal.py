"""Sets, averages and overlaps of k-reciprocal neighbours in NumPy, without a loop over rows and without SciPy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.neighbours import Sparse, row_groups, stage_bytes

_BLOCK = 1 << 19  # elements of a temporary array
_COUNTED = 1 << 15  # likewise, beside what a limit of memory has allowed already


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
    # Half of what a stage may take is for `inside`, half for what is made of the members.
    step = max(1, min(_BLOCK // (places * near.shape[1]), stage_bytes(total, places) // 2 // (total + 1)))
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


def _sum_by_key(keys: NDArray[np.int64], values: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Distinct keys, ascending, and the sum of the values of each, in the order in which they come."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    new = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
    return keys[new], np.asarray(np.bincount(np.cumsum(new) - 1, weights=values[order]), np.float64)


def _from_keys(pieces: list[tuple[NDArray[np.int64], NDArray[np.float64]]], rows: int, width: int) -> Sparse:
    """Sparse rows from pieces of (row · width + column, value), ascending."""
    counts = np.zeros(rows, np.int64)
    for keys, _ in pieces:
        counts += np.bincount(keys // width, minlength=rows)
    columns = np.concatenate([np.empty(0, np.int32), *((keys % width).astype(np.int32) for keys, _ in pieces)])
    values = np.concatenate([np.empty(0, np.float32), *(sums.astype(np.float32) for _, sums in pieces)])
    return np.concatenate([[0], np.cumsum(counts)]), columns, values


def average(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], values: NDArray[np.float32], neighbours: NDArray[np.int32]
) -> Sparse:
    """Mean of the sparse rows of each row's neighbours; arguments and result as `reference.average`."""
    pieces = []
    for keys, source in _gathered(indptr, indices, neighbours, _BLOCK):
        keys, sums = _sum_by_key(keys, values[source])
        pieces.append((keys, sums / neighbours.shape[1]))
    return _from_keys(pieces, len(neighbours), len(neighbours))


def count_averaged(indptr: NDArray[np.int64], indices: NDArray[np.int32], neighbours: NDArray[np.int32]) -> int:
    """How many entries `average` would return."""
    return sum(len(np.unique(keys)) for keys, _ in _gathered(indptr, indices, neighbours, _COUNTED))


def _gathered(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], neighbours: NDArray[np.int32], elements: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """What the neighbours of each row bring to it, some rows at a time: row · N + column, and the places of the entries."""
    total, lengths = len(neighbours), np.diff(indptr)
    for rows in row_groups(lengths[neighbours].sum(axis=1), elements):
        chosen = neighbours[rows].ravel()
        counts = lengths[chosen]
        source = _entries(indptr[chosen], counts)
        row = np.repeat(np.repeat(np.arange(rows.start, rows.stop), neighbours.shape[1]), counts)
        yield row * np.int64(total) + indices[source], source


def overlaps(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    num_query: int,
    start: int = 0,
    stop: int | None = None,
) -> Sparse:
    """Overlap of the rows of queries with those of the gallery; arguments and result as `reference.overlaps`."""
    num_gallery = len(indptr) - 1 - num_query
    column_starts, holders, held = _by_column(indptr, indices, values, num_query)
    indptr = indptr[start : (num_query if stop is None else stop) + 1]
    indices, values, indptr = indices[indptr[0] : indptr[-1]], values[indptr[0] : indptr[-1]], indptr - indptr[0]
    costs = np.diff(column_starts)[indices]  # gallery rows that share the column of an entry
    row_of = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    row_costs = np.diff(np.concatenate([[0], np.cumsum(costs)])[indptr])
    pieces = []
    for rows in row_groups(row_costs, _BLOCK):
        mine = slice(indptr[rows.start], indptr[rows.stop])
        places = _entries(column_starts[indices[mine]], costs[mine])
        shared = np.minimum(np.repeat(values[mine], costs[mine]), held[places])
        pairs = np.repeat(row_of[mine], costs[mine]) * np.int64(num_gallery) + holders[places]
        found, overlap = _sum_by_key(pairs, shared)
        pieces.append((found[overlap > 0], overlap[overlap > 0]))
    return _from_keys(pieces, len(indptr) - 1, num_gallery)


def _by_column(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], values: NDArray[np.float32], num_query: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The inverted index of the gallery: starts [N + 1] of the columns, gallery rows in them, and their values."""
    total, indptr = len(indptr) - 1, indptr[num_query:]
    indices, values = indices[indptr[0] :], values[indptr[0] :]
    order = np.argsort(indices, kind="stable")
    holders = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))[order]
    return np.searchsorted(indices[order], np.arange(total + 1)), holders, values[order]


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
