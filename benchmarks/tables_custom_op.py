"""The table of `bench_custom_op`'s result file, for `tables`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any


def custom_op(report: dict[str, Any]) -> Iterator[str]:
    """What a fused operator for the core of the channel attention could save in ONNX Runtime."""
    yield "What a fused `softmax(G Gᵀ) G`, as a custom operator under the CPU provider, could save of a whole model's time:"
    yield ""
    titles = ("ms", "without the core", "in CPU time", "core, by profile", "fused, at most", "without second product")
    yield f"| model | batch | threads | {' | '.join(titles)} |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in report["rows"]:
        whole, without = row["milliseconds"]["as it is"], row["milliseconds"]["without core"]
        left_out = " | ".join(f"{1 - without[clock] / whole[clock]:.1%}" for clock in ("wall", "cpu"))
        # Not sum(), which is more exact from Python 3.12 on: the table would depend on the version.
        core, shares = math.fsum(row["shares"].values()), row["shares"]
        fused = core - shares["MatMul"] / 2 - shares["MatMul_1"]
        figures = " | ".join(f"{value:.1%}" for value in (core, fused, fused + shares["MatMul_1"]))
        yield f"| `{row['preset']}` | {row['batch']} | {row['threads']} | {whole['wall']:.1f} | {left_out} | {figures} |"
    yield ""
    yield f"Models with and without the core in turns, medians of {report['repeats']}; `stcanet-video` takes clips of 4 frames."
    yield "Fused, at most: all of the core but its products, the symmetric `G Gᵀ` counted half, at the provider's speed."
    yield "Without second product: were also all weights of a row but one negligible, and known to be at no cost."
    yield ""
