"""Which parts of a network a lower precision must leave alone: a stated rule that needs few runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.arrays import Float64Array
from stcanet_runtime.errors import PackageError

Measure = Callable[[Collection[str], NDArray[np.intp]], Float64Array]
"""Loss (1 − cosine to the network in float32; infinity where that is no number) of the crops with these indices, ``[n]``, when
the named units and no others are lowered."""

MARGIN = 0.7
"""Share of the bar that the search uses up; the rest is for crops, batch sizes and processors that it does not see."""
WORST = 4
"""Crops that single units are measured on: those that lose most when everything is lowered."""
RULE = (
    f"All units are lowered at once. Where a crop then loses more than {MARGIN:g} of the bar, each unit is lowered alone and "
    f"its loss measured on the {WORST} worst crops. Losses add up: the unit with the largest loss on the crop of the largest "
    f"sum is kept, until the sums fit, and one more each time that the network as a whole does not."
)
"""How :func:`choose_kept` decides, for manifests and reports."""


@dataclass(frozen=True)
class Choice:
    """What the search found."""

    lowered: tuple[str, ...]
    kept: tuple[str, ...]
    """Units that stay in float32, the most sensitive first."""
    losses: dict[str, float]
    """Largest 1 − cosine of a crop when the unit alone is lowered; empty where no search was needed."""
    loss: float
    """Largest 1 − cosine of a crop in the end."""
    runs: int
    """How often a variant of the network was run."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with the rule."""
        return {"rule": RULE, **asdict(self), "losses": {name: float(f"{loss:.3g}") for name, loss in self.losses.items()}}


def choose_kept(units: Sequence[str], measure: Measure, crops: int, bar: float) -> Choice:
    """Find units to keep so that no crop loses more than :data:`MARGIN` of what the bar allows; see :data:`RULE`.

    Args:
        units: Names of what can be lowered by itself.
        measure: Runs a variant.
        crops: How many crops there are.
        bar: Least cosine of an embedding.

    Raises:
        PackageError: Not even one unit can be lowered.
    """
    budget, everything = MARGIN * (1 - bar), np.arange(crops)
    losses = measure(units, everything)
    if losses.max() <= budget:
        return Choice(tuple(units), (), {}, float(losses.max()), 1)
    worst = np.argsort(-losses, kind="stable")[:WORST]
    alone = {unit: measure([unit], worst) for unit in units}
    kept: list[str] = []
    lowered, runs = list(units), 1 + len(units)
    while lowered:
        sums = np.sum([alone[unit] for unit in lowered], axis=0)
        if sums.max() <= budget:
            losses, runs = measure(lowered, everything), runs + 1
            if losses.max() <= budget:
                largest = {unit: float(values.max()) for unit, values in alone.items()}
                return Choice(tuple(lowered), tuple(kept), _finite(largest), float(losses.max()), runs)
        crop = int(np.argmax(sums))
        kept.append(max(lowered, key=lambda unit: alone[unit][crop]))
        lowered.remove(kept[-1])
    raise PackageError(f"no part of this network can be lowered and stay at a cosine of {bar}; export it as fp32")


def _finite(losses: dict[str, float]) -> dict[str, float]:
    """JSON has no infinity: 2 is the loss of an embedding that points the other way."""
    return {unit: min(loss, 2.0) for unit, loss in losses.items()}
