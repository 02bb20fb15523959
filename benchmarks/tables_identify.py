"""Tables of `bench_identify`'s result files, for `tables`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


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
