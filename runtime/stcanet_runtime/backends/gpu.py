"""The GPU backend: CuPy's arrays, cuBLAS for the large products, own kernels for the rest; results as `reference`.

Rows and lists of neighbours have the bits of `reference`: the tensor cores only screen, in float16 and with a proven bound, and
what they cannot exclude is measured by the definition. `distance_matrix` comes from a float64 product, with the bound of
`numpy_`. Memory is linear in the number of images: blocks of products, lists, sparse rows, and a float16 copy of the rows.

Subnormal float32 (below 1.2e-38) count as zero, in embeddings and in distances: CuPy compiles every kernel so, its own and
ours (``-ftz=true``, which it appends to the options that it is given). Where rows have a value above 1e-30 that moves no
distance which is not subnormal itself.

Limits of memory count these, not the rows that are brought to the device.

Arguments are NumPy's or the device's, and results are NumPy's unless the docstring says otherwise.

It has not run on a GPU yet: the tests run its kernels on the CPU. So ``"auto"`` leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stcanet_runtime import embeddings
from stcanet_runtime.backends import gpu_crops, gpu_device, gpu_ranks, gpu_rerank, gpu_search
from stcanet_runtime.backends.gpu_arrays import adopt, as_given, is_on_gpu, put
from stcanet_runtime.backends.gpu_device import Array
from stcanet_runtime.backends.matches import Thresholds, Truth
from stcanet_runtime.backends.neighbours import DEFAULT_SCRATCH, GalleryLists, Neighbours, Sparse, row_groups
from stcanet_runtime.errors import ShapeError
from stcanet_runtime.progress import Progress

READS_FLOAT16 = False
ON_DEVICE = True

resize_boxes = gpu_crops.resize_boxes


def as_rows(x: ArrayLike | Array, name: str) -> Array:
    """Embeddings where they are, as `embeddings.as_rows`: what lies on the device stays there."""
    if not is_on_gpu(x):
        return embeddings.as_rows(x, name)
    array = adopt(gpu_device.device(), x)
    embeddings.check_form(array, name)
    return array


def as_embeddings(x: ArrayLike | Array, name: str) -> Array:
    """Check embeddings and bring them to the device.

    Args:
        x: [N, D] numbers: NumPy's, CuPy's (kept as they are if float32), or anything with ``__dlpack__``.
        name: for the message.

    Returns:
        [N, D] float32 of the device, contiguous.

    Raises:
        ShapeError: as `embeddings.as_embeddings`.
    """
    device, array = gpu_device.device(), as_rows(x, name)
    if not is_on_gpu(array):
        return put(device, embeddings.as_embeddings(array, name), np.float32)
    if array.size and not float(device.xp.abs(array).max()) <= embeddings.MAX_MAGNITUDE:
        raise ShapeError(f"{name} must be finite and at most {embeddings.MAX_MAGNITUDE:g} in magnitude")
    return put(device, array, np.float32)


def distance_matrix(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    metric: str,
    *,
    scratch_bytes: int = DEFAULT_SCRATCH,
) -> NDArray[np.float32]:
    """All distances, as `reference.distance_matrix` up to the bound stated in `numpy_`."""
    result = np.empty((len(query), len(gallery)), np.float32)
    joint = gpu_search.JointRows(gpu_device.device(), query, gallery, metric)
    for rows, columns, tile in gpu_search.distance_tiles(joint, scratch_bytes):
        result[rows, columns] = tile
    return result


def top_k(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    k: int,
    metric: str,
    q_groups: NDArray[np.int64] | None = None,
    g_groups: NDArray[np.int64] | None = None,
    *,
    scratch_bytes: int = DEFAULT_SCRATCH,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k nearest visible gallery rows; arguments and result as `reference.top_k`."""
    device = gpu_device.device()
    best, groups = _empty_lists(device, len(query), k), _put_groups(device, q_groups, g_groups)
    if len(query) and len(gallery):
        joint = gpu_search.JointRows(device, query, gallery, metric)
        screen = gpu_search.make_screen(joint, itself=False)
        for start, products in screen.blocks(scratch_bytes):
            rows = slice(start, start + len(products))
            keys = gpu_search.Keys(products, 0, len(gallery), screen.offset, _part(groups[0], rows), groups[1])
            places = start, len(query), best[0][rows], best[1][rows], None
            gpu_search.select(joint, keys, screen.window, *places, scratch_bytes)
    return device.get(best[0]), device.get(best[1]).astype(np.int64)


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
    """The k nearest rows of the joint set to each of its rows; arguments and result as `reference.neighbours`.

    The result is the device's where the arrays of ``lists`` are.
    """
    device, total, count = gpu_device.device(), len(query) + len(gallery), len(query)
    joint = gpu_search.JointRows(device, query, gallery, metric)
    if dense is not None:
        for rows, columns, tile in gpu_search.distance_tiles(joint, scratch_bytes):
            dense[rows, columns] = tile
    best, farthest = _empty_lists(device, total, k), device.xp.zeros(total, np.float32)
    near = _empty_lists(device, count, 1 if lists is None else lists.distances.shape[1])
    groups = (None, None) if lists is None else _put_groups(device, lists.q_groups, lists.g_groups)
    screen = gpu_search.make_screen(joint, itself=True)
    for start, products in screen.blocks(scratch_bytes):
        if progress is not None:
            progress(start, total)
        rows = slice(start, start + len(products))
        keys = gpu_search.Keys(products, 0, total, screen.offset, None, None)
        gpu_search.select(joint, keys, screen.window, start, 0, best[0][rows], best[1][rows], farthest[rows], scratch_bytes)
        if lists is not None and start < count and len(gallery):
            rows = slice(start, min(rows.stop, count))
            part = products[: rows.stop - start]
            keys = gpu_search.Keys(part, count, len(gallery), screen.offset, _part(groups[0], rows), groups[1])
            gpu_search.select(joint, keys, screen.window, start, count, near[0][rows], near[1][rows], None, scratch_bytes)
    if progress is not None:
        progress(total, total)
    if lists is None:
        return Neighbours(*(device.get(array) for array in (best[1], best[0], farthest)))
    lists.distances[:], lists.indices[:] = as_given(device, lists.distances, *near)
    return Neighbours(*as_given(device, lists.distances, best[1], best[0], farthest))


def pair_distances(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    metric: str,
) -> NDArray[np.float32]:
    """Distances [P] of pairs of the joint set, by the definition; the device's where ``rows`` are."""
    device = gpu_device.device()
    joint = gpu_search.JointRows(device, query, gallery, metric)
    measured = joint.measure(put(device, rows, np.int32), put(device, cols, np.int32), 0, 0)
    result: NDArray[np.float32] = as_given(device, rows, measured)[0]
    return result


def smallest(values: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The k smallest values of each row; arguments and result as `reference.smallest`."""
    device = gpu_device.device()
    best, columns = gpu_search.smallest(device, put(device, values, np.float32), k)
    return device.get(best), device.get(columns)


def expand(neighbours: NDArray[np.int32], half: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The expanded k-reciprocal sets; arguments and result as `reference.expand`, the device's where they are."""
    device = gpu_device.device()
    start, cols = as_given(device, neighbours, *gpu_rerank.expand(device, put(device, neighbours, np.int32), half))
    return start, cols


def weights(
    neighbours: Neighbours,
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    power: int,
    measure: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Values of the expanded sets; arguments and result as `weights.weights`, the device's where they are."""
    device = gpu_device.device()

    def measured(rows: Array, cols: Array) -> Array:
        return put(device, measure(*as_given(device, indptr, rows, cols)), np.float32)

    lists, distances = put(device, neighbours.indices, np.int32), put(device, neighbours.distances, np.float32)
    farthest = put(device, neighbours.farthest, np.float32)
    sets = put(device, indptr, np.int64), put(device, indices, np.int32)
    values = gpu_rerank.weights(device, *sets, lists, distances, farthest, power, measured)
    result: NDArray[np.float32] = as_given(device, indptr, values)[0]
    return result


def average(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], values: NDArray[np.float32], neighbours: NDArray[np.int32]
) -> Sparse:
    """Mean of the sparse rows of each row's neighbours; as `reference.average`, the device's where they are."""
    device = gpu_device.device()
    rows = gpu_rerank.put_rows(device, (indptr, indices, values))
    start, cols, means = as_given(device, indptr, *gpu_rerank.average(device, rows, put(device, neighbours, np.int32)))
    return start, cols, means


def overlaps(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    num_query: int,
    start: int = 0,
    stop: int | None = None,
) -> Sparse:
    """Sums of minima of queries and gallery rows; as `reference.overlaps`, the device's where they are."""
    device = gpu_device.device()
    rows = gpu_rerank.put_rows(device, (indptr, indices, values))
    found = gpu_rerank.overlaps(device, rows, num_query, start, num_query if stop is None else stop)
    starts, cols, sums = as_given(device, indptr, *found)
    return starts, cols, sums


def blend(dense: NDArray[np.float32], nearness: Sparse, farthest: NDArray[np.float32], power: int, lambda_value: float) -> None:
    """Turn distances [R, G] of NumPy into final ones, in place; arguments as `reference.blend`."""
    device = gpu_device.device()
    values, rows = put(device, dense, np.float32), gpu_rerank.put_rows(device, nearness)
    scalars = np.int64(dense.shape[1]), np.int32(power), np.float64(lambda_value)
    device.launch("blend_rows", dense.size, *rows, put(device, farthest, np.float32), *scalars, values)
    dense[:] = device.get(values)


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
    scratch_bytes: int = DEFAULT_SCRATCH,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best gallery rows of every query after re-ranking; arguments and result as `reference.select_best`."""
    device = gpu_device.device()
    joint = gpu_search.JointRows(device, query, gallery, metric)
    sparse, far = gpu_rerank.put_rows(device, rows), put(device, farthest, np.float32)
    listed = put(device, lists.distances, np.float32), put(device, lists.indices, np.int32)
    groups = _put_groups(device, lists.q_groups, lists.g_groups)
    result = np.empty((len(query), places), np.float32), np.empty((len(query), places), np.int64)
    for queries in row_groups(gpu_rerank.overlap_bytes(device, sparse, len(query)), scratch_bytes):
        found = gpu_rerank.select_best(joint, sparse, far, listed, groups, queries, places, power, lambda_value, scratch_bytes)
        result[0][queries], result[1][queries] = (device.get(array) for array in found)
        if progress is not None:
            progress(queries.stop, len(query))
    return result


def ranks(distances: NDArray[Any], truth: Truth) -> NDArray[np.int64] | None:
    """Places of the true matches; arguments and result as `reference.ranks`."""
    return gpu_ranks.ranks(gpu_device.device(), distances, truth)


def count_closer(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    thresholds: Thresholds,
    metric: str,
    *,
    progress: Progress | None = None,
    scratch_bytes: int = DEFAULT_SCRATCH,
) -> NDArray[np.int64]:
    """How many gallery rows come before each threshold; arguments and result as `reference.count_closer`."""
    joint = gpu_search.JointRows(gpu_device.device(), query, gallery, metric)
    return gpu_ranks.count_closer(joint, thresholds, progress, scratch_bytes)


def _empty_lists(device: gpu_device.Device, rows: int, k: int) -> tuple[Array, Array]:
    return device.xp.full((rows, k), np.inf, np.float32), device.xp.full((rows, k), -1, np.int32)


def _put_groups(device: gpu_device.Device, q_groups: Any, g_groups: Any) -> tuple[Array | None, Array | None]:
    if q_groups is None or g_groups is None:
        return None, None
    return put(device, q_groups, np.int64), put(device, g_groups, np.int64)


def _part(groups: Array | None, rows: slice) -> Array | None:
    return None if groups is None else groups[rows]
