"""The rule by which units are kept: on losses that are made up."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stcanet_export.variants.search import MARGIN, WORST, choose_kept
from stcanet_runtime.errors import PackageError

BAR = 0.9
BUDGET = MARGIN * (1 - BAR)


class Network:
    """Losses by unit and crop that add up, plus what is lost when several units meet."""

    def __init__(self, losses: dict[str, list[float]], together: float = 0.0) -> None:
        self.losses, self.together, self.asked = losses, together, []

    def __call__(self, lowered, index):
        self.asked.append((tuple(lowered), len(index)))
        total = np.sum([np.asarray(self.losses[unit])[index] for unit in lowered], axis=0)
        return total + (self.together if len(lowered) > 1 else 0.0)


def choose(network: Network):
    crops = len(next(iter(network.losses.values())))
    return choose_kept(list(network.losses), network, crops, BAR)


def test_one_run_where_all_can_be_lowered() -> None:
    network = Network({"a": [0.01, 0.0], "b": [0.02, 0.01]})
    choice = choose(network)
    assert choice.kept == ()
    assert choice.lowered == ("a", "b")
    assert choice.runs == len(network.asked) == 1
    assert choice.loss == pytest.approx(0.03)


def test_the_unit_that_loses_most_on_the_worst_crop_is_kept() -> None:
    crops = 10
    quiet, harmless, loud = np.zeros(crops), np.full(crops, 0.5 * BUDGET), np.zeros(crops)
    loud[7] = 2 * BUDGET
    choice = choose(network := Network({"quiet": list(quiet), "harmless": list(harmless), "loud": list(loud)}))
    assert choice.kept == ("loud",)
    assert choice.lowered == ("quiet", "harmless")
    assert choice.loss == pytest.approx(0.5 * BUDGET)
    assert [count for units, count in network.asked if len(units) == 1] == [WORST] * 3
    assert choice.runs == len(network.asked) == 5


def test_no_more_is_kept_than_the_sum_demands() -> None:
    choice = choose(Network({"a": [0.6 * BUDGET], "b": [0.5 * BUDGET], "c": [0.3 * BUDGET]}))
    assert choice.kept == ("a",)


def test_what_only_shows_together_keeps_one_more() -> None:
    choice = choose(Network({"a": [0.5 * BUDGET], "b": [0.4 * BUDGET], "c": [0.0]}, together=0.7 * BUDGET))
    assert choice.kept == ("a", "b")  # c alone meets nobody
    assert choice.loss <= BUDGET


def test_an_overflow_is_kept() -> None:
    choice = choose(Network({"a": [0.0, 0.0], "b": [0.0, np.inf]}))
    assert choice.kept == ("b",)
    json.dumps(choice.to_dict(), allow_nan=False)


def test_nothing_can_be_lowered() -> None:
    with pytest.raises(PackageError, match=r"cosine of 0\.9; export it as fp32"):
        choose(Network({"a": [1.0], "b": [1.0]}))
