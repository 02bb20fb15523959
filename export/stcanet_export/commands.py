"""``stcanet export`` and ``stcanet parity``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from stcanet.model import STCANet
    from stcanet_export.package import ExportResult
    from stcanet_export.precision import Precision
    from stcanet_export.report import Tolerance
    from stcanet_export.targets import Target

_IMAGES_HELP = "A crop, or a folder of crops, to check parity on besides the built-in ones (16 are picked)."
_PRECISION_HELP = "fp32, fp16 or int8; layers that do not bear it stay in fp32."
_TARGET_HELP = "cpu, openvino, tensorrt or jetson: sets opset and precision, checks the graph, explains."
_EVALUATE_HELP = "A labelled data set: state mAP and rank-1 of fp32 and of this precision."
_CALIBRATION_HELP = "For int8: a folder of real crops, or a data set, whose training images are taken."
_EXPORT_EXAMPLES = """\b
Examples:
  stcanet export runs/market/best.pt -o package/
  stcanet export runs/market/best.pt -o package/ --images crops/ --force
  stcanet export runs/market/best.pt -o half/ --precision fp16
  stcanet export runs/market/best.pt -o int8/ --precision int8 --calibration market1501/
  stcanet export runs/market/best.pt -o trt/ --target tensorrt --evaluate market1501/
  stcanet export --preset stcanet-video -o video/ --clip-length 8   (untrained, to measure speed)"""
_PARITY_EXAMPLES = """\b
Examples:
  stcanet parity package/ --checkpoint runs/market/best.pt
  stcanet parity package/ --provider openvino --images crops/   (against the same package on the CPU)
  stcanet parity new/ --against old/ --out parity.json --html parity.html"""


def export(
    checkpoint: Annotated[Path | None, typer.Argument(help="Checkpoint of 'stcanet train'.", show_default=False)] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the package.")] = Path("package"),
    preset: Annotated[
        str | None, typer.Option(help="Instead of a checkpoint: export a preset with random weights, to measure speed.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help=_IMAGES_HELP)] = None,
    opset: Annotated[int | None, typer.Option(help="ONNX operator set, 18 to 23.", show_default="18")] = None,
    clip_length: Annotated[int | None, typer.Option(help="Frames of a clip.", show_default="the preset's")] = None,
    fixed_time: Annotated[bool, typer.Option("--fixed-time", help="Take clips of exactly that length, not of any.")] = False,
    precision: Annotated[str | None, typer.Option(help=_PRECISION_HELP, show_default="the target's, or fp32")] = None,
    target: Annotated[str | None, typer.Option(help=_TARGET_HELP, show_default=False)] = None,
    calibration: Annotated[str | None, typer.Option(help=_CALIBRATION_HELP, show_default=False)] = None,
    calibration_crops: Annotated[int, typer.Option(help="How many of them.")] = 128,
    calibration_method: Annotated[str, typer.Option(help="percentile or entropy.")] = "percentile",
    evaluate: Annotated[str | None, typer.Option(help=_EVALUATE_HELP, show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a package that is already there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Export a checkpoint as a model package, and prove that it computes the same."""
    if (checkpoint is None) == (preset is None):
        raise typer.BadParameter("give either a checkpoint or --preset", param_hint="'CHECKPOINT'")
    from stcanet_export.onnx import DEFAULT_OPSET
    from stcanet_export.package import export_package
    from stcanet_export.targets import find_target
    from stcanet_export.variant import Variant

    place = None if target is None else find_target(target)
    numbers = _precision(precision, place, calibration, calibration_crops, calibration_method)
    default = DEFAULT_OPSET if place is None else place.opset
    with Console(stderr=True).status("reading") as status:
        result = export_package(
            checkpoint if checkpoint is not None else _untrained(str(preset)),
            out,
            _list(images),
            default if opset is None else opset,
            clip_length,
            not fixed_time,
            force,
            origin=None if preset is None else {"trained": False},
            progress=status.update,
            variant=Variant(numbers, place, evaluate),
        )
    typer.echo(json.dumps(_export_facts(result), indent=2) if as_json else _export_summary(result))


def parity(
    package: Annotated[Path, typer.Argument(help="Model package to check: a folder, or its model.onnx alone.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Compare with this checkpoint, in PyTorch.")] = None,
    against: Annotated[Path | None, typer.Option(help="Compare with this package.")] = None,
    provider: Annotated[
        str, typer.Option(help="Where the package runs: auto, cpu, openvino, cuda, tensorrt or openvino-native.")
    ] = "cpu",
    reference_provider: Annotated[str, typer.Option(help="Where a reference package runs.")] = "cpu",
    images: Annotated[Path | None, typer.Option(help=_IMAGES_HELP)] = None,
    min_cosine: Annotated[float | None, typer.Option(help="Least cosine of an embedding.", show_default="by precision")] = None,
    max_abs: Annotated[
        float | None, typer.Option(help="Largest difference of a component.", show_default="by precision")
    ] = None,
    max_layer: Annotated[float | None, typer.Option(help="Relative error of any layer.", show_default="by precision")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the report here as JSON.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report here as one HTML page, with a plot by layer.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check that a package computes what its checkpoint, another package, or another provider does."""
    if checkpoint is not None and against is not None:
        raise typer.BadParameter("takes the place of --checkpoint; give one of them", param_hint="'--against'")
    if checkpoint is None and against is None and provider == reference_provider:
        hint = "'--checkpoint'"
        raise typer.BadParameter("give --checkpoint, --against, or a --provider that differs", param_hint=hint)
    from stcanet_export.page import html_report
    from stcanet_export.parity import check_parity
    from stcanet_runtime.files import write_text

    reference = _trained(checkpoint, package) if checkpoint is not None else (against or package)
    with Console(stderr=True).status("comparing"):
        bounds = _tolerance(package, min_cosine, max_abs, max_layer)
        report = check_parity(reference, package, _list(images), provider, reference_provider, bounds)
    if out is not None:
        write_text(out, report.to_json() + "\n")
    if html is not None:
        write_text(html, html_report(report))
    typer.echo(report.to_json() if as_json else report.summary())
    report.raise_if_failed()


export.__doc__ = f"{export.__doc__}\n\n{_EXPORT_EXAMPLES}"
parity.__doc__ = f"{parity.__doc__}\n\n{_PARITY_EXAMPLES}"


def _precision(name: str | None, target: Target | None, source: str | None, crops: int, method: str) -> Precision:
    from stcanet_export.calibration import Calibration
    from stcanet_export.precision import FLOAT32, Precision

    calibration = None if source is None else Calibration(source, crops, method)
    if target is None:
        return Precision(name or FLOAT32.name, calibration)
    return Precision(name or target.precision, calibration, target.scheme)


def _list(images: Path | None) -> list[Path]:
    from stcanet_runtime.crops import list_images

    return [] if images is None else list_images(images)


def _untrained(preset: str) -> STCANet:
    from stcanet.model import build_model

    return build_model(preset)


def _trained(checkpoint: Path, package: Path) -> STCANet:
    """The checkpoint's network, for clips as long as the package's: its weights do not depend on their length."""
    from stcanet.engine.checkpoint import load_checkpoint
    from stcanet_export.package import with_clip_length
    from stcanet_runtime.manifest import load_manifest

    model = load_checkpoint(checkpoint).build()
    frames = load_manifest(package).input.clip_length
    return model if model.config.clip_length is None else with_clip_length(model, frames)


def _tolerance(package: Path, min_cosine: float | None, max_abs: float | None, max_layer: float | None) -> Tolerance:
    from dataclasses import replace

    from stcanet_export.precision import TOLERANCES
    from stcanet_runtime.manifest import load_manifest

    given = {"min_cosine": min_cosine, "max_abs": max_abs, "max_layer": max_layer}
    return replace(
        TOLERANCES[load_manifest(package).precision], **{name: value for name, value in given.items() if value is not None}
    )


def _export_facts(result: ExportResult) -> dict[str, Any]:
    manifest, report = result.manifest, result.report
    return {
        "package": str(result.path),
        "files": {path.name: path.stat().st_size for path in sorted(result.path.iterdir())},
        "manifest": json.loads(manifest.to_json()),
        "parity": {"passed": report.passed, "min_cosine": report.min_cosine, "crops": len(report.crops), "notes": report.notes},
    }


def _export_summary(result: ExportResult) -> str:
    manifest, report = result.manifest, result.report
    spec = manifest.input
    time = "" if spec.clip_length is None else f" × {'any number of' if spec.dynamic_time else spec.clip_length} frames"
    size = sum(path.stat().st_size for path in result.path.iterdir()) / 1e6
    takes = f"{spec.name}{time} {spec.height}×{spec.width}"
    lines = [
        f"{result.path}: {manifest.preset}, {takes}, {manifest.output.dim} dimensions, opset {manifest.opset}, {size:.1f} MB",
        f"parity on {len(report.crops)} crops: passed, min cosine {report.min_cosine:.9f}",
    ]
    lines += _conversion_lines(manifest.conversion)
    if manifest.source.get("trained") is False:
        lines.append("note: the weights are random; the embeddings say nothing about people")
    return "\n".join([*lines, *(f"note: {note}" for note in report.notes)])


def _conversion_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    if search := facts.get("search"):
        kept = ", ".join(search["kept"]) or "nothing but the attention's products"
        yield f"kept in fp32 by the search ({search['runs']} runs): {kept}"
    if target := facts.get("target"):
        yield from (f"for {target['name']}: {reason}" for reason in target["reasons"])
        if target["profile"]:
            yield f"profile: {', '.join(f'{name} {shape}' for name, shape in target['profile'].items())}"
        yield f"{target['name']}: {target['checked']}"
    if evaluation := facts.get("evaluation"):
        named = {name: values for name, values in evaluation.items() if isinstance(values, dict)}
        figures = (f"{name} mAP {100 * row['mAP']:.2f}, rank-1 {100 * row['rank1']:.2f}" for name, row in named.items())
        yield f"on {evaluation['data']}: {'; '.join(figures)}"
