"""Do two models rank a gallery alike? Distances that the reference cannot tell apart may rank either way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stcanet_export.report import Check, Tolerance

Distances = NDArray[np.float64]
TOP = 10


def agreement(name: str, ours: Distances, theirs: Distances, tolerance: Tolerance) -> Iterator[Check]:
    """Kendall's tau, the first match and the first ten.

    Args:
        name: What the checks are called by.
        ours: Distances of the candidate ``[Q, G]``.
        theirs: Those of the reference ``[Q, G]``; infinite where a gallery entry does not count for a query.
        tolerance: `min_tau`, `min_top` and `tie`.
    """
    tie = tolerance.tie
    yield Check.at_least(f"{name}: Kendall's tau", kendall_tau(ours, theirs, tie), tolerance.min_tau, f"ties within {tie:g}")
    for top in (1, min(TOP, int(np.isfinite(theirs).sum(axis=1).min()) - 1)):
        share = top_share(ours, theirs, top, tie)
        yield Check.at_least(f"{name}: top-{top}", share, tolerance.min_top, "share of the queries")


def kendall_tau(ours: Distances, theirs: Distances, tie: float) -> float:
    """Mean over all pairs that the reference tells apart by more than `tie`: 1 for the same order, −1 for the other one."""
    total = count = 0.0
    for mine, right in zip(ours, theirs, strict=True):  # [G, G] a query
        counts = np.isfinite(right)
        gaps = [values[counts][None, :] - values[counts][:, None] for values in (right, mine)]
        apart = gaps[0] > tie
        total += float(np.sign(gaps[1])[apart].sum())
        count += float(apart.sum())
    return total / count if count else 1.0


def top_share(ours: Distances, theirs: Distances, top: int, tie: float) -> float:
    """Share of queries of which all the first `top` matches are among the reference's, or as near within `tie`."""
    kept = np.argpartition(np.where(np.isfinite(theirs), ours, np.inf), top - 1, axis=1)[:, :top]
    farthest = np.take_along_axis(theirs, kept, axis=1).max(axis=1)
    return float((farthest <= np.partition(theirs, top - 1, axis=1)[:, top - 1] + tie).mean())
