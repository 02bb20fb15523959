"""The table of `bench_precision`'s result file, for `tables`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

RUNS_IN = {
    "cpu": "CPU provider",
    "openvino": "OpenVINO's plugin",
    "openvino-bf16": "the same, in bfloat16",
    "openvino-native": "OpenVINO",
}
TARGETS = {
    "cpu": "cpu",
    "openvino": "openvino",
    "openvino-bf16": "openvino",
    "openvino-native": "openvino",
    "tensorrt": "tensorrt, jetson",
}


def precision(report: dict[str, Any]) -> Iterator[str]:
    """fp32, fp16 and int8 packages: accuracy, size and time by model, target and where it runs."""
    setting = report["setting"]
    for model, rows in report["models"].items():
        preset, _, weights = model.partition(", ")
        yield f"`{preset}`, {weights}: {_about(rows['cpu-fp32'].get('evaluation'))}."
        yield ""
        yield from _rows(rows, [str(batch) for batch in setting["batches"]])
        yield ""
        for name, row in rows.items():
            if "error" in row:
                yield f"{name} was refused: {row['error']}"
                yield ""
    yield f"Batches take turns with each other; medians of {setting['repeats']}. Min cosine: the parity gate's;"
    yield "under OpenVINO, of the drawn crops to fp32 under the CPU provider. Δ: to fp32, in points. Kept: units of all units."
    if (commit := report.get("evaluated_at")) not in (None, report["environment"]["commit"]):
        yield f"mAP and rank-1 were evaluated at commit {commit}, with the same packages."
    yield "Packages for cpu are for openvino, too. Those for TensorRT ran in the gate, under the CPU provider; for the target"
    yield "operators and types were checked against its table, and no engine was built."
    if missing := setting.get("plugin_missing"):
        yield f"OpenVINO ran by itself: ONNX Runtime's plugin for it could not ({missing})."
    yield ""


def _about(evaluation: dict[str, Any] | None) -> str:
    if evaluation is None:
        return "the cosine is of numerics, there is no retrieval to lose"
    return f"losses are those of a network that reaches mAP {100 * evaluation['mAP']:.2f} in fp32"


def _rows(rows: dict[str, Any], batches: list[str]) -> Iterator[str]:
    titles = " | ".join(f"ms, batch {batch} | times fp32 on CPU" for batch in batches)
    yield f"| precision | target | runs in | min cosine | ΔmAP (of fp32) | Δrank-1 (of fp32) | MB | kept in fp32 | {titles} |"
    yield "|---|---|---|---|---|---|---|---|" + "---|---|" * len(batches)
    reference = rows["cpu-fp32"]["milliseconds"]["cpu"]
    for name, row in rows.items():
        if "error" in row:
            continue
        for provider, medians in row["milliseconds"].items():
            speed = " | ".join(f"{medians[batch]:.1f} | {reference[batch] / medians[batch]:.2f}" for batch in batches)
            where = f"{TARGETS[provider]} | {RUNS_IN[provider]}"
            yield f"| {row['precision']} | {where} | {_quality(row, provider)} | {speed} |"
        if not row["milliseconds"]:
            target = TARGETS[name.partition("-")[0]]
            yield f"| {row['precision']} | {target} | static check | {_quality(row, 'cpu')} |" + " | |" * len(batches)


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
