"""What the parity gate found."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from stcanet_export.parity.tolerance import Tolerance
from stcanet_runtime.errors import ParityError
from stcanet_runtime.wording import counted

_MAX_IN_MESSAGE = 3


@dataclass(frozen=True)
class Check:
    """One thing that was compared."""

    name: str
    passed: bool
    value: float | None
    """What was measured; None where it is not a number (NaN, or the model did not run), or there was nothing to compare."""
    bound: float
    rule: str
    """">=" or "<=": how the value must stand to the bound."""
    detail: str = ""
    """Where the worst value was, or why there is none."""

    @classmethod
    def at_least(cls, name: str, value: float, bound: float, detail: str = "") -> Check:
        """Passes if `value` ≥ `bound`; NaN never passes."""
        return cls(name, bool(value >= bound), _number(value), bound, ">=", detail)

    @classmethod
    def at_most(cls, name: str, value: float, bound: float, detail: str = "") -> Check:
        """Passes if `value` ≤ `bound`; NaN never passes."""
        return cls(name, bool(value <= bound), _number(value), bound, "<=", detail)

    @classmethod
    def untried(cls, name: str, bound: float, rule: str, why: str) -> Check:
        """Passes, without a value: there was nothing to compare."""
        return cls(name, True, None, bound, rule, f"nothing to compare: {why}")

    @property
    def tried(self) -> bool:
        """Whether anything was compared."""
        return not self.passed or self.value is not None

    @property
    def verdict(self) -> str:
        """In a word: "ok", "FAIL", or "n/a" where there was nothing to compare."""
        return ("ok" if self.tried else "n/a") if self.passed else "FAIL"

    def row(self, width: int) -> str:
        """A line of a table, the name filled up to `width`."""
        value = f"{_text(self.value):>12} {self.rule} {self.bound:<8g}"
        return f"{self.verdict:4}  {self.name:{width}}  {value}  {self.detail}".rstrip()

    def __str__(self) -> str:
        value = "nothing" if self.value is None else f"{self.value:.8g}"
        where = f" ({self.detail})" if self.detail else ""
        return f"{self.name} is {value}, must be {self.rule} {self.bound:g}{where}"


@dataclass(frozen=True)
class Ranking:
    """How far two sides rank a gallery alike as it stands, with no allowance; and how much of it the checks could judge."""

    name: str
    """What its checks are called by."""
    queries: int
    same_first: int
    """Queries with the same first match."""
    queries_judged: int
    """Queries of which a first match would be held wrong at all: not all of their gallery is within `tie` of it."""
    tau: float | None
    """Kendall's tau over `pairs`; None where that is no number."""
    pairs: int
    """Pairs of gallery entries as seen from each query, those that the reference has at the same distance apart."""
    pairs_judged: int
    """Those of them that are farther apart than `tie`."""
    tie: float

    def __str__(self) -> str:
        tau = "" if self.tau is None else f", Kendall's tau {self.tau:.4f}"
        judged = (
            f"{self.pairs_judged or 'none'} of {counted(self.pairs, 'pair', 'pairs')}, those more than {self.tie:.3g} apart"
        )
        return (
            f"{self.name}, as it is: same first match {self.same_first} of {self.queries}{tau}; "
            f"the checks judge {judged}, and {counted(self.queries_judged, 'first match', 'first matches')}"
        )


@dataclass(frozen=True)
class LayerError:
    """How far a layer of the candidate is from the reference, as ``‖a − b‖ / ‖b‖``; None where it cannot be said."""

    name: str
    output: float
    input: float | None
    """Of what the layer got: where it is as large as `output`, the error came from before."""


@dataclass(frozen=True)
class ParityReport:
    """Everything the gate compared, and with what."""

    reference: dict[str, Any]
    """Against what: framework or package, provider."""
    candidate: dict[str, Any]
    """The package under test."""
    crops: list[str]
    """Names of the crops."""
    tolerance: Tolerance
    checks: list[Check]
    layers: list[LayerError] = field(default_factory=list)
    """Relative error by layer, in the order of the reference."""
    rankings: list[Ranking] = field(default_factory=list)
    """The agreement of rankings as it is, beside the checks, which allow for the tolerance."""
    parts_at: str | None = None
    """The layer at which the two sides part, where they do."""
    notes: list[str] = field(default_factory=list)
    """What the figures do not say by themselves."""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every check passed, and there was one."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def failures(self) -> list[Check]:
        """The checks that did not pass."""
        return [check for check in self.checks if not check.passed]

    @property
    def verdict(self) -> str:
        """Whether it passed, and how many checks say nothing."""
        verdict = "passed" if self.passed else f"FAILED ({len(self.failures)} of {len(self.checks)} checks)"
        untried = f"; {len(self.untried)} of {len(self.checks)} checks had nothing to compare" if self.untried else ""
        return verdict + untried

    @property
    def untried(self) -> list[Check]:
        """The checks that passed because there was nothing to compare."""
        return [check for check in self.checks if not check.tried]

    @property
    def min_cosine(self) -> float:
        """Smallest cosine of any embedding with its reference; NaN where none could be taken."""
        cosines = [check.value for check in self.checks if check.name.endswith("min cosine")]
        return min((math.nan if value is None else value for value in cosines), default=math.nan)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the verdict first."""
        return {"passed": self.passed, **asdict(self)}

    def to_json(self) -> str:
        """Indented JSON."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False)

    def summary(self) -> str:
        """A table for people, one line a check, then the notes and the verdict."""
        width = max((len(check.name) for check in self.checks), default=0)
        lines = [check.row(width) for check in self.checks]
        if self.parts_at and not self.passed:
            lines.append(f"they part at: {self.parts_at}")
        lines += [str(ranking) for ranking in self.rankings]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join([*lines, f"parity on {counted(len(self.crops), 'crop', 'crops')}: {self.verdict}"])

    def raise_if_failed(self) -> None:
        """Do nothing if it passed.

        Raises:
            ParityError: It failed; the message names the first checks that did.
        """
        if self.passed:
            return
        shown = "; ".join(str(check) for check in self.failures[:_MAX_IN_MESSAGE])
        where = f"; they part at {self.parts_at}" if self.parts_at else ""
        more = len(self.failures) - _MAX_IN_MESSAGE
        raise ParityError(
            f"parity failed: {shown or 'nothing was compared'}" + (f"; and {more} more" if more > 0 else "") + where
        )


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _text(value: float | None) -> str:
    if value is None:
        return "nothing"
    return f"{value:.9f}" if 0.5 < abs(value) < 2 else f"{value:.3g}"
