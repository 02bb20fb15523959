"""The table of `bench_precision`'s result file, for `tables`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

NAMES = {"cpu": "CPU provider", "openvino-native": "OpenVINO"}


def precision(report: dict[str, Any]) -> Iterator[str]:
    """Rows by model, precision and where it runs; then what was only checked, or failed."""
    batches = [str(batch) for batch in report["setting"]["batches"]]
    for model, rows in report["models"].items():
        yield f"`{model.split(',')[0]}`,{model.split(',')[1]}:"
        yield ""
        titles = " | ".join(f"ms, batch {batch} | times fp32 on CPU" for batch in batches)
        yield f"| precision | runs in | min cosine | ΔmAP (of fp32) | Δrank-1 (of fp32) | MB | kept in fp32 | {titles} |"
        yield "|---|---|---|---|---|---|---|" + "---|---|" * len(batches)
        reference = rows["cpu-fp32"]["milliseconds"]["cpu"]
        for row in rows.values():
            for provider, medians in row.get("milliseconds", {}).items():
                speed = " | ".join(f"{medians[batch]:.1f} | {reference[batch] / medians[batch]:.2f}" for batch in batches)
                yield f"| {row['precision']} | {NAMES[provider]} | {_quality(row, provider)} | {speed} |"
        yield ""
        yield from _others(rows)
    yield f"Batches take turns with each other; medians of {report['setting']['repeats']}. Min cosine: the parity gate's;"
    yield "under OpenVINO, of the drawn crops to fp32 under the CPU provider. Δ: to fp32, in points. Kept: units of all units."
    yield ""


def _quality(row: dict[str, Any], provider: str) -> str:
    cosine = row["min_cosine"] if provider == "cpu" else row["agreement"][provider]
    figures = row.get("evaluation", {}) if provider == "cpu" else {}
    losses = [_loss(figures, key) for key in ("mAP", "rank1")]
    kept = f"{len(row['kept'])} of {row['units']}" if row["units"] else ""
    return f"{cosine:.6f} | {losses[0]} | {losses[1]} | {row['bytes'] / 1e6:.1f} | {kept}"


def _loss(figures: dict[str, Any], key: str) -> str:
    """In points; the figure itself for what the others are compared with."""
    if f"delta_{key}" in figures:
        return f"{100 * figures[f'delta_{key}']:+.2f}"
    return f"({100 * figures[key]:.2f})" if key in figures else ""


def _others(rows: dict[str, Any]) -> Iterator[str]:
    checked = [row for name, row in rows.items() if "error" not in row and not row["milliseconds"]]
    if checked:
        text = ", ".join(f"{row['precision']} (min cosine {row['min_cosine']:.6f} on the CPU)" for row in checked)
        yield f"For TensorRT and Jetson: {text}: {checked[0]['checked']}."
        yield ""
    for name, row in rows.items():
        if "error" in row:
            yield f"{name} was refused: {row['error']}"
            yield ""
