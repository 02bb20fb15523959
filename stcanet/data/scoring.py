"""Retrieval results of a data set, whoever computed the embeddings. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stcanet.data.datasets import Sample, cameras_known
from stcanet_runtime import Evaluation, evaluate, evaluate_embeddings, rerank
from stcanet_runtime.progress import Progress
from stcanet_runtime.retrieval.figures import APRule
from stcanet_runtime.retrieval.rerank import Reranking


def embed_sides(
    embed: Callable[[Sequence[Sample]], NDArray[np.float32]], query: Sequence[Sample], gallery: Sequence[Sample]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Embeddings of both sides, ``[Q, D]`` and ``[G, D]``.

    Samples that are in both (MARS keeps its queries in the gallery, and so does validation) are embedded once.

    Args:
        embed: From N samples to ``[N, D]``, in order.
        query: Q samples.
        gallery: G samples.
    """
    place = {sample: index for index, sample in enumerate(dict.fromkeys((*query, *gallery)))}
    rows = embed(list(place))
    if len(rows) == len(query) + len(gallery):  # no copies, which may not fit into the memory
        return rows[: len(query)], rows[len(query) :]
    return rows[[place[sample] for sample in query]], rows[[place[sample] for sample in gallery]]


def score(
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    query_embeddings: NDArray[np.float32],
    gallery_embeddings: NDArray[np.float32],
    reranking: Reranking | None = None,
    metric: str = "cosine",
    ap_rule: APRule = "rectangle",
    progress: Progress | None = None,
) -> Evaluation:
    """The Market protocol; where camera numbers are missing, only identities count.

    Args:
        query: Q samples.
        gallery: G samples.
        query_embeddings: ``[Q, D]``, in the order of `query`.
        gallery_embeddings: ``[G, D]``, in the order of `gallery`.
        reranking: Settings of k-reciprocal re-ranking; None takes the distances as they are.
        metric: "cosine" or "euclidean".
        ap_rule: "rectangle" or "trapezoid"; see :mod:`stcanet_runtime.retrieval.figures`.
        progress: Told how much is ranked or re-ranked.
    """
    known = cameras_known((*query, *gallery))
    (q_pids, q_camids), (g_pids, g_camids) = identities(query, known), identities(gallery, known)
    ids = (q_pids, g_pids, q_camids, g_camids)
    if reranking is None:
        return evaluate_embeddings(
            query_embeddings, gallery_embeddings, *ids, metric=metric, ap_rule=ap_rule, progress=progress
        )
    parameters = (reranking.k1, reranking.k2, reranking.lambda_value)
    distances = rerank(query_embeddings, gallery_embeddings, *parameters, metric=metric, progress=progress)
    return evaluate(distances, *ids, metric=f"{metric}, {reranking}", ap_rule=ap_rule)


def identities(samples: Sequence[Sample], cameras: bool) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Identities ``[N]``, and cameras ``[N]`` where they are known."""
    pids = np.array([sample.pid for sample in samples], np.int64)
    return pids, np.array([sample.camid for sample in samples], np.int64) if cameras else None
