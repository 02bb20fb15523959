"""Tables of `bench_rerank`'s result files, for `tables`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

CHART = "rerank.svg"
"""Name of the picture that `chart_rerank` draws."""

GIB = 2**30
_PHASES = {
    "search_s": "neighbours",
    "sets_s": "sets",
    "overlaps_s": "overlaps",
    "gallery_s": "distances to gallery",
    "rest_s": "rest",
}
_PLAIN = "NumPy, as published"


def rerank(report: dict[str, Any]) -> Iterator[str]:
    """Re-ranking, then the neighbour search alone."""
    yield from _rerank_table(report)
    yield from _searches(report["results"]["neighbours"], report["sizes"]["k1"] + 1)


def repeats(sizes: dict[str, Any]) -> str:
    """How often each was measured."""
    return "One run" if sizes["repeats"] == 1 else f"Medians of {sizes['repeats']}, taking turns"


def rerank_picture(report: dict[str, Any]) -> Iterator[str]:
    """The chart, and what has to be read beside it."""
    sizes, data = report["sizes"], report["data"]
    rows = [row for row in report["results"]["rerank"].values() if "error" not in row]
    after = sorted({f"{100 * row['mAP']:.2f}" for row in rows if "mAP" in row})
    difference = max(row.get("max_difference", 0.0) for row in rows)
    yield f"![Seconds and GiB of re-ranking, ours and others](benchmarks/{CHART})"
    yield ""
    yield (
        f"Embeddings drawn like those of a trained model: mAP {100 * data['mAP']:.1f} before, {' to '.join(after)} after, "
        f"whoever re-ranks; distances differ by {difference:.1e} at most. k1 = {sizes['k1']}, k2 = {sizes['k2']}, "
        f"λ = {sizes['lambda_value']}. {repeats(sizes)}, each in a process of its own; [the whole table](BENCHMARKS.md#rerank)."
    )
    yield ""


def _rerank_table(report: dict[str, Any]) -> Iterator[str]:
    sizes, data, rows = report["sizes"], report["data"], report["results"]["rerank"]
    yield (
        f"Re-ranking of {shape(sizes)}, drawn to be like those of a trained model (mAP {100 * data['mAP']:.1f} before), "
        f"k1 = {sizes['k1']}, k2 = {sizes['k2']}, λ = {sizes['lambda_value']}. {repeats(sizes)}, "
        "each in a process of its own."
    )
    yield ""
    yield "| | wall s | CPU s | times as fast | peak GiB, in all | besides inputs | largest difference | other first 20 | mAP |"
    yield "|---|---|---|---|---|---|---|---|---|"
    plain = rows.get(_PLAIN, {}).get("wall_s")
    for name, row in rows.items():
        if "error" in row:
            yield f"| {name} | {row['error']} | | | | | | | |"
            continue
        faster = f"{plain / row['wall_s']:.1f}" if plain else ""
        precision = f"{100 * row['mAP']:.2f}" if "mAP" in row else ""
        difference = f"{row['max_difference']:.1e} | {row['top20_differs']:.2%}" if "max_difference" in row else " | "
        yield f"| {name} | {_times(row)} | {faster} | {_memory(row)} | {difference} | {precision} |"
    yield ""
    yield (
        f"Times as fast: as “{_PLAIN}”. Peak: of the process, libraries and inputs included, and above what it held before the "
        "call. Differences: from the first line; other first 20: queries whose first 20 are not the same in the same order."
    )
    yield ""


def _searches(rows: dict[str, dict[str, Any]], k: int) -> Iterator[str]:
    """All-pairs neighbour search."""
    yield f"The {k} nearest of all rows to each of them, exactly:"
    yield ""
    yield "| | wall s | CPU s | peak GiB, in all | besides inputs | places that differ | that rounding does not explain |"
    yield "|---|---|---|---|---|---|---|"
    for name, row in rows.items():
        if "error" in row:
            yield f"| {name} | {row['error']} | | | | | |"
        else:
            yield f"| {name} | {_times(row)} | {_memory(row)} | {row['places_differ']:,} | {row['places_wrong']:,} |"
    yield ""


def growth(report: dict[str, Any]) -> Iterator[str]:
    """Re-ranking: wall time and peak memory by size."""
    results, sizes = report["results"], report["sizes"]
    yield (
        f"Queries and gallery together in the proportions of Market-1501, {sizes['depth']:,} dimensions; seconds of wall time "
        f"and peak GiB besides the inputs. {repeats(sizes)}."
    )
    yield ""
    yield "| | " + " | ".join(f"N = {int(total):,}" for total in results) + " |"
    yield "|---|" + "---|" * len(results)
    for name in next(iter(results.values())):
        yield f"| {name} | " + " | ".join(_size(rows.get(name, {"error": ""})) for rows in results.values()) + " |"
    yield ""


def _size(row: dict[str, Any]) -> str:
    if "error" in row:
        return str(row["error"])
    return f"{row['wall_s']:.2f} s, {row['peak_over_start_bytes'] / GIB:.2f}"


def msmt(report: dict[str, Any]) -> Iterator[str]:
    """Re-ranking at the size of MSMT17, in a limited address space."""
    sizes, agreement = report["sizes"], report["agreement"]
    yield (
        f"Re-ranking of {shape(sizes)}, mapped from files, in processes "
        f"limited to {sizes['address_space_bytes'] / GIB:.0f} GiB of address space; one run."
    )
    yield ""
    yield "| | wall s | CPU s | " + " | ".join(_PHASES.values()) + " | peak GiB, in all | besides inputs | address space GiB |"
    yield "|---" * (6 + len(_PHASES)) + "|"
    for name, row in report["results"].items():
        if "error" in row:
            yield f"| {name} | {row['error']} |" + " |" * (4 + len(_PHASES))
            continue
        phases = " | ".join(f"{row[key]:.2f}" for key in _PHASES)
        space = row["address_space_peak_bytes"] / GIB
        yield f"| {name} | {_times(row)} | {phases} | {_memory(row)} | {space:.2f} |"
    yield ""
    if agreement:
        yield (
            f"The lists against the matrix: largest difference {agreement['max_difference']:.1e}, other first 20 in "
            f"{agreement['top20_differs']:.2%} of the queries. Pages of mapped inputs count as memory once they were touched."
        )
    yield ""


def shape(sizes: dict[str, Any]) -> str:
    """What was re-ranked."""
    return f"{sizes['query']:,} queries and {sizes['gallery']:,} gallery rows of {sizes['depth']:,} dimensions"


def _times(row: dict[str, Any]) -> str:
    return f"{row['wall_s']:.2f} | {row['cpu_s']:.2f}"


def _memory(row: dict[str, Any]) -> str:
    return f"{row['peak_bytes'] / GIB:.2f} | {row['peak_over_start_bytes'] / GIB:.2f}"
