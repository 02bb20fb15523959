"""The table of benchmarks/attention_ablation.py."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any


def ablation(report: dict[str, Any]) -> Iterator[str]:
    """Networks with and without attention: mean and spread over seeds, and the difference."""
    settings, arms = report["settings"], report["arms"]
    seeds = len(arms["attention"])
    yield (
        f"`{settings['preset']}` on {report['data']}, {settings['epochs']} epochs, {settings['half_size_epochs']} of them at "
        f"half size, {seeds} seeds: mean ± standard deviation, in percent."
    )
    yield ""
    yield "| | mAP | rank-1 | mINP | mAP of each seed |"
    yield "|---|---|---|---|---|"
    for name, rows in arms.items():
        cells = " | ".join(spread([100 * row[key] for row in rows]) for key in ("mAP", "rank1", "mINP"))
        each = ", ".join(f"{100 * row['mAP']:.2f}" for row in rows)
        yield f"| {name} | {cells} | {each} |"
    gains = [100 * (a["mAP"] - b["mAP"]) for a, b in zip(arms["attention"], arms["plain"], strict=True)]
    yield ""
    yield f"Attention minus plain, mAP: {spread(gains)} points."
    yield ""


def spread(values: list[float]) -> str:
    """Mean ± standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} ± {deviation:.2f}"
