"""Tables of `bench_gallery`'s and `kill_gallery`'s result files, for `tables`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_MIB = 2**20


def gallery(report: dict[str, Any]) -> Iterator[str]:
    """Search of a stored gallery, beside faiss, and beside the time that reading it takes."""
    sizes = report["sizes"]
    yield f"Gallery search, {sizes['dim']:,} dimensions, k = {sizes['k']}. Medians of {sizes['repeats']}, taking turns."
    yield ""
    yield (
        "| entries | stored as | file MiB | memory MiB | open and load s | reading all ms | 1 query ms | faiss ms "
        "| 32 queries ms | faiss ms | places as faiss |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for row in report["results"]:
        seconds = [row["limit_s"], *(row["seconds"].get(name) for name in ("ours_1", "faiss_1", "ours_32", "faiss_32"))]
        times = ["" if value is None else f"{1e3 * value:,.1f}" for value in seconds]  # faiss may not have been there
        same = row["share_of_faiss_places"]
        yield (
            f"| {row['entries']:,} | {row['dtype']} | {row['file_bytes'] / _MIB:,.0f} | {row['memory_bytes'] / _MIB:,.0f} "
            f"| {row['open_and_first_search_s']:.2f} | " + " | ".join(times) + f" | {'' if same is None else f'{same:.1%}'} |"
        )
    yield ""
    bandwidth = max(row["bandwidth_bytes_per_s"] for row in report["results"]) / 1e9
    yield f"Reading all: at the bandwidth of the cores together, measured between the searches (at best {bandwidth:.1f} GB/s)."


def kills(report: dict[str, Any]) -> Iterator[str]:
    """What was left of enrolments in a gallery that were killed."""
    calls = report.get("calls", "enrolment")
    opened = f", and {report['opened_meanwhile']:,} times while it was written" if "opened_meanwhile" in report else ""
    yield (
        f"{report['kills']} kills (SIGKILL) at random moments of {calls}: the gallery opened every time{opened}, "
        f"{report['lost']} of {report['entries']:,} acknowledged entries lost; "
        f"{report['calls_kept_though_not_acknowledged']} calls were kept whole though the kill came before they returned."
    )
    yield ""
