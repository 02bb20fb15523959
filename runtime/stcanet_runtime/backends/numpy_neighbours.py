"""Neighbour lists of the joint set in NumPy: BLAS screens, the pairs within its error are measured by the definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.neighbours import DEFAULT_SCRATCH, GalleryLists, Neighbours, row_groups
from stcanet_runtime.backends.numpy_distance import distance_matrix
from stcanet_runtime.backends.numpy_pairs import PairMeter
from stcanet_runtime.backends.screen import kth_bound, make_joint_screen
from stcanet_runtime.progress import Progress

KEY_BYTES = 8
"""Scratch for a key: the float32, its share of the group minima, and of the selection's temporaries."""
PAIR_BYTES = 64
"""Scratch for a candidate: indices, distance and the sort."""


Select = Callable[[int, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], Neighbours], None]
"""``select(start, keys, limits, far_limits, result)`` fills in the rows from `start`, whose keys [R, N] these are: candidates
are those with a key up to the limit [R] of their row, and for the farthest those from the other limit [R] on."""

SelectListed = Callable[[int, NDArray[np.float32], NDArray[np.float32], GalleryLists], None]
"""``select_listed(start, keys, limits, lists)`` fills in the lists of the queries from `start`, whose keys [R, G] these are,
infinite for what is hidden; candidates have a finite key up to the limit [R] of their row."""


def screened_neighbours(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    k: int,
    metric: str,
    dense: NDArray[np.float32] | None,
    lists: GalleryLists | None,
    progress: Progress | None,
    scratch_bytes: int,
    select: Select,
    select_listed: SelectListed,
) -> Neighbours:
    """The k nearest of each joint row; `select` and `select_listed` choose among candidates.

    Arguments and result as `reference.neighbours`.

    Besides ``scratch_bytes``, a scaled copy of the rows is held, 4 N D bytes.
    """
    total = len(query) + len(gallery)
    result = Neighbours(np.empty((total, k), np.int32), np.empty((total, k), np.float32), np.empty(total, np.float32))
    if dense is not None:
        dense[:] = distance_matrix(query, gallery, metric)
    if lists is not None:
        lists.distances[:], lists.indices[:] = np.inf, -1
    screen = make_joint_screen(query, gallery, metric)
    for start, keys in screen.blocks(max(1, scratch_bytes // KEY_BYTES)):
        if progress is not None:
            progress(start, total)
        select(start, keys, screen.limits(keys, k), screen.far_limits(keys), result)
        if lists is not None and start < len(query) and len(gallery):
            of_gallery = keys[: len(query) - start, len(query) :]
            hide(of_gallery, start, lists.q_groups, lists.g_groups)
            limits = screen.limits(of_gallery, min(lists.distances.shape[1], len(gallery)))
            select_listed(start, of_gallery, limits, lists)
    if progress is not None:
        progress(total, total)
    return result


def hide(keys: NDArray[np.float32], start: int, q_groups: NDArray[np.int64] | None, g_groups: NDArray[np.int64] | None) -> None:
    """Make the keys [R, G] of the queries from `start` infinite where the gallery row is of the query's group."""
    if q_groups is not None and g_groups is not None:
        keys[q_groups[start : start + len(keys), None] == g_groups] = np.inf


def place_candidates(
    start: int,
    keys: NDArray[np.float32],
    limits: NDArray[np.float32],
    meter: PairMeter,
    distances: NDArray[np.float32],
    indices: NDArray[np.int64],
    pairs_at_once: int,
) -> None:
    """Measure the candidates of the queries from `start` by their keys [R, G], and write the best of each to [Q, L]."""
    near, num_query = (keys <= limits[:, None]) & np.isfinite(keys), len(distances)
    for rows in row_groups(np.count_nonzero(near, axis=1), max(1, pairs_at_once)):
        i, j = _pairs(near, rows)
        i += start + rows.start
        place_best(i, j, meter.measure(i, num_query + j), distances, indices)


def neighbours(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    k: int,
    metric: str,
    *,
    dense: NDArray[np.float32] | None = None,
    lists: GalleryLists | None = None,
    progress: Progress | None = None,
    scratch_bytes: int = DEFAULT_SCRATCH,
) -> Neighbours:
    """The k nearest rows of the joint set to each of its rows; arguments and result as `reference.neighbours`."""
    meter, pairs_at_once = PairMeter(query, gallery, metric), max(1, scratch_bytes // PAIR_BYTES)

    def select(
        start: int,
        keys: NDArray[np.float32],
        limits: NDArray[np.float32],
        far_limits: NDArray[np.float32],
        result: Neighbours,
    ) -> None:
        near = keys <= limits[:, None]
        for rows in row_groups(np.count_nonzero(near, axis=1), pairs_at_once):
            i, j = _pairs(near, rows)
            place = slice(start + rows.start, start + rows.stop)
            result.distances[place], result.indices[place] = nearest(i, j, meter.measure(start + rows.start + i, j), k)
        far = np.greater_equal(keys, far_limits[:, None], out=near)
        for rows in row_groups(np.count_nonzero(far, axis=1), pairs_at_once):
            i, j = _pairs(far, rows)
            starts = np.searchsorted(i, np.arange(rows.stop - rows.start))
            measured = meter.measure(start + rows.start + i, j)
            result.farthest[start + rows.start : start + rows.stop] = np.maximum.reduceat(measured, starts)

    def select_listed(start: int, keys: NDArray[np.float32], limits: NDArray[np.float32], lists: GalleryLists) -> None:
        place_candidates(start, keys, limits, meter, lists.distances, lists.indices, pairs_at_once)

    return screened_neighbours(query, gallery, k, metric, dense, lists, progress, scratch_bytes, select, select_listed)


def _pairs(mask: NDArray[np.bool_], rows: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows within the slice, and columns, of the true elements; `flatnonzero` is several times faster than `nonzero`."""
    i, j = np.divmod(np.flatnonzero(mask[rows]), mask.shape[1])
    return i, j


def nearest(
    i: NDArray[np.int64], j: NDArray[np.int64], values: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The k best candidates of each row by (value, column).

    Args:
        i: [P] rows, ascending from 0, each at least k times.
        j: [P] columns.
        values: [P].
        k: places.

    Returns:
        Values and columns, [rows, k].
    """
    order = np.lexsort((j, values, i))
    starts = np.searchsorted(i, np.arange(i[-1] + 1))  # i is ascending, so sorting does not move the rows
    chosen = order[starts[:, None] + np.arange(k)]
    return values[chosen], j[chosen].astype(np.int32)


def smallest(values: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The k smallest values of each row; arguments and result as `reference.smallest`."""
    result = np.empty((len(values), k), np.float32), np.empty((len(values), k), np.int32)
    mask = values <= kth_bound(values, k)[:, None]
    for rows in row_groups(np.count_nonzero(mask, axis=1), DEFAULT_SCRATCH // PAIR_BYTES):
        i, j = _pairs(mask, rows)
        result[0][rows], result[1][rows] = nearest(i, j, values[rows][i, j], k)
    return result


def place_best(
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    values: NDArray[np.float32],
    distances: NDArray[np.float32],
    indices: NDArray[np.int64],
) -> None:
    """Sort candidates [P] by (row, value, column) and write the first k of each row in place; a row may have fewer."""
    order = np.lexsort((j, values, i))
    i, j, values = i[order], j[order], values[order]
    place = np.arange(len(i)) - np.searchsorted(i, i)
    best = place < distances.shape[1]
    distances[i[best], place[best]] = values[best]
    indices[i[best], place[best]] = j[best]
