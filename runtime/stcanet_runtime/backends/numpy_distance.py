"""The distance matrix in NumPy: a float64 matrix product in tiles, and the definition for close pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.numpy_pairs import PairMeter

_CLOSE = 1e-6  # squared, in units of the longest row: below it the float64 product cancels too much
_TILE_ELEMENTS = 1 << 20
_TILE_COLUMNS = 4096


def distance_matrix(query: NDArray[np.float32], gallery: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """All distances, as `reference.distance_matrix` up to the bound stated in `numpy_`."""
    result = np.empty((len(query), len(gallery)), np.float32)
    meter = PairMeter(query, gallery, metric)
    columns = min(max(1, len(gallery)), _TILE_COLUMNS)
    rows = max(1, _TILE_ELEMENTS // columns)
    for first in range(0, len(gallery), columns):
        g = gallery[first : first + columns].astype(np.float64)
        g_squared = np.einsum("jd,jd->j", g, g)
        for start in range(0, len(query), rows):
            q = query[start : start + rows].astype(np.float64)
            gap, distances = _distances(q @ g.T, np.einsum("id,id->i", q, q)[:, None], g_squared, metric)
            result[start : start + rows, first : first + columns] = distances
            i, j = np.divmod(np.flatnonzero(gap < _CLOSE), len(g))
            result[start + i, first + j] = meter.measure(start + i, len(query) + first + j)
    return result


def _distances(
    dots: NDArray[np.float64], q_squared: NDArray[np.float64], g_squared: NDArray[np.float64], metric: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squared gaps relative to the longest row [Q, G], and distances [Q, G]."""
    if metric == "cosine":
        lengths = np.sqrt(q_squared * g_squared)
        distances = 1.0 - np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)
        return 2.0 * distances, np.clip(distances, 0.0, 2.0)
    gap = q_squared + g_squared - 2.0 * dots
    largest = max(float(q_squared.max(initial=0.0)), float(g_squared.max(initial=0.0)))
    return gap / largest if largest > 0 else gap, np.sqrt(np.maximum(gap, 0.0))
