"""Distances between embeddings: the checked front of the backends."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stcanet_runtime.backends import Backend, get_backend
from stcanet_runtime.embeddings import as_embeddings, as_rows, check_same_depth
from stcanet_runtime.errors import OptionError, quote_choices

METRICS = ("cosine", "euclidean")
"""``cosine``: 1 - cos, in [0, 2], rows of any length. ``euclidean``: the true distance, not squared."""


def check_metric(metric: str) -> str:
    """Return the metric, or raise OptionError when there is no such metric."""
    if metric not in METRICS:
        raise OptionError("metric", metric, quote_choices(METRICS))
    return metric


def form_pair(query: ArrayLike, gallery: ArrayLike, backend: Backend) -> tuple[NDArray[Any], NDArray[Any]]:
    """Query [Q, D] and gallery [G, D] as arrays for `as_pair`: only the form is checked, and nothing is converted yet."""
    if backend.ON_DEVICE:
        from stcanet_runtime.backends import gpu

        q, g = gpu.as_rows(query, "query"), gpu.as_rows(gallery, "gallery")
    else:
        q, g = as_rows(query, "query"), as_rows(gallery, "gallery")
    check_same_depth(q, g)
    return q, g


def as_pair(
    query: ArrayLike, gallery: ArrayLike, backend: Backend, *, keep_float16: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Check query [Q, D] and gallery [G, D] together; ShapeError when their D differ.

    Args:
        query: of the kinds that `as_embeddings` takes; for a backend on a GPU, also what lies there.
        gallery: likewise.
        backend: whom they are for; they are brought to where it wants them.
        keep_float16: whether float16 may stay, if the backend reads it.
    """
    if backend.ON_DEVICE:
        from stcanet_runtime.backends import gpu

        q, g = gpu.as_embeddings(query, "query"), gpu.as_embeddings(gallery, "gallery")
    else:
        kept = keep_float16 and backend.READS_FLOAT16
        q = as_embeddings(query, "query", keep_float16=kept)
        g = as_embeddings(gallery, "gallery", keep_float16=kept)
    check_same_depth(q, g)
    return q, g


def distance_matrix(query: ArrayLike, gallery: ArrayLike, metric: str = "cosine", backend: str = "auto") -> NDArray[np.float32]:
    """All distances between query and gallery embeddings; smaller is closer.

    Args:
        query: [Q, D]. float16 is read as it is by the C++ backend, without a copy; other types become float32.
        gallery: [G, D].
        metric: one of `METRICS`.
        backend: ``"auto"`` or a name; see `stcanet_runtime.backends`.

    Returns:
        [Q, G] float32. A copy is at distance 0 exactly; a zero row is at cosine distance 1 from everything.

    Raises:
        ShapeError: wrong shapes or values.
        OptionError: unknown metric or backend.
        BackendError: the named backend cannot run here.
    """
    chosen = get_backend(backend)
    q, g = as_pair(query, gallery, chosen)
    return chosen.distance_matrix(q, g, check_metric(metric))
