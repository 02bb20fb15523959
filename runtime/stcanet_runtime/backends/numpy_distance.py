"""The distance matrix in NumPy: a float64 matrix product in tiles, and the definition for close pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.neighbours import CONVERTED_ELEMENTS, DEFAULT_SCRATCH
from stcanet_runtime.backends.numpy_pairs import PairMeter
from stcanet_runtime.backends.screen import inverse_lengths

CLOSE = 1e-6
"""Squared distance, in units of the longest row, below which the float64 product cancels too much."""
_TILE_ELEMENTS = 1 << 20


def distance_matrix(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    metric: str,
    *,
    scratch_bytes: int = DEFAULT_SCRATCH,  # noqa: ARG001  (the tiles are small already)
) -> NDArray[np.float32]:
    """All distances, as `reference.distance_matrix` up to the bound stated in `numpy_`."""
    result = np.empty((len(query), len(gallery)), np.float32)
    meter = PairMeter(query, gallery, metric)
    columns = min(max(1, len(gallery)), max(256, CONVERTED_ELEMENTS // query.shape[1]))
    rows = max(1, _TILE_ELEMENTS // columns)
    for first in range(0, len(gallery), columns):
        g = gallery[first : first + columns].astype(np.float64)
        g_squared = np.einsum("jd,jd->j", g, g)
        for start in range(0, len(query), rows):
            q = query[start : start + rows].astype(np.float64)
            distances, close = _distances(q @ g.T, np.einsum("id,id->i", q, q), g_squared, metric)
            result[start : start + rows, first : first + columns] = distances
            i, j = np.divmod(np.flatnonzero(close), len(g))
            result[start + i, first + j] = meter.measure(start + i, len(query) + first + j)
    return result


def _distances(
    dots: NDArray[np.float64], q_squared: NDArray[np.float64], g_squared: NDArray[np.float64], metric: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Distances [Q, G], in the place of the products, and which of them are too close for these."""
    if metric == "cosine":
        dots *= inverse_lengths(q_squared)[:, None]
        dots *= inverse_lengths(g_squared)
        distances = np.subtract(1.0, dots, out=dots)
        close = distances < CLOSE / 2
        return np.clip(distances, 0.0, 2.0, out=distances), close
    dots *= -2.0
    dots += q_squared[:, None]
    dots += g_squared
    close = dots < CLOSE * max(float(q_squared.max()), float(g_squared.max()))
    return np.sqrt(np.maximum(dots, 0.0, out=dots), out=dots), close
