"""What to make of the float32 graph of a package: a precision, for a target, with what it costs on labelled people."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from stcanet.data.datasets import load_dataset
from stcanet.evaluation import EvaluationSettings, embed_dataset, judge, open_model
from stcanet.evaluation.embedded import check_sides
from stcanet_export.graph import seal, verify
from stcanet_export.variants.precision import FLOAT32, Precision, Tell, lower
from stcanet_export.variants.targets import Target, check_target
from stcanet_runtime.files import atomic_path
from stcanet_runtime.package.manifest import Manifest


@dataclass(frozen=True)
class Variant:
    """What is wanted besides the graph as it was exported."""

    precision: Precision = FLOAT32
    target: Target | None = None
    """Where it shall run; it is checked that it can."""
    evaluate: str | None = None
    """A labelled data set, for mAP and rank-1 of the float32 graph and of the variant."""

    def check_data(self) -> None:
        """See, before the minutes that an export takes, that crops and data set are there and of use. DataError where not."""
        if self.precision.calibration is not None:
            self.precision.calibration.files()
        if self.evaluate is not None:
            check_sides(load_dataset(self.evaluate))


AS_EXPORTED = Variant()


def convert(path: Path, manifest: Manifest, variant: Variant, images: Sequence[str | Path], tell: Tell) -> Manifest:
    """Make the variant of the float32 model in a file, in place.

    Returns:
        The manifest, which is inside the file, too.

    Raises:
        PackageError: The network does not bear the precision, the target does not take the graph, or what the library made
            of it is not valid.
        DataError: The data set to evaluate on, or the crops to calibrate with, are not there.
    """
    if variant == AS_EXPORTED:
        return manifest
    facts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        model, trial = onnx.load(path), Path(folder) / "variant.onnx"
        manifest = replace(manifest, precision=variant.precision.name)
        if variant.precision.name != FLOAT32.name:
            model, facts = lower(path, variant.precision, images, tell)
        seal(model, manifest)
        verify(model, manifest.opset)
        onnx.save(model, trial)
        if variant.target is not None:
            tell(f"checking the graph for {variant.target.name}")
            facts["target"] = check_target(variant.target, trial, manifest)
        if variant.evaluate is not None:
            tell("evaluating")
            lowered = {} if variant.precision.name == FLOAT32.name else {variant.precision.name: trial}
            facts["evaluation"] = measure_loss({FLOAT32.name: path, **lowered}, variant.evaluate)
    manifest = replace(manifest, conversion=facts)
    seal(model, manifest)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return manifest


def measure_loss(models: dict[str, Path], data: str) -> dict[str, Any]:
    """What a precision costs on people: evaluate single-file models by the Market protocol, under the CPU provider.

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
