"""What a precision costs on people: mAP and rank-1 of the float32 model and of the variant, on one labelled set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stcanet.data.datasets import load_dataset
from stcanet.evaluation import EvaluationSettings, embed_dataset, judge, open_model


def measure_loss(models: dict[str, Path], data: str) -> dict[str, Any]:
    """Evaluate single-file models by the Market protocol, under the CPU provider.

    Args:
        models: By name, one at least; the first is the one that the others are compared with.
        data: A data set, as `stcanet evaluate --data` takes it.

    Returns:
        JSON values: which data, and of each model `mAP` and `rank1`, and for all but the first how far they are from its.

    Raises:
        DataError: No such data set, or no query or gallery in it.
    """
    dataset, settings = load_dataset(data), EvaluationSettings()
    figures: dict[str, Any] = {}
    for name, path in models.items():
        model = open_model(path, provider="cpu")
        result = judge(model, embed_dataset(model, dataset, settings), settings)
        figures[name] = {"mAP": result.plain.mAP, "rank1": result.plain.rank(1)}
        protocol = result.protocol()
    first = next(iter(figures.values()))
    for values in list(figures.values())[1:]:
        values |= {f"delta_{key}": values[key] - first[key] for key in ("mAP", "rank1")}
    return {"data": dataset.name, "protocol": protocol, **figures}
