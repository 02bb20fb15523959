"""Tables of `bench_evaluate`'s result files, for `tables`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tables_rerank import repeats

_MIB = 2**20
_FASTEST_PEER = "fastreid, Cython"


def evaluate(report: dict[str, Any]) -> Iterator[str]:
    """CMC, mAP and mINP from a distance matrix, then from embeddings."""
    sizes, results = report["sizes"], report["results"]
    yield (
        f"CMC, mAP and mINP of {sizes['query']:,} queries and {sizes['gallery']:,} gallery images, "
        f"{sizes['identities']:,} people, {sizes['cameras']} cameras. "
        f"{repeats(sizes)}, each in a process of its own."
    )
    for kind, rows in results.items():
        yield ""
        if kind == "embeddings":
            yield f"From embeddings of {sizes['depth']:,} dimensions:"
            yield ""
        yield "| | wall ms | CPU ms | times as fast | peak MiB besides inputs | mAP | mAP differs | CMC differs |"
        yield "|---|---|---|---|---|---|---|---|"
        peer = rows.get(_FASTEST_PEER, {}).get("wall_s")
        for name, row in rows.items():
            yield _row(name, row, peer)
        yield ""
    if _FASTEST_PEER in results.get("matrix", {}):
        yield f"Times as fast: as “{_FASTEST_PEER}”. Differences: from the first line."
    yield ""


def _row(name: str, row: dict[str, Any], peer: float | None) -> str:
    if "error" in row:
        return f"| {name} | {row['error']} | | | | | | |"
    faster = _times(peer / row["wall_s"]) if peer else ""
    return (
        f"| {name} | {1e3 * row['wall_s']:,.0f} | {1e3 * row['cpu_s']:,.0f} | {faster} "
        f"| {row['peak_over_start_bytes'] / _MIB:,.1f} | {100 * row['mAP']:.3f} | {row['mAP_difference']:.1e} "
        f"| {row['cmc_difference']:.1e} |"
    )


def _times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio >= 1 else f"{ratio:#.2g}"
