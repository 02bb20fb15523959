"""What the GPU benchmarks decide by themselves; what they measure needs a GPU."""

from __future__ import annotations

import math

import bench_attention
import pytest


def row(implementation: str, error: float, gradient: float = 0.0, dtype: str = "bf16") -> dict[str, object]:
    figures = {"error": error, "gradient_error": gradient}
    return {"shape": "image", "dtype": dtype, "implementation": implementation, **figures}


def relation(implementation: str, error: float) -> dict[str, object]:
    return {"shape": "image", "implementation": implementation, "error": error}


@pytest.mark.parametrize(
    ("rows", "relations", "problems"),
    [
        ([row("plain", 5e-3, 5e-3), row("fused", 9e-3, 9e-3)], [relation("fused", 9e-3), relation("eager", 1.0)], 0),
        ([row("plain", 2e-3, 1.0), row("fused", 5e-3)], [], 1),  # more than twice that of the plain one
        ([row("fused", 2e-2)], [], 1),
        ([row("fused", math.nan, math.nan)], [relation("fused", math.nan)], 3),
        ([row("fused", 2e-5, 2e-5, "fp32"), row("eager", 1.0, 1.0, "fp32")], [], 2),
        ([row("fused", 9e-4, 9e-4, "tf32")], [], 0),
    ],
)
def test_errors_that_are_too_large_are_named(
    rows: list[dict[str, object]], relations: list[dict[str, object]], problems: int
) -> None:
    assert len(bench_attention.too_large(rows, relations)) == problems
