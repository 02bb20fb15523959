"""Re-ranking with k-reciprocal neighbours, exact, in memory linear in the number of images.

Zhong, Zheng, Cao, Li: Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017. What is computed, to the last
choice, is stated in `stcanet_runtime.backends.reference.rerank`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from stcanet_runtime.arrays import check_count
from stcanet_runtime.backends import get_backend, resolve
from stcanet_runtime.errors import OptionError
from stcanet_runtime.progress import Progress
from stcanet_runtime.retrieval.distance import check_metric, form_pair
from stcanet_runtime.retrieval.kreciprocal import Reranking, Settings, variant_power
from stcanet_runtime.retrieval.ranking import SearchResult, as_groups
from stcanet_runtime.retrieval.rerank_memory import Task
from stcanet_runtime.retrieval.rerank_output import as_place
from stcanet_runtime.retrieval.rerank_sources import EmbeddingSource, MatrixSource
from stcanet_runtime.retrieval.rerank_steps import Request, Run

__all__ = ["Reranking", "rerank", "rerank_distances", "rerank_memory"]

_METRIC_POWERS = {"cosine": 1, "euclidean": 2}
_MATRIX_POWER = 2


@overload
def rerank(
    query: ArrayLike,
    gallery: ArrayLike,
    k1: int = ...,
    k2: int = ...,
    lambda_value: float = ...,
    top: None = ...,
    *,
    metric: str = ...,
    variant: str = ...,
    q_camids: ArrayLike | None = ...,
    g_camids: ArrayLike | None = ...,
    out: NDArray[np.float32] | None = ...,
    max_memory: int | None = ...,
    progress: Progress | None = ...,
    backend: str = ...,
) -> NDArray[np.float32]: ...


@overload
def rerank(
    query: ArrayLike,
    gallery: ArrayLike,
    k1: int = ...,
    k2: int = ...,
    lambda_value: float = ...,
    top: None = ...,
    *,
    metric: str = ...,
    variant: str = ...,
    q_camids: ArrayLike | None = ...,
    g_camids: ArrayLike | None = ...,
    out: str | Path,
    max_memory: int | None = ...,
    progress: Progress | None = ...,
    backend: str = ...,
) -> Path: ...


@overload
def rerank(
    query: ArrayLike,
    gallery: ArrayLike,
    k1: int = ...,
    k2: int = ...,
    lambda_value: float = ...,
    *,
    top: int,
    metric: str = ...,
    variant: str = ...,
    q_camids: ArrayLike | None = ...,
    g_camids: ArrayLike | None = ...,
    out: None = ...,
    max_memory: int | None = ...,
    progress: Progress | None = ...,
    backend: str = ...,
) -> SearchResult: ...


def rerank(
    query: ArrayLike,
    gallery: ArrayLike,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    top: int | None = None,
    *,
    metric: str = "cosine",
    variant: str = "zhong",
    q_camids: ArrayLike | None = None,
    g_camids: ArrayLike | None = None,
    out: NDArray[np.float32] | str | Path | None = None,
    max_memory: int | None = None,
    progress: Progress | None = None,
    backend: str = "auto",
) -> NDArray[np.float32] | Path | SearchResult:
    """Re-rank the gallery for every query by what their nearest neighbours have in common.

    Queries are neighbours of one another too: results depend on all of them. Neighbour lists are exact and the same bits for
    every backend, and ties fall by index.

    Args:
        query: [Q, D]; for the cosine, rows of any length.
        gallery: [G, D].
        k1: neighbours of which the reciprocal sets are made, at least 1. With fewer rows than k1 + 1, all are neighbours.
        k2: neighbours, with the image itself, over which the encodings are averaged, at least 1; 1 leaves them as they are.
        lambda_value: weight of the plain distance, from 0 to 1.
        top: the best gallery rows wanted of every query, instead of all distances; takes no [Q, G] memory.
        metric: ``"cosine"`` or ``"euclidean"``; the same result for rows of length 1.
        variant: ``"zhong"``, or ``"torchreid"``, which squares the distances once more; STCANet's published code does so too.
        q_camids: [Q] integers, with ``top`` only: gallery images of a query's own camera are left out of its list.
        g_camids: [G] integers, together with ``q_camids``.
        out: an array [Q, G] to fill, apart from the inputs, or the path of a ``.npy`` to write block by block, its folders made
            where they are missing; not with ``top``. After an exception an array may be half filled; a file is there when it
            is complete.
        max_memory: bytes that may be allocated besides the inputs and ``out``; blocks become smaller to keep to it.
        progress: called as ``progress(done, total)`` between blocks; an exception from it ends the work.
        backend: ``"auto"`` or a name; see `stcanet_runtime.backends`. ``"reference"`` needs [N, N] memory.

    Returns:
        Distances [Q, G] in 0..1, smaller is closer (by rounding, those of copies may be 3e-7 below 0): a new array, or ``out``,
        array or path, as it was given (map the file with ``numpy.load(path, mmap_mode="r")``; the matrix may be larger than the
        address space). With ``top``: a `SearchResult` [Q, min(top, G)] of the smallest by (distance, index), as `search`
        gives it.

    Raises:
        ShapeError: wrong shapes or values, or ``out`` shares memory with an input.
        OptionError: a parameter out of its range, cameras without ``top``, unknown metric, variant or backend, or the file
            ``out`` is the one that an input is mapped from.
        MemoryLimitError: it cannot be done within ``max_memory``.
        BackendError: the named backend cannot run here.
        OSError: nothing can be written at the path ``out``.
    """
    chosen, name = get_backend(backend), resolve(backend)[0]
    source = EmbeddingSource(*form_pair(query, gallery, chosen), check_metric(metric), chosen)
    settings = Settings(k1, k2, lambda_value, variant_power(variant, _METRIC_POWERS[metric]))
    groups = as_groups(q_camids, g_camids, source.num_query, source.num_gallery)
    request = Request(top, groups, as_place(out), max_memory, progress)
    return Run(source, settings, request, name).run()


def rerank_distances(
    q_g: ArrayLike,
    q_q: ArrayLike,
    g_g: ArrayLike,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    top: int | None = None,
    *,
    variant: str = "zhong",
    q_camids: ArrayLike | None = None,
    g_camids: ArrayLike | None = None,
    out: NDArray[np.float32] | str | Path | None = None,
    max_memory: int | None = None,
    progress: Progress | None = None,
    backend: str = "auto",
) -> NDArray[np.float32] | Path | SearchResult:
    """Re-rank with distances that the caller has: true ones, not squared, since they are squared here.

    Distances are rounded to float32 before they are compared. The distances *to* an image are its own: where the matrices are
    not symmetric, column i of the joint matrix ``[[q_q, q_g], [q_g.T, g_g]]`` counts, as in the published code.

    Args:
        q_g: [Q, G], not negative.
        q_q: [Q, Q].
        g_g: [G, G].
        k1: as in `rerank`, as all that follow.
        k2: at least 1.
        lambda_value: weight of the plain distance.
        top: the best gallery rows wanted of every query.
        variant: ``"zhong"`` squares the distances; ``"torchreid"`` squares them twice, as its engine does.
        q_camids: [Q].
        g_camids: [G].
        out: an array, which may be ``q_g`` itself, or the path of a ``.npy``.
        max_memory: bytes besides the matrices.
        progress: called between blocks.
        backend: ``"auto"`` or a name.

    Returns:
        Distances [Q, G], the path that was given as ``out``, or a `SearchResult` with ``top``.

    Raises:
        ShapeError: wrong shapes, NaN, infinite or negative distances, or ``out`` shares memory with another matrix.
        OptionError: a parameter out of its range, or the file ``out`` is the one that a matrix is mapped from.
        MemoryLimitError: it cannot be done within ``max_memory``.
        BackendError: the named backend cannot run here.
        OSError: nothing can be written at the path ``out``.
    """
    source = MatrixSource(q_g, q_q, g_g, get_backend(backend))
    settings = Settings(k1, k2, lambda_value, variant_power(variant, _MATRIX_POWER))
    groups = as_groups(q_camids, g_camids, source.num_query, source.num_gallery)
    request = Request(top, groups, as_place(out), max_memory, progress)
    return Run(source, settings, request, resolve(backend)[0]).run()


def rerank_memory(
    num_query: int,
    num_gallery: int,
    dim: int,
    k1: int = 20,
    k2: int = 6,
    top: int | None = None,
    *,
    to_file: bool = False,
    dtype: DTypeLike = np.float32,
    backend: str = "auto",
) -> int:
    """Bytes that `rerank` allocates besides its inputs, about, when it has no limit; those of its threads are among them.

    The sets of neighbours are taken to have the sizes they have with features of people. How large they are is known after the
    search: where they are far larger, as with features that are noise or a large `k2`, `rerank` takes more, and with
    ``max_memory`` its `MemoryLimitError` comes then, before it has taken more than the limit.

    Args:
        num_query: Q.
        num_gallery: G.
        dim: D.
        k1: as in `rerank`.
        k2: as in `rerank`.
        top: as in `rerank`.
        to_file: whether ``out`` is a path, or an array that is there already.
        dtype: of the embeddings; others than float32 are copied.
        backend: ``"auto"`` or a name.

    Raises:
        OptionError: `k1`, `k2`, `dim` or `top` is no integer of at least 1, Q or G none of at least 0, the dtype is not that of
            real numbers, or the backend is not known.
    """
    num_query, num_gallery = check_count(num_query, "num_query", 0), check_count(num_gallery, "num_gallery", 0)
    dim = check_count(dim, "dim")
    top = top if top is None else check_count(top, "top")
    total = num_query + num_gallery
    output = 0 if to_file or top is not None else 4 * num_query * num_gallery
    copied = 0 if _check_dtype(dtype) == np.float32 else 4 * total * dim
    length = Settings(k1, k2).list_length(total)
    task = Task(num_query, num_gallery, dim, length, top, resolve(backend)[0], output + copied)
    return task.fixed_bytes() + task.scratch()


def _check_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        checked = np.dtype(dtype)
    except (TypeError, ValueError):
        checked = np.dtype(object)
    if checked.kind not in "fiu":
        raise OptionError("dtype", dtype, "the dtype of real numbers")
    return checked
