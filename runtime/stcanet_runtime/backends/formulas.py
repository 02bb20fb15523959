"""What re-ranking makes of an overlap and a distance, in float64 and the same bits for every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def relative(distances: NDArray[np.float32], farthest: NDArray[np.float32], power: int) -> NDArray[np.float64]:
    """``(distance / farthest)^power``, 0 where the farthest is 0; never falls when the distance grows."""
    result = np.zeros(np.broadcast_shapes(distances.shape, farthest.shape))
    np.divide(distances, farthest, out=result, where=farthest > 0, dtype=np.float64)
    for _ in range(power.bit_length() - 1):  # powers of two; pow() might not be monotonic
        np.square(result, out=result)
    return result


def final(
    overlap: NDArray[np.floating[Any]],
    distances: NDArray[np.float32],
    farthest: NDArray[np.float32],
    power: int,
    lambda_value: float,
) -> NDArray[np.float32]:
    """``(1 - λ) J + λ (distance / farthest)^power`` with ``J = 1 - m / (2 - m)``, rounded once."""
    m = overlap.astype(np.float64)
    jaccard = 1.0 - m / (2.0 - m)
    return ((1.0 - lambda_value) * jaccard + lambda_value * relative(distances, farthest, power)).astype(np.float32)
