"""The NumPy backend for machines where nothing is compiled: BLAS screens, float64 decides.

`top_k` and `neighbours` give the results of `reference`, bit for bit: a float32 matrix product and its error bound (`screen`)
leave few candidates, and those are measured by the definition. `distance_matrix` comes from a float64 matrix product: for
distances above 1e-3 of the largest length within 1e-9 of that length before the one rounding to float32 (the cosine within
1e-12); closer pairs are measured by the definition.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends import numpy_top
from stcanet_runtime.backends.neighbours import DEFAULT_SCRATCH
from stcanet_runtime.backends.numpy_distance import distance_matrix
from stcanet_runtime.backends.numpy_kreciprocal import average, blend, expand, overlaps
from stcanet_runtime.backends.numpy_neighbours import KEY_BYTES, PAIR_BYTES, hide, neighbours, place_candidates, smallest
from stcanet_runtime.backends.numpy_pairs import PairMeter, pair_distances
from stcanet_runtime.backends.numpy_ranks import count_closer, ranks
from stcanet_runtime.backends.reference_resize import resize_boxes
from stcanet_runtime.backends.screen import BLOCK_KEYS, make_screen
from stcanet_runtime.backends.weights import weights

READS_FLOAT16 = False
ON_DEVICE = False
__all__ = [
    "average",
    "blend",
    "count_closer",
    "distance_matrix",
    "expand",
    "neighbours",
    "overlaps",
    "pair_distances",
    "ranks",
    "resize_boxes",
    "select_best",
    "smallest",
    "top_k",
    "weights",
]

select_best = partial(numpy_top.select_best, overlaps, pair_distances)
"""The best gallery rows of every query after re-ranking; arguments and result as `reference.select_best`."""


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
    distances = np.full((len(query), k), np.inf, np.float32)
    indices = np.full((len(query), k), -1, np.int64)
    if len(query) == 0 or len(gallery) == 0:
        return distances, indices
    screen, meter = make_screen(query, gallery, metric), PairMeter(query, gallery, metric)
    kept = min(k, len(gallery))
    for start, keys in screen.blocks(min(BLOCK_KEYS, scratch_bytes // KEY_BYTES)):
        hide(keys, start, q_groups, g_groups)
        place_candidates(start, keys, screen.limits(keys, kept), meter, distances, indices, scratch_bytes // PAIR_BYTES)
    return distances, indices
