"""Do two models rank a gallery alike? Distances that the reference cannot tell apart may rank either way.

A lower precision is allowed to move distances by so much that few pairs of a gallery, or none, are farther apart than that. The
checks then say little, so what they compared stands beside them, and the agreement as it is, without any allowance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stcanet.data.datasets import load_dataset
from stcanet_export.parity.report import Check, Ranking
from stcanet_export.parity.sides import Side
from stcanet_export.parity.tolerance import Tolerance
from stcanet_runtime.errors import DataError, LayoutError
from stcanet_runtime.images.crops import list_images
from stcanet_runtime.picking import pick_evenly
from stcanet_runtime.wording import counted

Distances = NDArray[np.float64]
TOP = 10
MAX_QUERIES, MAX_GALLERY = 100, 1000
"""Evenly picked: pairs grow with the square of a gallery, and PyTorch on a CPU embeds some ten crops a second."""
_MIN_GALLERY = 3

Group = tuple[Path, ...]


@dataclass(frozen=True)
class Gallery:
    """Crops or tracklets: each a group of image files."""

    queries: tuple[Group, ...]
    gallery: tuple[Group, ...]


def read_gallery(source: str) -> Gallery:
    """A data set's query and gallery, or the images of a folder as both.

    Raises:
        DataError: There are no images, or too few.
    """
    try:
        dataset = load_dataset(source)
        sides = [tuple(sample.frames for sample in samples) for samples in (dataset.query, dataset.gallery)]
    except LayoutError:
        sides = [tuple((image,) for image in list_images(Path(source)))] * 2
    found = Gallery(tuple(pick_evenly(sides[0], MAX_QUERIES)), tuple(pick_evenly(sides[1], MAX_GALLERY)))
    if not found.queries or len(found.gallery) < _MIN_GALLERY:
        queries = counted(len(found.queries), "query", "queries")
        raise DataError(f"{source}: {queries} and {len(found.gallery)} in the gallery are too few to rank")
    return found


def gallery_checks(reference: Side, candidate: Side, gallery: Gallery, tolerance: Tolerance) -> tuple[Ranking, list[Check]]:
    """Embeddings of all, and how each query ranks the gallery; what is a query itself is not in its own ranking.

    Returns:
        What :func:`agreement` does, the least cosine first among the checks.
    """
    groups = list(dict.fromkeys((*gallery.queries, *gallery.gallery)))
    place = {group: index for index, group in enumerate(groups)}
    ours, theirs = (side.embed_files(groups).astype(np.float64) for side in (candidate, reference))
    cosine = cosines(ours, theirs)
    worst = int(np.argmin(cosine))
    least = Check.at_least("gallery: min cosine", float(cosine[worst]), tolerance.min_cosine, groups[worst][0].name)
    q, g = ([place[group] for group in side] for side in (gallery.queries, gallery.gallery))
    same = np.equal.outer(q, g)
    distances = [np.where(same, np.inf, 1 - values[q] @ values[g].T) for values in (ours, theirs)]
    ranking, checks = agreement(
        f"gallery of {len(g)}, {counted(len(q), 'query', 'queries')}", distances[0], distances[1], tolerance
    )
    return ranking, [least, *checks]


def agreement(name: str, ours: Distances, theirs: Distances, tolerance: Tolerance) -> tuple[Ranking, list[Check]]:
    """The agreement as it is; and within what the tolerance allows Kendall's tau, the first match and the first ten.

    A check for which all of the gallery is within the tie has compared nothing. It passes, and says so in the place of a value:
    the tolerance asks nothing of such a gallery, and to fail would refuse every lower precision of a network whose crops are
    near each other, whatever it computes. Cosine, and error against spread, hold it there.

    Args:
        name: What the checks are called by.
        ours: Distances of the candidate ``[Q, G]``.
        theirs: Those of the reference ``[Q, G]``; infinite where a gallery entry does not count for a query.
        tolerance: `min_tau`, `min_top` and `tie`.
    """
    tie = tolerance.tie
    tau, apart = kendall_tau(ours, theirs, tie)
    plain_tau, pairs = kendall_tau(ours, theirs, 0.0)
    tops = sorted({1, min(TOP, int(np.isfinite(theirs).sum(axis=1).min()) - 1)})
    shares = {top: top_share(ours, theirs, top, tie) for top in tops}
    told = counted(apart, "pair", "pairs")
    checks = [
        _check(f"{name}: Kendall's tau", tau, apart, tolerance.min_tau, f"of {told} farther apart than {tie:g}", tie),
        *(
            _check(
                f"{name}: top-{top}", share, judged, tolerance.min_top, f"share of {counted(judged, 'query', 'queries')}", tie
            )
            for top, (share, judged) in shares.items()
        ),
    ]
    first = np.where(np.isfinite(theirs), ours, np.inf).argmin(axis=1)
    same = int((np.take_along_axis(theirs, first[:, None], axis=1)[:, 0] <= theirs.min(axis=1)).sum())
    whole_tau = plain_tau if math.isfinite(plain_tau) else None
    return Ranking(name, len(theirs), same, shares[1][1], whole_tau, pairs, apart, tie), checks


def cosines(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of each embedding ``[N, D]`` with its reference ``[N]``, whatever their lengths."""
    found: NDArray[np.float64] = (ours * theirs).sum(axis=1) / (np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1))
    return found


def kendall_tau(ours: Distances, theirs: Distances, tie: float) -> tuple[float, int]:
    """Mean over all pairs that the reference tells apart by more than `tie`, and how many these are.

    The mean is 1 for the same order, −1 for the other one, NaN without a pair.
    """
    total, count = 0.0, 0
    for mine, right in zip(ours, theirs, strict=True):  # [G, G] a query
        counts = np.isfinite(right)
        gaps = [values[counts][None, :] - values[counts][:, None] for values in (right, mine)]
        apart = gaps[0] > tie
        total += float(np.sign(gaps[1])[apart].sum())
        count += int(apart.sum())
    return total / count if count else math.nan, count


def top_share(ours: Distances, theirs: Distances, top: int, tie: float) -> tuple[float, int]:
    """Share of queries of which all the first `top` matches are among the reference's, or as near within `tie`.

    Returns:
        The share, NaN of no query; and of how many queries it is: those with an entry that would be wrong there.
    """
    limit = np.partition(theirs, top - 1, axis=1)[:, top - 1] + tie
    counts = (np.isfinite(theirs) & (theirs > limit[:, None])).any(axis=1)
    kept = np.argpartition(np.where(np.isfinite(theirs), ours, np.inf), top - 1, axis=1)[:, :top]
    right = np.take_along_axis(theirs, kept, axis=1).max(axis=1) <= limit
    return float(right[counts].mean()) if counts.any() else math.nan, int(counts.sum())


def _check(name: str, value: float, counted: int, bound: float, detail: str, tie: float) -> Check:
    return Check.at_least(name, value, bound, detail) if counted else Check.untried(name, bound, ">=", f"all within {tie:g}")
