"""Sets, averages and overlaps of k-reciprocal neighbours in Numba: plain loops over short lists, without fastmath.

Each function is compiled when it is first called.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.neighbours import Sparse
from stcanet_runtime.backends.screen import kth_bound


def njit(function: Callable[..., Any]) -> Any:
    """A function that Numba compiles when it is first called."""
    from numba import njit as compiler  # late: it takes longer to import than many a search

    return compiler(nogil=True)(function)


def call(compiled: Callable[..., Any], *arguments: Any) -> Any:
    """Call a compiled function. What a signal raises as it ends, such as Ctrl-C, comes from Numba as the cause of an error."""
    try:
        return compiled(*arguments)
    except SystemError as error:  # "… returned a result with an exception set"
        cause: BaseException = error
        while isinstance(cause, SystemError) and cause.__cause__ is not None:  # one for each compiled function that it passes
            cause = cause.__cause__
        if cause is error:
            raise
        raise cause from None


def _reciprocal(lists: Any) -> Any:
    """Members [N, K] of the lists that have the row in their own, packed to the left, and how many they are [N]."""
    total, places = lists.shape
    members, counts = np.empty((total, places), np.int32), np.zeros(total, np.int64)
    for i in range(total):
        for place in range(places):
            f = lists[i, place]
            for other in range(places):
                if lists[f, other] == i:
                    members[i, counts[i]] = f
                    counts[i] += 1
                    break
    return members, counts


@cache
def _compile_expand() -> Any:
    reciprocal = njit(_reciprocal)

    def loop(neighbours: Any, near: Any) -> Any:
        members, counts = reciprocal(neighbours)
        near_members, near_counts = reciprocal(near)
        total, most = len(neighbours), neighbours.shape[1] * (near.shape[1] + 1)
        original, united = np.full(total, -1), np.full(total, -1)  # the last row in whose set each row was
        indptr, indices = np.zeros(total + 1, np.int64), np.empty(total + most, np.int32)
        for i in range(total):
            size = indptr[i]
            if size + most > indices.size:
                indices = np.concatenate((indices, np.empty(indices.size + most, np.int32)))
            for f in members[i, : counts[i]]:
                original[f] = united[f] = i
                indices[size] = f
                size += 1
            for c in members[i, : counts[i]]:
                shared = 0
                for f in near_members[c, : near_counts[c]]:
                    shared += original[f] == i
                if 3 * shared > 2 * near_counts[c]:
                    for f in near_members[c, : near_counts[c]]:
                        if united[f] != i:
                            united[f] = i
                            indices[size] = f
                            size += 1
            if size == indptr[i]:
                indices[size] = i
                size += 1
            indices[indptr[i] : size] = np.sort(indices[indptr[i] : size])
            indptr[i + 1] = size
        return indptr, indices[: indptr[total]].copy()

    return njit(loop)


def expand(neighbours: NDArray[np.int32], half: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The expanded k-reciprocal sets; arguments and result as `reference.expand`."""
    indptr, indices = call(_compile_expand(), neighbours, np.ascontiguousarray(neighbours[:, : half + 1]))
    return indptr, indices


@cache
def _compile_average() -> Any:
    def loop(indptr: Any, indices: Any, values: Any, neighbours: Any) -> Any:
        total = len(neighbours)
        sums, seen = np.zeros(total), np.full(total, -1)
        starts, columns, means = (
            np.zeros(total + 1, np.int64),
            np.empty(len(indices), np.int32),
            np.empty(len(indices), np.float32),
        )
        for i in range(total):
            size = starts[i]
            for row in neighbours[i]:
                if size + indptr[row + 1] - indptr[row] > columns.size:
                    columns = np.concatenate((columns, np.empty(columns.size + total, np.int32)))
                    means = np.concatenate((means, np.empty(means.size + total, np.float32)))
                for entry in range(indptr[row], indptr[row + 1]):
                    column = indices[entry]
                    if seen[column] != i:
                        seen[column] = i
                        sums[column] = 0.0
                        columns[size] = column
                        size += 1
                    sums[column] += values[entry]
            columns[starts[i] : size] = np.sort(columns[starts[i] : size])
            for entry in range(starts[i], size):
                means[entry] = sums[columns[entry]] / neighbours.shape[1]
            starts[i + 1] = size
        return starts, columns[: starts[total]].copy(), means[: starts[total]].copy()

    return njit(loop)


def average(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], values: NDArray[np.float32], neighbours: NDArray[np.int32]
) -> Sparse:
    """Mean of the sparse rows of each row's neighbours; arguments and result as `reference.average`."""
    starts, columns, means = call(_compile_average(), indptr, indices, values, neighbours)
    return starts, columns, means


def _by_column(indptr: Any, indices: Any, values: Any, num_query: int) -> Any:
    """The inverted index of the gallery: starts [N + 1] of the columns, gallery rows in them, and their values."""
    total, first = len(indptr) - 1, indptr[num_query]
    starts = np.zeros(total + 2, np.int64)  # shifted by one, so that filling brings them into place
    for column in indices[first:]:
        starts[column + 2] += 1
    starts = np.cumsum(starts)
    holders, held = np.empty(len(indices) - first, np.int32), np.empty(len(indices) - first, np.float32)
    for row in range(num_query, total):
        for entry in range(indptr[row], indptr[row + 1]):
            place = starts[indices[entry] + 1]
            starts[indices[entry] + 1] += 1
            holders[place], held[place] = row - num_query, values[entry]
    return starts, holders, held


@cache
def _compile_overlaps() -> Any:
    by_column = njit(_by_column)

    def loop(indptr: Any, indices: Any, values: Any, num_query: int, start: int, stop: int) -> Any:
        starts, holders, held = by_column(indptr, indices, values, num_query)
        num_gallery = len(indptr) - 1 - num_query
        sums, seen = np.zeros(num_gallery), np.full(num_gallery, -1)
        rows = np.zeros(stop - start + 1, np.int64)
        columns, shared = np.empty(num_gallery, np.int32), np.empty(num_gallery, np.float32)
        for q in range(start, stop):
            size = rows[q - start]
            if size + num_gallery > columns.size:
                columns = np.concatenate((columns, np.empty(columns.size + num_gallery, np.int32)))
                shared = np.concatenate((shared, np.empty(shared.size + num_gallery, np.float32)))
            for entry in range(indptr[q], indptr[q + 1]):
                for place in range(starts[indices[entry]], starts[indices[entry] + 1]):
                    g = holders[place]
                    if seen[g] != q:
                        seen[g] = q
                        sums[g] = 0.0
                        columns[size] = g
                        size += 1
                    sums[g] += min(values[entry], held[place])
            found = np.sort(columns[rows[q - start] : size])
            size = rows[q - start]
            for g in found:
                if sums[g] > 0.0:
                    columns[size], shared[size] = g, sums[g]
                    size += 1
            rows[q - start + 1] = size
        size = rows[stop - start]
        return rows, columns[:size].copy(), shared[:size].copy()

    return njit(loop)


def overlaps(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    num_query: int,
    start: int = 0,
    stop: int | None = None,
) -> Sparse:
    """Overlap of the rows of queries with those of the gallery; arguments and result as `reference.overlaps`."""
    stop = num_query if stop is None else stop
    rows, columns, shared = call(_compile_overlaps(), indptr, indices, values, num_query, start, stop)
    return rows, columns, shared


@cache
def _compile_blend() -> Any:
    def loop(dense: Any, indptr: Any, columns: Any, overlap: Any, farthest: Any, power: int, lambda_value: float) -> None:
        for q in range(dense.shape[0]):
            entry = indptr[q]
            for g in range(dense.shape[1]):
                relative = np.float64(dense[q, g]) / np.float64(farthest[q]) if farthest[q] > 0.0 else 0.0
                raised = 1.0
                for _ in range(power):
                    raised *= relative
                jaccard = 1.0
                if entry < indptr[q + 1] and columns[entry] == g:
                    jaccard -= overlap[entry] / (2.0 - overlap[entry])
                    entry += 1
                dense[q, g] = (1.0 - lambda_value) * jaccard + lambda_value * raised

    return njit(loop)


def blend(dense: NDArray[np.float32], nearness: Sparse, farthest: NDArray[np.float32], power: int, lambda_value: float) -> None:
    """Turn distances into final distances, in place; arguments as `reference.blend`."""
    call(_compile_blend(), dense, *nearness, farthest, power, lambda_value)


@cache
def _compile_smallest() -> Any:
    def loop(values: Any, limits: Any, found: Any, columns: Any) -> None:
        for row in range(len(values)):
            candidates = np.nonzero(values[row] <= limits[row])[0]
            # Stable, and candidates grow: ties stay in the order of their column.
            order = np.argsort(values[row][candidates], kind="mergesort")
            for place in range(found.shape[1]):
                columns[row, place] = candidates[order[place]]
                found[row, place] = values[row, columns[row, place]]

    return njit(loop)


def smallest(values: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The k smallest values of each row; arguments and result as `reference.smallest`."""
    result = np.empty((len(values), k), np.float32), np.empty((len(values), k), np.int32)
    call(_compile_smallest(), values, kth_bound(values, k), *result)
    return result
