"""What the members of the expanded sets weigh, for all backends on the processor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.formulas import relative
from stcanet_runtime.backends.neighbours import Neighbours, PairDistances

_BLOCK = 1 << 20  # elements of a temporary array


def weights(
    neighbours: Neighbours, indptr: NDArray[np.int64], indices: NDArray[np.int32], power: int, measure: PairDistances
) -> NDArray[np.float32]:
    """``exp(-(distance / farthest)^power)`` of the members of every set, divided by their sum over the set.

    Args:
        neighbours: lists [N, k].
        indptr: [N + 1] of the sets, none of them empty.
        indices: [E] their members.
        power: of the distance.
        measure: for members of a set that are not in the row's list.

    Returns:
        [E].
    """
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    distances = _member_distances(neighbours, rows, indices, measure)
    values = np.exp(-relative(distances, neighbours.farthest[rows], power))
    sums = np.add.reduceat(values, indptr[:-1])
    return np.asarray(values / sums[rows], np.float32)


def _member_distances(
    neighbours: Neighbours, rows: NDArray[np.int64], columns: NDArray[np.int32], measure: PairDistances
) -> NDArray[np.float32]:
    """Distances [P] of pairs, from the lists where they are in them."""
    distances, missing = np.empty(len(rows), np.float32), np.empty(len(rows), bool)
    step = max(1, _BLOCK // neighbours.indices.shape[1])
    for start in range(0, len(rows), step):
        row, column = rows[start : start + step], columns[start : start + step]
        match = neighbours.indices[row] == column[:, None]
        place = match.argmax(axis=1)
        distances[start : start + step] = neighbours.distances[row, place]
        missing[start : start + step] = ~match[np.arange(len(row)), place]
    distances[missing] = measure(rows[missing], columns[missing].astype(np.int64))
    return distances
