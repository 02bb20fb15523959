"""Table of `bench_preprocess`'s result file, for `tables`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


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
