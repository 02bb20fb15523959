"""The sentences of `soak`'s result file, for `tables`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_MIB = 2**20


def soak(report: dict[str, Any]) -> Iterator[str]:
    """Streams at full load: what went through, and what became of the memory."""
    result = report["result"]
    memory = result["memory_bytes"]
    yield (
        f"{result['seconds'] / 60:.0f} minutes at full load: {result['frames']:,} frames of random sizes, formats and boxes, "
        "5 % of them malformed, through a stream that blocks and one that drops:"
    )
    yield ""
    yield "| stream | done | dropped | failed, malformed all |"
    yield "|---|---|---|---|"
    for policy, seen in result["results"].items():
        yield f"| {policy} | " + " | ".join(f"{seen.get(name, 0):,}" for name in ("done", "dropped", "failed")) + " |"
    yield ""
    yield (
        f"{result['enrolled']:,} embeddings enrolled, {result['expired']:,} expired again, {result['searches']:,} searches: "
        "each found what was enrolled last. Memory, medians of the first and the last quarter after the warm-up: "
        f"{memory['first_quarter'] / _MIB:.1f} and {memory['last_quarter'] / _MIB:.1f} MiB ({result['memory_change']:+.2%}; "
        f"at most {memory['largest'] / _MIB:.1f}). What was wrong: {', '.join(result['wrong']) or 'nothing'}."
    )
    yield ""
