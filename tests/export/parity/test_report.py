"""Checks, reports, tolerances."""

from __future__ import annotations

import json
import math

import pytest

from stcanet_export.parity.report import Check, ParityReport
from stcanet_export.parity.tolerance import Tolerance
from stcanet_runtime.errors import OptionError, ParityError


def _report(*checks: Check) -> ParityReport:
    return ParityReport({}, {}, ["a"], Tolerance(), list(checks), notes=["a note"])


@pytest.mark.parametrize(("value", "passed"), [(0.5, True), (0.4, False), (math.nan, False), (math.inf, True)])
def test_at_least(value: float, passed: bool) -> None:
    assert Check.at_least("x", value, 0.5).passed is passed


@pytest.mark.parametrize(("value", "passed"), [(0.5, True), (0.6, False), (math.nan, False), (math.inf, False)])
def test_at_most(value: float, passed: bool) -> None:
    assert Check.at_most("x", value, 0.5).passed is passed


def test_nan_becomes_json() -> None:
    report = _report(Check.at_least("x: min cosine", math.nan, 0.5, "crop"))
    assert json.loads(report.to_json())["checks"][0]["value"] is None
    assert math.isnan(report.min_cosine)
    assert "FAIL" in report.summary()


def test_a_report_without_checks_is_no_pass() -> None:
    assert not _report().passed
    with pytest.raises(ParityError, match="nothing was compared"):
        _report().raise_if_failed()


def test_the_message_is_one_line_and_names_the_first_failures() -> None:
    checks = [Check.at_most(f"check {index}", 2, 1, "here") for index in range(5)]
    with pytest.raises(ParityError) as error:
        _report(*checks).raise_if_failed()
    assert str(error.value).startswith("parity failed: check 0 is 2, must be <= 1 (here); check 1")
    assert str(error.value).endswith("and 2 more")
    assert "\n" not in str(error.value)


def test_passing_says_so() -> None:
    report = _report(Check.at_most("x", 1, 1))
    report.raise_if_failed()
    assert report.summary().splitlines()[-2:] == ["note: a note", "parity on 1 crop: passed"]


@pytest.mark.parametrize("options", [{"min_cosine": 1.1}, {"min_cosine": 0}, {"max_abs": -1}, {"tie": math.nan}])
def test_tolerances_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        Tolerance(**options)
