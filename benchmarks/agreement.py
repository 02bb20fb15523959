"""How far results of the re-ranking benchmark are from one another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends import get_backend

PLACES = 20
"""Length of the lists that are compared."""

_BLOCK = 1 << 23  # elements
_TIE = 2e-6
"""Cosine distances closer than this may change places in a float32 search: its sums of 2,048 products are off by 1e-6."""


def dense(result: NDArray[np.float32], expected: NDArray[np.float32]) -> dict[str, float]:
    """Differences between two matrices [Q, G], and the share of queries whose first `PLACES` differ."""
    largest, total, differing = 0.0, 0.0, 0
    for rows in blocks(*expected.shape):
        difference = np.abs(result[rows] - expected[rows])
        largest, total = max(largest, float(difference.max())), total + float(difference.sum(dtype=np.float64))
        lists = (best(np.asarray(matrix[rows]), PLACES)[1] for matrix in (result, expected))
        differing += int((next(lists) != next(lists)).any(axis=1).sum())
    return {
        "max_difference": largest,
        "mean_difference": total / expected.size,
        "top20_differs": differing / len(expected),
    }


def top(distances: NDArray[np.float32], indices: NDArray[np.int64], expected: NDArray[np.float32]) -> dict[str, float]:
    """Lists [Q, m] against the m smallest of a matrix [Q, G]."""
    largest, total, differing = 0.0, 0.0, 0
    for rows in blocks(*expected.shape):
        wanted, where = best(np.asarray(expected[rows]), distances.shape[1])
        difference = np.abs(distances[rows] - wanted)
        largest, total = max(largest, float(difference.max())), total + float(difference.sum(dtype=np.float64))
        differing += int((indices[rows, :PLACES] != where[:, :PLACES]).any(axis=1).sum())
    return {
        "max_difference": largest,
        "mean_difference": total / distances.size,
        "top20_differs": differing / len(expected),
    }


def best(values: NDArray[np.float32], places: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The smallest values [R, places] of rows by (value, column), and their columns."""
    places = min(places, values.shape[1])
    limit = np.partition(values, places - 1, axis=1)[:, places - 1 : places]
    row, column = np.nonzero(values <= limit)
    order = np.lexsort((column, values[row, column], row))
    chosen = order[np.searchsorted(row, np.arange(len(values)))[:, None] + np.arange(places)]
    return values[row[chosen], column[chosen]], column[chosen]


def neighbours(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    result: dict[str, NDArray[np.float32]],
    expected: dict[str, NDArray[np.float32]],
) -> dict[str, float]:
    """Neighbour lists [N, k] against ours: places that hold another row, and those of them that no rounding explains.

    The other row is measured by the definition; where its distance is that of ours within `_TIE`, either may come first.
    """
    rows, places = np.nonzero(result["indices"] != expected["indices"])
    columns = result["indices"][rows, places].astype(np.int64)
    exact = get_backend("numpy").pair_distances(query, gallery, rows.astype(np.int64), columns, "cosine")
    gap = np.abs(exact - expected["distances"][rows, places])
    return {
        "max_difference": float(np.abs(result["distances"] - expected["distances"]).max(initial=0.0)),
        "lists_differ": len(np.unique(rows)) / len(expected["indices"]),
        "places_differ": len(rows),
        "places_wrong": int((gap > _TIE).sum()),
    }


def blocks(num_query: int, num_gallery: int) -> Iterator[slice]:
    """Slices of queries, some megabytes of a matrix each."""
    step = max(1, _BLOCK // max(1, num_gallery))
    for start in range(0, num_query, step):
        yield slice(start, start + step)
