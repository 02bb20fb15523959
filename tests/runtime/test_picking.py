"""Evenly picked items."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from stcanet_runtime.picking import pick_evenly


@pytest.mark.parametrize(
    ("count", "limit", "picked"),
    [(0, 3, []), (1, 3, [0]), (3, 3, [0, 1, 2]), (5, 1, [0]), (5, 2, [0, 4]), (5, 3, [0, 2, 4]), (6, 5, [0, 1, 2, 4, 5])],
)
def test_places(count: int, limit: int, picked: list[int]) -> None:
    assert pick_evenly(range(count), limit) == picked


def test_ends_and_gaps() -> None:
    for count, limit in product(range(2, 80), range(2, 80)):
        places = pick_evenly(range(count), limit)
        gaps = np.diff(places)
        assert (len(places), places[0], places[-1]) == (min(count, limit), 0, count - 1)
        assert gaps.min() > 0
        assert gaps.max() - gaps.min() <= 2  # half to even may round both ends of a gap away from it
