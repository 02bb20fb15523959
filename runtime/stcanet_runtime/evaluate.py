"""CMC, mAP and mINP after the Market-1501 protocol: the only implementation in the project.

For a query q with the gallery sorted by distance, junk (pid −1) and the images of q's own identity from q's own camera
left out, let ``r_1 < … < r_n`` be the ranks, from 1, of the n images of its identity. Then

* ``CMC@k`` is the share of queries with ``r_1 ≤ k``,
* ``AP = 1/n · Σ_i i / r_i``, the mean of the precision at each hit ("rectangle"; Zheng et al., ICCV 2015, integrate by
  trapezoids instead, which gives slightly lower values), and mAP is its mean over queries,
* ``INP = n / r_n``, and mINP is its mean (Ye et al., "Deep Learning for Person Re-Identification", 2021, eq. 11).

Equal distances keep the order of the gallery. All sums are in float64.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stcanet_runtime.errors import DataError, OptionError, ShapeError

JUNK_PID = -1
DISTRACTOR_PID = 0
CAMERA_RULE = "same identity and same camera removed"
NO_CAMERA_RULE = "off (no camera ids)"
REPORTED_RANKS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Protocol:
    """How the figures were made. Figures made in different ways must not be compared, so this goes with them."""

    same_camera_rule: str
    num_query: int
    """Queries given, with the skipped ones."""
    num_gallery: int
    """Gallery images that were ranked: junk is not among them, distractors are."""
    num_distractors: int
    """Gallery images with pid 0, where no query has pid 0 (then it is an identity as any other)."""
    num_junk: int
    """Gallery images with pid −1, dropped."""
    num_skipped_queries: int
    """Queries without any true match after the camera rule; they count nowhere."""
    metric: str | None
    """Distance that was given, as the caller named it."""
    max_rank: int
    """As asked for; the CMC is shorter where the gallery is."""
    ap_rule: str = "rectangle"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of :func:`evaluate`."""

    cmc: NDArray[np.float64]
    """``[min(max_rank, G)]``: cmc[k − 1] is the share of queries with a true match among the first k."""
    mAP: float  # noqa: N815  (the field's name for it)
    mINP: float  # noqa: N815
    num_valid_queries: int
    protocol: Protocol

    def rank(self, k: int) -> float:
        """CMC at rank k, in 0..1.

        A gallery shorter than k holds every match within its length, so the last value stands for all higher ranks.

        Raises:
            OptionError: k is below 1 or above the `max_rank` of the evaluation.
        """
        if not 1 <= k <= self.protocol.max_rank:
            raise OptionError("k", k, f"from 1 to max_rank {self.protocol.max_rank}")
        return float(self.cmc[min(k, len(self.cmc)) - 1])

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values, the protocol included."""
        return {
            "mAP": self.mAP,
            "mINP": self.mINP,
            "cmc": self.cmc.tolist(),
            "num_valid_queries": self.num_valid_queries,
            "protocol": asdict(self.protocol),
        }

    def summary(self) -> str:
        """One line of text, in percent."""
        ranks = [f"rank-{k} {100 * self.rank(k):.2f}" for k in REPORTED_RANKS if k <= self.protocol.max_rank]
        figures = ", ".join([f"mAP {100 * self.mAP:.2f}", *ranks, f"mINP {100 * self.mINP:.2f}"])
        skipped = self.protocol.num_skipped_queries
        return f"{figures} ({self.num_valid_queries} queries" + (f", {skipped} skipped)" if skipped else ")")


def evaluate(
    distmat: ArrayLike,
    q_pids: ArrayLike,
    g_pids: ArrayLike,
    q_camids: ArrayLike | None = None,
    g_camids: ArrayLike | None = None,
    max_rank: int = 50,
    metric: str | None = None,
) -> Evaluation:
    """Rank the gallery for each query and measure how well the true matches come first.

    Args:
        distmat: ``[Q, G]``, smaller is closer; any order-preserving scale will do. +inf is allowed, NaN is not.
        q_pids: ``[Q]`` identities of the queries. A query with pid −1 is skipped.
        g_pids: ``[G]`` identities of the gallery; −1 is junk and dropped, 0 a distractor and kept.
        q_camids: ``[Q]`` cameras, numbers or names; None turns the camera rule off, and the protocol says so.
        g_camids: ``[G]`` cameras; given if and only if `q_camids` is.
        max_rank: Length of the CMC, cut to the size of the gallery.
        metric: Name of the distance, for the protocol only.

    Returns:
        Figures in 0..1 with the protocol that made them.

    Raises:
        ShapeError: Lengths do not fit, ids are not integers, or a distance is NaN.
        DataError: No query has a true match.
        OptionError: `max_rank` is below 1.
    """
    if max_rank < 1:
        raise OptionError("max_rank", max_rank, "at least 1")
    distances = _distances(distmat)
    q_ids, g_ids = _pids("q_pids", q_pids, distances.shape[0]), _pids("g_pids", g_pids, distances.shape[1])
    q_cams, g_cams = _cameras(q_camids, g_camids, distances.shape)
    kept = g_ids != JUNK_PID
    ranks = _all_ranks(distances, kept, (q_ids, g_ids), None if q_cams is None or g_cams is None else (q_cams, g_cams))
    valid = [found for found in ranks if len(found)]
    num_kept = int(np.count_nonzero(kept))
    protocol = Protocol(
        same_camera_rule=NO_CAMERA_RULE if q_cams is None else CAMERA_RULE,
        num_query=len(q_ids),
        num_gallery=num_kept,
        num_distractors=0 if DISTRACTOR_PID in q_ids else int(np.count_nonzero(g_ids == DISTRACTOR_PID)),
        num_junk=len(g_ids) - num_kept,
        num_skipped_queries=len(ranks) - len(valid),
        metric=metric,
        max_rank=max_rank,
    )
    return _summarise(valid, protocol)


def _all_ranks(
    distances: NDArray[Any],
    kept: NDArray[np.bool_],
    pids: tuple[NDArray[Any], NDArray[Any]],
    cameras: tuple[NDArray[Any], NDArray[Any]] | None,
) -> list[NDArray[np.int64]]:
    """Ranks of the true matches of every query."""
    (q_ids, g_ids), ranks = pids, []
    for i, pid in enumerate(q_ids):
        same = g_ids == pid
        visible = kept if cameras is None else kept & ~(same & (cameras[1] == cameras[0][i]))
        ranks.append(_ranks_of_matches(distances[i][visible], same[visible]))
    return ranks


def _ranks_of_matches(row: NDArray[Any], match: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Ranks, from 1 and ascending, of the matches of one query.

    Args:
        row: ``[G]`` distances.
        match: ``[G]``, true where the identity is the query's.
    """
    if not match.any():
        return np.empty(0, np.int64)
    # Nothing behind the last match changes any figure, so only what is at least as close as it is sorted.
    near = row <= row[match].max()
    order = np.argsort(row[near], kind="stable")
    return np.flatnonzero(match[near][order]).astype(np.int64) + 1


def _summarise(ranks: list[NDArray[np.int64]], protocol: Protocol) -> Evaluation:
    if not ranks:
        raise DataError(
            f"none of {protocol.num_query} queries has a true match among {protocol.num_gallery} gallery images "
            f"(camera rule: {protocol.same_camera_rule}); are the identities the same in both, and with camera ids, is each "
            "person seen by a second camera?"
        )
    first = np.array([found[0] for found in ranks])
    precision = [np.mean(np.arange(1, len(found) + 1) / found) for found in ranks]
    inverse_negative_penalty = [len(found) / found[-1] for found in ranks]
    length = min(protocol.max_rank, protocol.num_gallery)
    hits = np.bincount(first, minlength=length + 1)[1 : length + 1]
    return Evaluation(
        cmc=np.cumsum(hits) / len(ranks),
        mAP=float(np.mean(precision)),
        mINP=float(np.mean(inverse_negative_penalty)),
        num_valid_queries=len(ranks),
        protocol=protocol,
    )


def _distances(distmat: ArrayLike) -> NDArray[Any]:
    distances = np.asarray(distmat)
    if distances.ndim != 2 or distances.dtype.kind not in "fiu":
        raise ShapeError(f"distmat must be numbers [Q, G], got {distances.dtype} {list(distances.shape)}")
    # min() is NaN if any value is, and needs no second matrix.
    if distances.size and np.isnan(distances.min()):
        raise ShapeError("distmat holds NaN: the ranking is undefined; look at the embeddings it was made from")
    return distances


def _pids(name: str, values: ArrayLike, length: int) -> NDArray[Any]:
    ids = np.asarray(values)
    if ids.shape != (length,):
        raise ShapeError(f"{name} must be [{length}] as distmat is, got {list(ids.shape)}")
    if ids.dtype.kind not in "iu" and length:
        raise ShapeError(f"{name} must be integers, got {ids.dtype}")
    return ids.astype(np.int64, copy=False)


def _cameras(
    q_camids: ArrayLike | None, g_camids: ArrayLike | None, shape: tuple[int, ...]
) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    if q_camids is None or g_camids is None:
        if q_camids is not g_camids:
            raise ShapeError("q_camids and g_camids: give both, or neither (no camera rule)")
        return None, None
    q_cams, g_cams = np.asarray(q_camids), np.asarray(g_camids)
    for name, cameras, length in (("q_camids", q_cams, shape[0]), ("g_camids", g_cams, shape[1])):
        if cameras.shape != (length,):
            raise ShapeError(f"{name} must be [{length}] as distmat is, got {list(cameras.shape)}")
    kinds = {cameras.dtype.kind.replace("u", "i") for cameras in (q_cams, g_cams) if cameras.size}
    if len(kinds) > 1 or not kinds <= {"i", "U"}:
        raise ShapeError(f"q_camids and g_camids must both be integers or both names, got {q_cams.dtype} and {g_cams.dtype}")
    return q_cams, g_cams
