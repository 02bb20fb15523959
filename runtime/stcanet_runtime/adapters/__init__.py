"""Trackers and tools that are given embeddings by an `Encoder`: one module for each.

None of the other side is imported: an adapter has the few methods that are called. `.ci/adapters` tests them against the real
packages.
"""

from __future__ import annotations

from stcanet_runtime.arrays import Float32Array
from stcanet_runtime.inference.encoder import BoxEmbeddings


def rows_of_unit_length(found: BoxEmbeddings) -> Float32Array:
    """``[N, D]`` for those who bring rows to unit length again and would make NaN of zeros: invalid boxes get the first axis.

    It is about as far from any person as zeros are. It is equal for all invalid boxes, so their distance is 0.
    """
    rows = found.embeddings.copy()
    rows[~found.valid, 0] = 1
    return rows
