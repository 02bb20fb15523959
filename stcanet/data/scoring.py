"""Retrieval results of a data set, whoever computed the embeddings. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stcanet.data.datasets import Sample
from stcanet_runtime import Evaluation, distance_matrix, evaluate


def score(
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    query_embeddings: NDArray[np.float32],
    gallery_embeddings: NDArray[np.float32],
) -> Evaluation:
    """The Market protocol with cosine distance; where camera numbers are missing, only identities count.

    Args:
        query: Q samples.
        gallery: G samples.
        query_embeddings: ``[Q, D]``, in the order of `query`.
        gallery_embeddings: ``[G, D]``, in the order of `gallery`.
    """
    cameras = all(sample.camid >= 0 for sample in (*query, *gallery))
    return evaluate(
        distance_matrix(query_embeddings, gallery_embeddings, "cosine"),
        _field(query, "pid"),
        _field(gallery, "pid"),
        _field(query, "camid") if cameras else None,
        _field(gallery, "camid") if cameras else None,
        metric="cosine",
    )


def _field(samples: Sequence[Sample], name: str) -> NDArray[np.int64]:
    return np.array([getattr(sample, name) for sample in samples], dtype=np.int64)
