"""The curves of a run: which figures go into which chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from stcanet.report.chart import Point, line_chart


def draw_curves(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Image.Image]:
    """A chart for each kind of figure that the run recorded, by a short name; kinds that it did not record have none."""
    names = list(dict.fromkeys(name for row in metrics for name in row))
    epochs = [float(row["epoch"]) for row in metrics]
    charts = {}
    for kind, title, wanted in (
        ("loss", "Loss", [name for name in names if name == "loss" or name.endswith("_loss")]),
        ("accuracy", "Accuracy on training batches", ["accuracy"]),
        ("validation", "Validation", [name for name in names if name.startswith("val_")]),
        ("part_iou", "Part maps on part masks: IoU", ["part_iou"]),
        ("lr", "Learning rate", ["lr"]),
    ):
        if chosen := [name for name in wanted if name in names]:
            charts[kind] = line_chart(title, {_label(name): _points(metrics, name) for name in chosen}, epochs)
    return charts


def _points(metrics: Sequence[Mapping[str, Any]], name: str) -> list[Point]:
    return [(float(row["epoch"]), float(row[name])) for row in metrics if isinstance(row.get(name), (int, float))]


def _label(name: str) -> str:
    return name.removeprefix("val_").replace("_", " ")
