"""The queries that the network is worst at, as a ranked-list picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stcanet.data.datasets import Sample, cameras_known
from stcanet_runtime import Evaluation, Match, SheetRow, distance_matrix
from stcanet_runtime.retrieval.evaluate import JUNK_PID

_QUERIES, _MATCHES = 6, 8


def hardest(
    evaluation: Evaluation,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    query_embeddings: NDArray[np.float32],
    gallery_embeddings: NDArray[np.float32],
) -> list[SheetRow]:
    """Rows for `draw_sheet`: the queries with the lowest average precision, the worst first; those without a mistake stay out.

    Each has its nearest gallery images by the rules of the protocol, and at the end, where it is not among those, the first
    image of the same person, with its rank.

    Args:
        evaluation: Of the same samples.
        query: Q samples.
        gallery: G samples.
        query_embeddings: ``[Q, D]``
        gallery_embeddings: ``[G, D]``
    """
    precision = evaluation.average_precision
    order = np.argsort(precision, kind="stable")[: np.count_nonzero(precision < 1.0)]  # NaN, without a match, sorts last
    cameras = cameras_known((*query, *gallery))
    rows = []
    for index in order[:_QUERIES].tolist():
        distances = distance_matrix(query_embeddings[index : index + 1], gallery_embeddings, "cosine")[0]
        person = query[index]
        hidden = [
            other.pid == JUNK_PID or (cameras and other.pid == person.pid and other.camid == person.camid) for other in gallery
        ]
        ranked = [place for place in np.argsort(distances, kind="stable").tolist() if not hidden[place]]
        label = f"id {person.pid} · AP {100 * precision[index]:.1f} %"
        rows.append(SheetRow(person.path, _matches(person, gallery, distances, ranked), label))
    return rows


def _matches(person: Sample, gallery: Sequence[Sample], distances: NDArray[np.float32], ranked: Sequence[int]) -> list[Match]:
    found = next(rank for rank, place in enumerate(ranked, start=1) if gallery[place].pid == person.pid)
    shown = list(enumerate(ranked[:_MATCHES], start=1))
    shown += [(found, ranked[found - 1])] if found > _MATCHES else []
    return [
        Match(
            gallery[place].path, float(distances[place]), gallery[place].pid == person.pid, f"#{rank} {_label(gallery[place])}"
        )
        for rank, place in shown
    ]


def _label(sample: Sample) -> str:
    return f"id {sample.pid}" + (f" c{sample.camid + 1}" if sample.camid >= 0 else "")
