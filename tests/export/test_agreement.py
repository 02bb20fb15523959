"""Rankings compared: swaps are seen, ties are not held against anybody."""

from __future__ import annotations

import numpy as np
import pytest

from stcanet_export.agreement import agreement, kendall_tau, top_share
from stcanet_export.report import Tolerance

ROW = np.array([[0.1, 0.2, 0.3, 0.4, 0.5]])


def test_the_same_order() -> None:
    assert kendall_tau(ROW * 2, ROW, 1e-3) == 1
    assert top_share(ROW * 2, ROW, 2, 1e-3) == 1


def test_the_other_order() -> None:
    assert kendall_tau(-ROW, ROW, 1e-3) == -1
    assert top_share(1 - ROW, ROW, 2, 1e-3) == 0


def test_one_swap_of_ten_pairs() -> None:
    swapped = ROW[:, [1, 0, 2, 3, 4]]
    assert kendall_tau(swapped, ROW, 1e-3) == pytest.approx(0.8)
    assert top_share(swapped, ROW, 1, 1e-3) == 0
    assert top_share(swapped, ROW, 2, 1e-3) == 1


def test_ties_do_not_count() -> None:
    tied = np.array([[0.1, 0.1001, 0.3, 0.4, 0.5]])
    swapped = tied[:, [1, 0, 2, 3, 4]]
    assert kendall_tau(swapped, tied, 1e-3) == 1
    assert top_share(swapped, tied, 1, 1e-3) == 1
    assert kendall_tau(swapped, tied, 1e-5) < 1


def test_what_is_infinite_is_in_no_ranking() -> None:
    theirs, ours = ROW.copy(), ROW.copy()
    theirs[0, 4] = np.inf
    ours[0, 4] = 0.0
    assert kendall_tau(ours, theirs, 1e-3) == 1
    assert top_share(ours, theirs, 1, 1e-3) == 1
    checks = list(agreement("mine", ours, theirs, Tolerance()))
    assert [check.name for check in checks] == ["mine: Kendall's tau", "mine: top-1", "mine: top-3"]
    assert all(check.passed for check in checks)
