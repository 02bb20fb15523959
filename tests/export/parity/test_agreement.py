"""Rankings compared: swaps are seen, ties are not held against anybody, and a comparison of nothing is none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stcanet_export.parity.agreement import agreement, kendall_tau, top_share
from stcanet_export.parity.page import html_report
from stcanet_export.parity.report import ParityReport
from stcanet_export.parity.tolerance import TOLERANCES, Tolerance

ROW = np.array([[0.1, 0.2, 0.3, 0.4, 0.5]])


def test_the_same_order() -> None:
    assert kendall_tau(ROW * 2, ROW, 1e-3) == (1, 10)
    assert top_share(ROW * 2, ROW, 2, 1e-3) == (1, 1)


def test_the_other_order() -> None:
    assert kendall_tau(-ROW, ROW, 1e-3) == (-1, 10)
    assert top_share(1 - ROW, ROW, 2, 1e-3) == (0, 1)


def test_one_swap_of_ten_pairs() -> None:
    swapped = ROW[:, [1, 0, 2, 3, 4]]
    assert kendall_tau(swapped, ROW, 1e-3)[0] == pytest.approx(0.8)
    assert top_share(swapped, ROW, 1, 1e-3) == (0, 1)
    assert top_share(swapped, ROW, 2, 1e-3) == (1, 1)


def test_ties_do_not_count() -> None:
    tied = np.array([[0.1, 0.1001, 0.3, 0.4, 0.5]])
    swapped = tied[:, [1, 0, 2, 3, 4]]
    assert kendall_tau(swapped, tied, 1e-3) == (1, 9)
    assert top_share(swapped, tied, 1, 1e-3) == (1, 1)
    assert kendall_tau(swapped, tied, 1e-5)[0] < 1


def test_queries_with_nothing_to_be_wrong_are_in_no_share() -> None:
    theirs = np.concatenate([ROW, ROW / 1000])
    ours = np.concatenate([1 - ROW, ROW])
    assert top_share(ours, theirs, 1, 1e-3) == (0, 1)  # 0.5 with the second query, all of whose gallery is tied


def test_what_is_infinite_is_in_no_ranking() -> None:
    theirs, ours = ROW.copy(), ROW.copy()
    theirs[0, 4] = np.inf
    ours[0, 4] = 0.0
    assert kendall_tau(ours, theirs, 1e-3) == (1, 6)
    assert top_share(ours, theirs, 1, 1e-3) == (1, 1)
    ranking, checks = agreement("mine", ours, theirs, Tolerance())
    assert [check.name for check in checks] == ["mine: Kendall's tau", "mine: top-1", "mine: top-3"]
    assert all(check.verdict == "ok" for check in checks)
    assert (ranking.same_first, ranking.tau, ranking.pairs, ranking.pairs_judged) == (1, 1, 6, 6)


def test_a_gallery_within_the_tie_of_int8_is_no_agreement_of_1() -> None:
    """The embeddings of a young network: all of a gallery is nearer together than int8 may move it."""
    theirs = np.tile(ROW / 5, (4, 1))
    ours = theirs.copy()
    ours[0] = ours[0, ::-1]
    ranking, checks = agreement("near", ours, theirs, TOLERANCES["int8"])
    assert [(check.passed, check.value, check.verdict) for check in checks] == [(True, None, "n/a")] * 3
    assert (ranking.queries, ranking.same_first, ranking.queries_judged) == (4, 3, 0)
    assert (ranking.pairs, ranking.pairs_judged) == (40, 0)
    assert ranking.tau == pytest.approx(0.5)
    report = ParityReport({}, {}, ["a"], TOLERANCES["int8"], checks, rankings=[ranking])
    assert report.to_dict()["rankings"][0]["same_first"] == 3
    for text in (report.summary(), html_report(report)):
        assert "same first match 3 of 4" in text
        assert "the checks judge none of 40 pairs" in text
        assert "3 of 3 checks had nothing to compare" in text
        assert "1.0000000" not in text


def test_distances_that_are_no_numbers_fail() -> None:
    broken = np.full_like(ROW, np.nan)
    with np.errstate(invalid="ignore"):
        ranking, checks = agreement("broken", broken, ROW, Tolerance())
    assert not checks[0].passed
    assert ranking.tau is None
    assert math.isnan(kendall_tau(ROW, ROW, 1.0)[0])
