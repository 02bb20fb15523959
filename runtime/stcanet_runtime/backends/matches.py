"""What the backends share about evaluation: the true matches of queries, and thresholds made of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Truth(NamedTuple):
    """What is to be found, and what is left out of the ranking. Indices are of the gallery and ascend for each query."""

    match_start: NDArray[np.int64]
    """[Q + 1]; the true matches of query i are ``matches[match_start[i]:match_start[i + 1]]``."""
    matches: NDArray[np.int64]
    """[M]."""
    hidden_start: NDArray[np.int64]
    """[Q + 1]; those hidden from query i alone are ``hidden[hidden_start[i]:hidden_start[i + 1]]``."""
    hidden: NDArray[np.int64]
    """[H]."""
    junk: NDArray[np.int64]
    """[J], hidden from all."""

    def matches_of(self, i: int) -> NDArray[np.int64]:
        """True matches of query i."""
        return self.matches[self.match_start[i] : self.match_start[i + 1]]

    def hidden_of(self, i: int) -> NDArray[np.int64]:
        """What is hidden from query i alone."""
        return self.hidden[self.hidden_start[i] : self.hidden_start[i + 1]]


class Thresholds(NamedTuple):
    """Points in the order of (distance, gallery index), some for each query, ascending for each."""

    start: NDArray[np.int64]
    """[Q + 1]; those of query i are ``start[i]:start[i + 1]``."""
    distances: NDArray[np.float32]
    """[M]."""
    places: NDArray[np.int64]
    """[M], compared with gallery indices; they may lie outside of the gallery."""
