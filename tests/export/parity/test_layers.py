"""Which layer is named, told from the errors alone."""

from __future__ import annotations

import numpy as np
import pytest

from stcanet_export.parity.layers import Layer, compare_layers, first_to_part, relative_error
from stcanet_export.parity.report import LayerError


@pytest.mark.parametrize(
    ("outputs", "inputs", "named"),
    [
        ([1e-6, 1e-5, 1e-4], [1e-7, 1e-6, 1e-5], None),  # rounding
        ([1e-6, 9e-5, 8e-4, 9e-3], [0.0, 1e-6, 9e-5, 8e-4], "blocks.2.part"),  # it grows: the first above the bound
        ([1e-6, 9e-5, 8e-4, 9e-1], [0.0, 1e-6, 9e-5, 8e-4], "head.neck"),  # it jumps, later
        ([1e-6, 9e-5, 9e-1, 9e-1], [0.0, 1e-6, 9e-1, 9e-1], "blocks.2 (between blocks.2.channel and blocks.2.part)"),
        ([9e-1, 9e-1], [9e-1, 9e-1], "the network (between its input and stem)"),
        ([9e-1, 9e1], [0.0, 9e-1], "stem"),
        ([1e-6, 9e-1], [None, None], "blocks.2.channel"),
    ],
)
def test_the_first_to_part(outputs: list[float], inputs: list[float | None], named: str | None) -> None:
    names = ("stem", "blocks.2.channel", "blocks.2.part", "head.neck")
    errors = [LayerError(*facts) for facts in zip(names, outputs, inputs, strict=False)]
    assert first_to_part(errors, 1e-4) == named


def test_a_layer_that_two_became_took_what_the_first_took() -> None:
    x, y, z, out = (np.full(4, value, np.float32) for value in (1.0, 2.0, 3.0, 4.0))
    reference = [Layer("conv", (x,), y), Layer("norm", (y,), z), Layer("relu", (z,), out)]
    candidate = [Layer("relu", (1.25 * x,), 1.5 * out), Layer("norm", (1.25 * x,), z)]
    assert compare_layers(reference, candidate) == [LayerError("norm", 0.0, 0.25), LayerError("relu", 0.5, 1.75 / 3)]
    assert compare_layers(reference[:1], [Layer("conv", (x,), y[:2])]) == []  # another shape is another layer
    assert compare_layers(reference[:1], [Layer("conv", (x[:2],), y)]) == [LayerError("conv", 0.0, None)]


def test_what_is_no_number_is_a_large_error() -> None:
    one = np.full(2, 0.25, np.float32)
    assert relative_error(1.5 * one, one) == 0.5
    assert relative_error(one, one[:1]) == relative_error(np.nan * one, one) == 1e9
    assert relative_error(0 * one, 0 * one) == 0.0
