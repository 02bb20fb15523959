"""What the parity gate allows, by precision."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path

from stcanet_runtime.errors import OptionError
from stcanet_runtime.inference.golden import MIN_COSINE
from stcanet_runtime.inference.providers import precision_under
from stcanet_runtime.package.contents import load_manifest


@dataclass(frozen=True)
class Tolerance:
    """How far two float32 runs of one network may be apart.

    The channel attention takes a softmax of raw inner products, which reach 5,000 to 30,000 here: rounding of 1e-7 of
    such a logit changes a weight by up to 1e-3, so the bounds cannot be those of a plain ResNet. Measured with
    randomised weights, all gains live, normalisation statistics settled on synthetic people (PyTorch, ONNX Runtime and
    OpenVINO against each other and against float64): 1 − cosine from 2e-9 to 4e-7; max |Δ| from 1e-5 to 1.5e-4 with
    average pooling, 3e-4 with maximum pooling, where the error of one position is not averaged away; and PyTorch with
    itself at another batch size up to 5e-5. The bounds leave a factor of 5 and more above that, and a fault
    is far outside: normalising twice, the mildest one known from the field, still gives a cosine of 0.998.
    """

    min_cosine: float = 0.99999
    """Of each embedding with its reference."""
    max_abs: float = 2e-3
    """Largest difference of any component; they are 0.02 to 0.04 on average. A fault in one component alone would have to
    reach 4.5e-3 before `min_cosine` saw it."""
    max_relative: float = 0.02
    """Largest error of an embedding, as a share of how much the reference's embeddings differ from crop to crop. It is
    what sees a fault in a network whose embeddings are all nearly alike, where every cosine is near 1."""
    min_spread: float = 1e-4
    """Least such difference (root mean square distance from the mean embedding). Below, there is nothing to compare."""
    max_norm: float = 5e-3
    """Of the feature lengths of clips, relative."""
    max_length: float = 1e-5
    """How far the length of an embedding may be from 1."""
    max_layer: float = 2e-3
    """Relative error of the output of any layer. Observed are 4e-5 in the networks of the tests; 9e-4 is what the worst cosine
    above amounts to. One normalisation with an epsilon of 1e-3 instead of 1e-5 gives 3e-3, and a cosine that passes."""
    min_tau: float = 0.9999
    """Kendall's tau of the rankings, ties apart."""
    min_top: float = 1.0
    """Share of queries whose first match, and whose first ten, are right, ties apart."""
    tie: float = 1e-3
    """Two crops whose distances to a third differ by less than this, according to the reference, may rank either way.
    Embeddings within `min_cosine` can move a distance by 9e-3 at worst; observed are 1e-4."""

    def __post_init__(self) -> None:
        if not 0 < self.min_cosine <= 1:
            raise OptionError("min_cosine", self.min_cosine, "above 0 and at most 1")
        for item in fields(self):
            value = getattr(self, item.name)
            if not (math.isfinite(value) and value > 0):
                raise OptionError(item.name, value, "a positive number")


def from_bar(bar: float, min_tau: float, min_top: float) -> Tolerance:
    """Bounds for a lower precision, from the least cosine that it may have.

    Unit vectors of that cosine are δ = √(2 − 2 cos) apart: 0.032 at 0.9995, 0.14 at 0.99. Measured with a trained stcanet-tiny
    and with stcanet-image of random weights (fp16, int8), in δ of what the cosine turned out to be: the largest component 0.26,
    the error against the spread 1.15 (embeddings spread by 0.87 to 0.93), the worst layer 2.4.

    Args:
        bar: Least cosine.
        min_tau: Kendall's tau, ties apart.
        min_top: Of the gate's 15 crops one more or less is 0.07.
    """
    off = math.sqrt(2 - 2 * bar)
    return Tolerance(
        bar,
        max_abs=0.7 * off,  # less than the whole error in one component, or half of its square in each of two: no rounding
        max_relative=5 * off,  # a spread of 0.2 is not much; embeddings nearer together than that are told apart by less
        tie=1.5 * off,  # a distance moves by 2 δ at worst; whole galleries may be nearer together, see agreement.py
        max_norm=1.5 * off,  # rounding has no direction: as much along a feature as across, and the crops differ
        max_layer=6 * off,  # the pooling at the end averages what layers have lost
        min_tau=min_tau,
        min_top=min_top,
    )


_RANKS = {"fp16": (0.99, 0.9), "bf16": (0.97, 0.8), "int8": (0.95, 0.8)}
TOLERANCES = {name: from_bar(bar, *_RANKS[name]) if name in _RANKS else Tolerance() for name, bar in MIN_COSINE.items()}
"""What the parity gate lets pass, by precision; bf16 is that of a provider, for ``stcanet parity``."""


def tolerance_between(*runs: tuple[str | Path, str]) -> Tolerance:
    """The bounds of the lowest precision among packages under providers: two are not nearer to each other than that one is.

    Args:
        runs: Package and provider of each.
    """
    found = (TOLERANCES[precision_under(provider, load_manifest(package).precision)] for package, provider in runs)
    return min(found, key=lambda bounds: bounds.min_cosine)
