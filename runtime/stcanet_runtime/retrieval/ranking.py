"""Search: the nearest gallery embeddings of every query, without the full distance matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stcanet_runtime.arrays import as_ids, check_count
from stcanet_runtime.backends import Backend, get_backend
from stcanet_runtime.errors import ShapeError
from stcanet_runtime.retrieval.distance import as_pair, check_metric


@dataclass(frozen=True, eq=False)
class SearchResult:
    """Ranked gallery rows of every query, nearest first; ties by gallery index."""

    distances: NDArray[np.float32]
    """[Q, K]; infinity in places for which there is no visible gallery row."""
    indices: NDArray[np.int64]
    """[Q, K] rows of the gallery; -1 in such places."""


def search(
    query: ArrayLike,
    gallery: ArrayLike,
    k: int = 10,
    metric: str = "cosine",
    q_camids: ArrayLike | None = None,
    g_camids: ArrayLike | None = None,
    backend: str = "auto",
) -> SearchResult:
    """Find the k nearest gallery embeddings of every query.

    The result is exact and the same for every backend, processor and number of threads: distances are float64 sums
    rounded to float32 once, rows ordered by (distance, index).

    Args:
        query: [Q, D]. float16 is read as it is by the C++ backend, without a copy; other types become float32.
        gallery: [G, D].
        k: places wanted, at least 1; the result has K = min(k, G).
        metric: ``"cosine"`` or ``"euclidean"``.
        q_camids: [Q] integers. With ``g_camids``: gallery images of a query's own camera are skipped.
        g_camids: [G] integers.
        backend: ``"auto"`` or a name; see `stcanet_runtime.backends`.

    Returns:
        Distances and indices, [Q, K].

    Raises:
        ShapeError: wrong shapes or values, or cameras for one side only.
        OptionError: ``k`` below 1, unknown metric or backend.
        BackendError: the named backend cannot run here.
    """
    chosen = get_backend(backend)
    q, g = as_pair(query, gallery, chosen)
    places = check_count(k, "k")
    q_groups, g_groups = as_groups(q_camids, g_camids, len(q), len(g))
    return search_checked(q, g, places, check_metric(metric), q_groups, g_groups, chosen)


def search_checked(
    query: NDArray[np.float32],
    gallery: NDArray[Any],
    k: int,
    metric: str,
    q_groups: NDArray[np.int64] | None,
    g_groups: NDArray[np.int64] | None,
    backend: Backend,
) -> SearchResult:
    """`search` of arrays that were checked before: a check takes as long as a search of one query.

    Args:
        query: [Q, D] float32 or float16, contiguous and finite.
        gallery: [G, D], likewise.
        k: places wanted; the result has K = min(k, G).
        metric: as in `search`.
        q_groups: [Q], or None; gallery rows of a query's own group are hidden from it.
        g_groups: [G], together with ``q_groups``.
        backend: what searches; it is given float32 where it does not read float16.
    """
    places = min(k, len(gallery))
    if places == 0:
        return SearchResult(np.empty((len(query), 0), np.float32), np.empty((len(query), 0), np.int64))
    if not backend.READS_FLOAT16:
        query, gallery = query.astype(np.float32, copy=False), gallery.astype(np.float32, copy=False)
    return SearchResult(*backend.top_k(query, gallery, places, metric, q_groups, g_groups))


def best_of(
    distances: NDArray[np.float32],
    k: int,
    q_groups: NDArray[np.int64] | None,
    g_groups: NDArray[np.int64] | None,
    backend: Backend,
) -> SearchResult:
    """The k best of a finished matrix; hidden pairs become infinity in it, and places without a visible row hold -1.

    Args:
        distances: [Q, G], smaller is closer; changed.
        k: from 1 to G.
        q_groups: [Q], or None; gallery rows of a query's own group are hidden from it.
        g_groups: [G], together with ``q_groups``.
        backend: selects.
    """
    if q_groups is not None and g_groups is not None:
        distances[q_groups[:, None] == g_groups] = np.inf
    values, columns = backend.smallest(distances, k)
    return SearchResult(values, np.where(np.isinf(values), -1, columns.astype(np.int64)))


def as_groups(
    q_camids: ArrayLike | None, g_camids: ArrayLike | None, num_query: int, num_gallery: int
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """Check cameras [Q] and [G], which must be given together or not at all."""
    if (q_camids is None) != (g_camids is None):
        raise ShapeError("q_camids and g_camids must be given together or not at all")
    if q_camids is None or g_camids is None:
        return None, None
    return as_ids(q_camids, num_query, "q_camids"), as_ids(g_camids, num_gallery, "g_camids")
