"""Tables of the runtime, for `tables`: `bench_preprocess`, `bench_gallery`, `kill_gallery`, `bench_identify`, `soak`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_MIB = 2**20


def preprocess(report: dict[str, Any]) -> Iterator[str]:
    """Cutting and resizing the boxes of a frame: milliseconds by its layout."""
    sizes, results = report["sizes"], report["results"]
    yield (
        f"{sizes['boxes']} boxes of a frame of {sizes['width']} × {sizes['height']} to RGB crops of 128 × 256; "
        f"medians of {sizes['repeats']}, taking turns. In brackets: times as fast as Pillow; largest difference from its bytes."
    )
    yield ""
    yield "| ms | " + " | ".join(results) + " |"
    yield "|---|" + "---|" * len(results)
    for name in next(iter(results.values())):
        yield f"| {name} | " + " | ".join(_cell(rows[name], rows["Pillow"]) for rows in results.values()) + " |"
    yield ""
    if "check" in report:
        check = report["check"]
        yield f"Of {check['boxes']:,} random boxes, sizes, strides and layouts {check['differing']} differ from Pillow."
        yield ""


def _cell(row: dict[str, float], pillow: dict[str, float]) -> str:
    return f"{row['ms']:.1f} ({pillow['ms'] / row['ms']:.1f}×; {row['max_difference']})"


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


def gallery_kills(report: dict[str, Any]) -> Iterator[str]:
    """What was left in a gallery of calls that were killed."""
    yield (
        f"{report['kills']} kills (SIGKILL) at random moments of {report['calls']}: the gallery opened every time, and "
        f"{report['opened_meanwhile']:,} times while it was written, "
        f"{report['lost']} of {report['entries']:,} acknowledged entries lost; "
        f"{report['calls_kept_though_not_acknowledged']} calls were kept whole though the kill came before they returned."
    )
    yield ""


def identify(report: dict[str, Any]) -> Iterator[str]:
    """Who is who across cameras: how right `Identifier` is, beside clustering that sees all tracks at once."""
    data, network = report["data"], report["network"]
    yield (
        f"On {data['name']}: {data['people']:,} people in {data['tracks']:,} tracks ({data['images']:,} images) of "
        f"{data['cameras']} cameras; means over {data['draws']} draws of who walks where and when. A `{network['preset']}` "
        f"whose single images reach mAP {100 * network['mAP']:.1f} and rank-1 {100 * network['rank1']:.1f} there. Threshold "
        "and margin are those of `calibrate --kind pairs` on as many other people."
    )
    yield ""
    yield "| false accepts | | IDF1 | pairs: precision | pairs: recall | identities | ms an update |"
    yield "|---|---|---|---|---|---|---|"
    rate = None
    for row in report["results"]:
        if row["far"] != rate:
            rate = row["far"]
            first = f"{rate:.1%}: up to {row['threshold']:.3f}, margin {row['margin']:.3f}"
        figures = " | ".join(f"{100 * row[name]:.1f}" for name in ("idf1", "pair_precision", "pair_recall"))
        update = f"{1e3 * row['update_s']:.2f}" if "update_s" in row else ""
        yield f"| {first} | {row['method']} | {figures} | {row['identities']:.0f} | {update} |"
        first = ""
    yield ""


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
