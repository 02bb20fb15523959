"""From the ranks of true matches to CMC, mAP and mINP.

For a query q with the gallery sorted by distance, junk (pid −1) and the images of q's own identity from q's own camera
left out, let ``r_1 < … < r_n`` be the ranks, from 1, of the n images of its identity. Then

* ``CMC@k`` is the share of queries with ``r_1 ≤ k``,
* ``AP = 1/n · Σ_i i / r_i``, the mean of the precision at each hit ("rectangle", which most programs mean); or, as the code of
  Zheng et al., ICCV 2015, integrates it, ``1/n · Σ_i ½ (i / r_i + p_i)``, with p_i the precision just before that hit,
  ``(i − 1) / (r_i − 1)``, and 1 at the first place ("trapezoid", slightly lower values). mAP is its mean over queries,
* ``INP = n / r_n``, and mINP is its mean (Ye et al., "Deep Learning for Person Re-Identification", 2021, eq. 11).

All sums are in float64.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stcanet_runtime.arrays import check_count
from stcanet_runtime.errors import DataError, OptionError, quote_choices
from stcanet_runtime.retrieval.ground_truth import GroundTruth
from stcanet_runtime.wording import counted

DISTRACTOR_PID = 0
CAMERA_RULE = "same identity and same camera removed"
NO_CAMERA_RULE = "off (no camera ids)"
REPORTED_RANKS = (1, 5, 10, 20)
APRule = Literal["rectangle", "trapezoid"]
AP_RULES: tuple[APRule, ...] = get_args(APRule)


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
    ap_rule: APRule = "rectangle"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of `evaluate` and `evaluate_embeddings`."""

    cmc: NDArray[np.float64]
    """``[min(max_rank, G)]``: cmc[k − 1] is the share of queries with a true match among the first k."""
    mAP: float  # noqa: N815  (the field's name for it)
    mINP: float  # noqa: N815
    num_valid_queries: int
    protocol: Protocol
    average_precision: NDArray[np.float64]
    """``[Q]``, NaN for skipped queries: mAP is the mean of the others. Too long for `to_dict`."""

    def rank(self, k: int) -> float:
        """CMC at rank k, in 0..1.

        A gallery shorter than k holds every match within its length, so the last value stands for all higher ranks.

        Raises:
            OptionError: k is not an integer, below 1 or above the `max_rank` of the evaluation.
        """
        place = check_count(k, "k")
        if place > self.protocol.max_rank:
            raise OptionError("k", k, f"from 1 to max_rank {self.protocol.max_rank}")
        return float(self.cmc[min(place, len(self.cmc)) - 1])

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values, the protocol included."""
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
        queries = counted(self.num_valid_queries, "query", "queries")
        return f"{figures} ({queries}" + (f", {skipped} skipped)" if skipped else ")")


Ranks = tuple[NDArray[np.int64], NDArray[np.int64]]
"""``(start, ranks)`` of the true matches of some queries: ``ranks[start[i]:start[i + 1]]`` are those of the i-th, ascending."""


def check_ap_rule(rule: APRule) -> APRule:
    """Return the rule, or raise OptionError when there is no such one."""
    if rule not in AP_RULES:
        raise OptionError("ap_rule", rule, quote_choices(AP_RULES))
    return rule


def summarise(
    pieces: Iterable[Ranks], people: GroundTruth, max_rank: int, metric: str | None, ap_rule: APRule = "rectangle"
) -> Evaluation:
    """Figures of all queries.

    Args:
        pieces: Ranks of all queries of `people`, in order.
        people: Who was evaluated.
        max_rank: Length of the CMC, cut to the size of the gallery.
        metric: Name of the distance.
        ap_rule: How the precision is averaged.

    Raises:
        DataError: No query has a true match.
    """
    figures = [_query_figures(*piece, ap_rule) for piece in pieces]
    first, precision, penalty = np.concatenate([np.empty((3, 0)), *figures], axis=1)
    valid = ~np.isnan(precision)
    first = first[valid]
    protocol = _protocol(people, len(first), max_rank, metric, ap_rule)
    if not len(first):
        raise DataError(
            f"none of {counted(protocol.num_query, 'query', 'queries')} has a true match among "
            f"{counted(protocol.num_gallery, 'gallery image', 'gallery images')} "
            f"(camera rule: {protocol.same_camera_rule}); are the identities the same in both, and with camera ids, is each "
            "person seen by a second camera? Data of one camera is judged without camera ids"
        )
    length = min(max_rank, protocol.num_gallery)
    hits = np.bincount(first.astype(np.int64), minlength=length + 1)[1 : length + 1]
    return Evaluation(
        cmc=np.cumsum(hits) / len(first),
        mAP=float(np.mean(precision[valid])),
        mINP=float(np.mean(penalty[valid])),
        num_valid_queries=len(first),
        protocol=protocol,
        average_precision=precision,
    )


def _query_figures(start: NDArray[np.int64], ranks: NDArray[np.int64], ap_rule: APRule) -> NDArray[np.float64]:
    """First rank, AP and INP ``[3, Q]`` of Q queries; NaN where there is no match."""
    found = np.diff(start)
    begin, count = start[:-1][found > 0], found[found > 0]
    hit = np.arange(1, len(ranks) + 1) - np.repeat(begin, count)
    at_hit = hit / ranks
    if ap_rule == "trapezoid":
        at_hit = (at_hit + np.divide(hit - 1, ranks - 1, out=np.ones(len(ranks)), where=ranks > 1)) / 2
    precision = np.add.reduceat(at_hit, begin) / count if len(count) else np.empty(0)
    figures = np.full((3, len(found)), np.nan)
    figures[:, found > 0] = ranks[begin], precision, count / ranks[begin + count - 1]
    return figures


def count_distractors(q_pids: ArrayLike, g_pids: ArrayLike) -> int:
    """Gallery images of pid 0; none where a query has it too, since it is a person there as any other."""
    return 0 if np.any(np.equal(q_pids, DISTRACTOR_PID)) else int(np.count_nonzero(np.equal(g_pids, DISTRACTOR_PID)))


def _protocol(people: GroundTruth, num_valid: int, max_rank: int, metric: str | None, ap_rule: APRule) -> Protocol:
    return Protocol(
        same_camera_rule=NO_CAMERA_RULE if people.cameras is None else CAMERA_RULE,
        num_query=len(people.q_pids),
        num_gallery=len(people.by_pid),
        num_distractors=count_distractors(people.q_pids, people.g_pids),
        num_junk=len(people.junk),
        num_skipped_queries=len(people.q_pids) - num_valid,
        metric=metric,
        max_rank=max_rank,
        ap_rule=ap_rule,
    )
