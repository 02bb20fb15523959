"""``stcanet export``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from stcanet.commands.options import preset_option
from stcanet_export.commands.options import IMAGES_HELP, ask_password, listed_images
from stcanet_runtime.cli.examples import examples
from stcanet_runtime.cli.options import JSON, check_choice, check_value, parse_size
from stcanet_runtime.errors import OptionError
from stcanet_runtime.package.manifest import PRECISIONS
from stcanet_runtime.wording import counted, listed

if TYPE_CHECKING:
    from stcanet.model import STCANet
    from stcanet_export.package import ExportResult, Signer
    from stcanet_export.variants.precision import Precision
    from stcanet_export.variants.targets import Target

_PRECISION_HELP = f"{listed(PRECISIONS)}; layers that do not bear it stay in fp32."
_TARGET_HELP = "cpu, openvino, tensorrt or jetson: sets opset and precision, checks the graph, explains."
_EVALUATE_HELP = "A labelled data set: state mAP and rank-1 of fp32 and of this precision."
_CALIBRATION_HELP = "For int8: a folder of real crops, or a data set, whose training images are taken."
_OPTIONS = {"clip_length": "--clip-length", "dynamic_time": "--fixed-time", "part_maps": "--part-maps"}
_INPUT_HELP = "uint8: crops as they are, normalised in the graph. float32: normalised NCHW, as BoxMOT and others feed it."


def _check_input(name: str) -> str:
    from stcanet_runtime.package.manifest import FLOAT, UINT8

    return check_choice(name, (UINT8, FLOAT))


def _check_opset(number: int | None) -> int | None:
    if number is None:  # before torch is imported
        return None
    from stcanet_export.onnx import check_opset

    return check_value(number, check_opset)


def _check_precision(name: str | None) -> str | None:
    if name is None:  # before torch is imported
        return None
    from stcanet_export.variants.precision import check_precision

    return check_value(name, check_precision)


def _check_target(name: str | None) -> str | None:
    if name is None:  # before torch is imported
        return None
    from stcanet_export.variants.targets import find_target

    return check_value(name, find_target)


def _check_method(name: str | None) -> str | None:
    from stcanet_export.variants.calibration import METHODS

    return None if name is None else check_choice(name, METHODS)


@examples("""
    stcanet export runs/market/best.pt -o package/
    stcanet export runs/market/best.pt -o package/ --images crops/ --force
    stcanet export runs/market/best.pt -o half/ --precision fp16
    stcanet export runs/market/best.pt -o int8/ --precision int8 --calibration market1501/
    stcanet export runs/market/best.pt -o trt/ --target tensorrt --evaluate market1501/
    stcanet export runs/market/best.pt -o boxmot/ --input float32   (normalised NCHW, as trackers feed it)
    stcanet export runs/market/best.pt -o market.stcanet --licence CC-BY-4.0 --result result.json --sign ours.key
    stcanet export --preset stcanet-video -o video/ --clip-length 8   (untrained, to measure speed)
""")
def export(
    checkpoint: Annotated[Path | None, typer.Argument(help="Checkpoint of 'stcanet train'.", show_default=False)] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the package, or one file: NAME.zip, NAME.stcanet.")
    ] = Path("package"),
    preset: Annotated[
        str | None, preset_option("Instead of a checkpoint, a network of random weights, to measure speed")
    ] = None,
    images: Annotated[Path | None, typer.Option(help=IMAGES_HELP)] = None,
    opset: Annotated[
        int | None, typer.Option(callback=_check_opset, help="ONNX operator set, 17 to 27.", show_default="18")
    ] = None,
    takes: Annotated[str, typer.Option("--input", callback=_check_input, help=_INPUT_HELP)] = "uint8",
    part_maps: Annotated[bool, typer.Option("--part-maps", help="Also give the part maps of the attention.")] = False,
    no_l2: Annotated[bool, typer.Option("--no-l2", help="Give features as they are, not of unit length.")] = False,
    batch: Annotated[int | None, typer.Option(min=1, help="Take exactly so many crops at once.", show_default="any")] = None,
    clip_length: Annotated[int | None, typer.Option(min=1, help="Frames of a clip.", show_default="the preset's")] = None,
    fixed_time: Annotated[bool, typer.Option("--fixed-time", help="Take clips of exactly that length, not of any.")] = False,
    size: Annotated[str | None, typer.Option(help="Crops, HEIGHTxWIDTH.", show_default="as trained")] = None,
    licence: Annotated[str | None, typer.Option(help="Of the weights, for manifest and model card.")] = None,
    result: Annotated[
        list[Path] | None, typer.Option(help="Result of 'stcanet evaluate --out' for the model card; may be repeated.")
    ] = None,
    sign: Annotated[Path | None, typer.Option(help="Sign the package with this minisign secret key.")] = None,
    precision: Annotated[
        str | None, typer.Option(callback=_check_precision, help=_PRECISION_HELP, show_default="the target's, or fp32")
    ] = None,
    target: Annotated[str | None, typer.Option(callback=_check_target, help=_TARGET_HELP, show_default=False)] = None,
    calibration: Annotated[str | None, typer.Option(help=_CALIBRATION_HELP, show_default=False)] = None,
    calibration_crops: Annotated[int | None, typer.Option(help="How many of them.", show_default="128")] = None,
    calibration_method: Annotated[
        str | None, typer.Option(callback=_check_method, help="percentile or entropy.", show_default="percentile")
    ] = None,
    evaluate: Annotated[str | None, typer.Option(help=_EVALUATE_HELP, show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a package that is already there.")] = False,
    as_json: JSON = False,
) -> None:
    """Export a checkpoint as a model package, and prove that it computes the same."""
    if (checkpoint is None) == (preset is None):
        raise typer.BadParameter("give either a checkpoint or --preset", param_hint="'CHECKPOINT'")
    if preset is not None and result:
        raise typer.BadParameter("is of a checkpoint; random weights have no figures", param_hint="'--result'")
    height_width = None if size is None else parse_size(size)
    from stcanet_export.onnx import DEFAULT_OPSET, Contract
    from stcanet_export.package import export_package
    from stcanet_export.variants.targets import find_target
    from stcanet_export.variants.variant import Variant
    from stcanet_runtime.cli.text import say

    signer = None if sign is None else _signer(sign)
    place = None if target is None else find_target(target)
    numbers = _precision(precision, place, calibration, {"crops": calibration_crops, "method": calibration_method})
    default = DEFAULT_OPSET if place is None else place.opset
    with _named_as_options(), Console(stderr=True).status("reading") as status:
        made = export_package(
            checkpoint if checkpoint is not None else _untrained(str(preset)),
            out,
            images=listed_images(images),
            opset=default if opset is None else opset,
            contract=Contract(takes, not no_l2, part_maps, batch, not fixed_time),
            clip_length=clip_length,
            size=height_width,
            force=force,
            origin=_origin(checkpoint, result or []),
            progress=status.update,
            variant=Variant(numbers, place, evaluate),
            licence=licence,
            signer=signer,
        )
    say(_export_facts(made), as_json, _export_summary(made))


@contextmanager
def _named_as_options() -> Iterator[None]:
    """What a network does not go with is called as it is here, not as in Python."""
    try:
        yield
    except OptionError as error:
        if (option := _OPTIONS.get(error.option)) is None:
            raise
        raise typer.BadParameter(f"must be {error.expected}", param_hint=f"'{option}'") from None


def _precision(name: str | None, target: Target | None, source: str | None, how: Mapping[str, Any]) -> Precision:
    from stcanet_export.variants.calibration import Calibration
    from stcanet_export.variants.precision import FLOAT32, Precision

    given = {option: value for option, value in how.items() if value is not None}
    if source is None and given:
        raise typer.BadParameter("needs --calibration", param_hint=f"'--calibration-{next(iter(given))}'")
    calibration = None if source is None else Calibration(source, **given)
    if target is None:
        return Precision(name or FLOAT32.name, calibration)
    return Precision(name or target.precision, calibration, target.scheme)


def _origin(checkpoint: Path | None, results: list[Path]) -> dict[str, Any]:
    from stcanet_export.evaluations import read_evaluation

    read = [read_evaluation(path, checkpoint) for path in results]
    return ({} if checkpoint is not None else {"trained": False}) | ({"evaluation": read} if read else {})


def _signer(secret_key: Path) -> Signer:
    """Signs a package folder; the key is looked at now, and its password asked for, before the work begins."""
    from functools import partial

    from stcanet_runtime.package.signature import load_secret_key, sign

    locked = typer.BadParameter("its key has a password, and no terminal is here to ask for it", param_hint="'--sign'")
    return partial(sign, key=load_secret_key(secret_key, lambda: ask_password("password of the key", locked)))


def _untrained(preset: str) -> STCANet:
    from stcanet.model import build_model

    return build_model(preset)


def _export_facts(result: ExportResult) -> dict[str, Any]:
    manifest, report = result.manifest, result.report
    return {
        "package": str(result.path),
        "files": result.files,
        "manifest": json.loads(manifest.to_json()),
        "parity": {"passed": report.passed, "min_cosine": report.min_cosine, "crops": len(report.crops), "notes": report.notes},
    }


def _export_summary(result: ExportResult) -> str:
    from stcanet_export.card import conversion_lines

    manifest, report = result.manifest, result.report
    spec = manifest.input
    frames = "any number of frames" if spec.dynamic_time else counted(spec.clip_length or 0, "frame", "frames")
    time = "" if spec.clip_length is None else f" × {frames}"
    size = sum(result.files.values()) / 1e6
    rows = "" if spec.batch is None else f"{spec.batch} "
    takes = f"{rows}{spec.name}{time} {spec.height}×{spec.width} {spec.dtype}"
    lines = [
        f"{result.path}: {manifest.preset}, {takes}, {manifest.output.dim} dimensions, opset {manifest.opset}, {size:.1f} MB",
        f"parity on {counted(len(report.crops), 'crop', 'crops')}: passed, min cosine {report.min_cosine:.9f}",
    ]
    lines += conversion_lines(manifest.conversion)
    if manifest.source.get("trained") is False:
        lines.append("note: the weights are random; the embeddings say nothing about people")
    return "\n".join([*lines, *(f"note: {note}" for note in report.notes)])
