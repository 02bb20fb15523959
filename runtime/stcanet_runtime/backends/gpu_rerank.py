"""The stages of k-reciprocal re-ranking on a GPU, in memory linear in the entries of the sparse rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.gpu_arrays import put
from stcanet_runtime.backends.gpu_device import Array, Device, Found, find
from stcanet_runtime.backends.gpu_search import JointRows, smallest

Rows = tuple[Array, Array, Array]
"""As `neighbours.Sparse`, on the device."""

_OVERLAP_BYTES = 32  # an entry with its temporaries


def ordered(device: Device, found: Found) -> Rows:
    """Sparse rows with ascending columns; without values where nothing has one."""
    cols = device.xp.empty_like(found.cols)
    values = None if found.values is None else device.xp.empty_like(found.values)
    device.launch("sort_columns", len(cols), *found, cols, values)
    return found.start, cols, values


def put_rows(device: Device, rows: tuple[Array, Array, Array]) -> Rows:
    """Sparse rows on the device."""
    return put(device, rows[0], np.int64), put(device, rows[1], np.int32), put(device, rows[2], np.float32)


def expand(device: Device, lists: Array, half: int) -> tuple[Array, Array]:
    """The expanded k-reciprocal sets of lists [N, K]: starts and columns."""
    total, width = lists.shape
    near_width = min(half + 1, width)

    def mutual(k: int) -> Array:
        flags = device.xp.empty((total, k), np.uint8)
        device.launch("mutual", flags.size, lists, np.int32(width), np.int32(k), flags)
        return flags

    sets = (lists, mutual(width), mutual(near_width), np.int32(width), np.int32(near_width))
    joins = device.xp.empty((total, width), np.uint8)
    device.launch("join_sets", joins.size, *sets, joins)
    return ordered(device, find(device, "unite_sets", joins.size * (1 + near_width), total, *sets, joins))[:2]


def entry_rows(device: Device, start: Array) -> Array:
    """The row [E] int32 that each entry is in."""
    entries = device.xp.arange(int(start[-1]))
    return (device.xp.searchsorted(start, entries, side="right") - 1).astype(np.int32)


def weights(
    device: Device,
    start: Array,
    cols: Array,
    lists: Array,
    distances: Array,
    farthest: Array,
    power: int,
    measure: Callable[[Array, Array], Array],
) -> Array:
    """Values [E] of the expanded sets; `measure` is for what is not in the lists."""
    rows, known = entry_rows(device, start), device.xp.empty(len(cols), np.float32)
    device.launch("listed_distances", len(cols), rows, cols, lists, distances, np.int32(lists.shape[1]), known)
    missing = device.xp.flatnonzero(known < 0.0)
    known[missing] = measure(rows[missing].astype(np.int64), cols[missing].astype(np.int64))
    values = device.xp.empty_like(known)
    device.launch("set_weights", len(start) - 1, start, known, farthest, np.int32(power), values)
    return values


def average(device: Device, rows: Rows, neighbours: Array) -> Rows:
    """Each row becomes the mean of those of its neighbours [N, k2]."""
    total, k = neighbours.shape
    return ordered(device, find(device, "average_rows", total * k, total, *rows, neighbours, np.int32(k), valued=True))


def overlaps(device: Device, rows: Rows, num_query: int, first: int, last: int) -> Rows:
    """Sums of minima of queries from `first` to before `last`, and gallery rows."""
    xp, (start, cols, _) = device.xp, rows
    total, of_gallery = len(start) - 1, int(start[num_query])
    order = xp.argsort(cols[of_gallery:])
    holders = put(device, entry_rows(device, start[num_query:] - of_gallery)[order], np.int32)
    columns = xp.arange(total + 1, dtype=np.int32)
    column_start = put(device, xp.searchsorted(cols[of_gallery:][order], columns), np.int64)
    begin, end = int(start[first]), int(start[last])
    places = np.int64(num_query), np.int64(first), np.int64(begin)
    found = find(device, "overlap_rows", end - begin, last - first, *rows, *places, column_start, holders, valued=True)
    return ordered(device, found)


def overlap_bytes(device: Device, rows: Rows, num_query: int) -> NDArray[np.int64]:
    """Memory [Q] that the overlaps of each query need, at most."""
    xp, (start, cols, _) = device.xp, rows
    total, of_gallery = len(start) - 1, int(start[num_query])
    holders = xp.bincount(cols[of_gallery:], minlength=total)
    costs = xp.zeros(of_gallery + 1, np.int64)
    costs[1:] = xp.cumsum(holders[cols[:of_gallery]], dtype=np.int64)
    return _OVERLAP_BYTES * device.get(xp.minimum(xp.diff(costs[start[: num_query + 1]]), total - num_query))


def select_best(
    joint: JointRows,
    rows: Rows,
    farthest: Array,
    listed: tuple[Array, Array],
    groups: tuple[Array | None, Array | None],
    queries: slice,
    places: int,
    power: int,
    lambda_value: float,
    scratch_bytes: int,
) -> tuple[Array, Array]:
    """The best gallery rows of some queries; as `numpy_top`, which says why nothing is missed.

    Args:
        joint: measures.
        rows: V [N, N].
        farthest: [N].
        listed: distances float32 and indices int32 of the nearest visible gallery rows, [Q, L].
        groups: [Q] and [G], or None.
        queries: which.
        places: m.
        power: of the distance.
        lambda_value: λ.
        scratch_bytes: memory for whole rows, about.

    Returns:
        Distances and indices [R, m].
    """
    device, count = joint.device, queries.stop - queries.start
    q_groups = None if groups[0] is None else groups[0][queries]
    touched = overlaps(device, rows, joint.num_query, queries.start, queries.stop)
    blend = (*touched, farthest[queries], np.int32(power), np.float64(lambda_value))
    distances, indices = (array[queries] for array in listed)
    length = np.int32(distances.shape[1])

    values, limits = device.xp.empty_like(distances), device.xp.empty(count, np.float32)
    device.launch("listed_values", values.size, *blend, distances, indices, length, values)
    device.launch("nth_value", values.size, values, length, np.int32(places), limits)
    near = (np.int64(count), distances, indices, length, limits, q_groups, groups[1])
    more = find(device, "add_touched", len(touched[1]), count, *blend, *near)
    measured = joint.measure(more.rows, more.cols, queries.start, joint.num_query)
    device.launch("blend_pairs", len(measured), *blend, more.rows, more.cols, measured)

    best = device.xp.full((count, places), np.inf, np.float32), device.xp.full((count, places), -1, np.int32)
    both = (values, indices, length, np.int64(count), more.start, more.rows, more.cols, measured)
    device.launch("place_best", values.size + len(measured), *both, np.int32(places), *best)
    unsure = device.xp.empty(count, np.uint8)
    bounds = (distances, length, best[0], np.int32(places), *blend[3:], unsure)
    device.launch("find_unsure", count, *bounds)
    _select_rows(joint, blend, np.flatnonzero(device.get(unsure)), queries.start, (q_groups, groups[1]), best, scratch_bytes)
    return best


def _select_rows(
    joint: JointRows,
    blend: tuple[object, ...],
    which: NDArray[np.int64],
    first_query: int,
    groups: tuple[Array | None, Array | None],
    best: tuple[Array, Array],
    scratch_bytes: int,
) -> None:
    """Fill in the queries `which` from all gallery rows."""
    device, step = joint.device, max(1, scratch_bytes // (8 * joint.num_gallery))
    for start in range(0, len(which), step):
        chosen = put(device, which[start : start + step], np.int64)
        values = device.xp.empty((len(chosen), joint.num_gallery), np.float32)
        places = (chosen, np.int64(first_query), np.int64(joint.num_gallery), *groups)
        device.launch("whole_rows", values.size, *joint.measuring, *blend, *places, values)
        found, columns = smallest(device, values, best[0].shape[1])
        best[0][chosen] = found
        best[1][chosen] = device.xp.where(device.xp.isinf(found), -1, columns)
