"""``stcanet parity``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from stcanet_export.commands.options import IMAGES_HELP, listed_images
from stcanet_export.native import NATIVE
from stcanet_runtime.cli.examples import examples
from stcanet_runtime.cli.options import PROVIDERS, check_apart, check_choice
from stcanet_runtime.wording import listed

if TYPE_CHECKING:
    from stcanet.model import STCANet
    from stcanet_export.parity.tolerance import Tolerance

_RUNTIMES = (*PROVIDERS, NATIVE)


def _check_runtime(name: str) -> str:
    return check_choice(name, _RUNTIMES)


def _runtime_option(what: str) -> Any:
    return typer.Option(callback=_check_runtime, help=f"{what}: {listed(_RUNTIMES)}.")


@examples("""
    stcanet parity package/ --checkpoint runs/market/best.pt
    stcanet parity package/ --provider openvino --images crops/   (against the same package on the CPU)
    stcanet parity int8/ --against package/ --gallery market1501/   (how far do both rank alike?)
    stcanet parity new/ --against old/ --out parity.json --html parity.html
""")
def parity(
    package: Annotated[Path, typer.Argument(help="Model package to check: a folder, one file, or its model.onnx alone.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Compare with this checkpoint, in PyTorch.")] = None,
    against: Annotated[Path | None, typer.Option(help="Compare with this package.")] = None,
    provider: Annotated[str, _runtime_option("Where the package runs")] = "cpu",
    reference_provider: Annotated[str, _runtime_option("Where a reference package runs")] = "cpu",
    images: Annotated[Path | None, typer.Option(help=IMAGES_HELP)] = None,
    gallery: Annotated[
        str | None,
        typer.Option(help="A data set or folder of crops on which rankings are compared, too.", show_default=False),
    ] = None,
    min_cosine: Annotated[float | None, typer.Option(help="Least cosine of an embedding.", show_default="by precision")] = None,
    max_abs: Annotated[
        float | None, typer.Option(help="Largest difference of a component.", show_default="by precision")
    ] = None,
    max_layer: Annotated[float | None, typer.Option(help="Relative error of any layer.", show_default="by precision")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the report here as JSON.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report here as one HTML page, with a plot by layer.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check that a package computes what its checkpoint, another package, or another provider does."""
    if checkpoint is not None and against is not None:
        raise typer.BadParameter("takes the place of --checkpoint; give one of them", param_hint="'--against'")
    if checkpoint is None and against is None and provider == reference_provider:
        hint = "'--checkpoint'"
        raise typer.BadParameter("give --checkpoint, --against, or a --provider that differs", param_hint=hint)
    if checkpoint is not None and reference_provider != "cpu":
        raise typer.BadParameter("says where a package runs; a checkpoint runs in PyTorch", param_hint="'--reference-provider'")
    from stcanet_export.parity.gate import check_parity
    from stcanet_export.parity.page import html_report
    from stcanet_runtime.cli.text import say, say_written
    from stcanet_runtime.files import check_writable, write_text

    check_apart([package, checkpoint, against], ("--out", out), ("--html", html))
    for file in (out, html):
        if file is not None:
            check_writable(file)
    reference = _trained(checkpoint, package) if checkpoint is not None else (against or package)
    with Console(stderr=True).status("comparing"):
        others = [] if checkpoint is not None else [(against or package, reference_provider)]
        bounds = _tolerance([(package, provider), *others], min_cosine, max_abs, max_layer)
        report = check_parity(reference, package, listed_images(images), provider, reference_provider, bounds, gallery)
    say(report.to_dict(), as_json, report.summary())
    if out is not None:
        write_text(out, report.to_json() + "\n")
    if html is not None:
        write_text(html, html_report(report))
    if not as_json:
        say_written(out, html)
    report.raise_if_failed()


def _trained(checkpoint: Path, package: Path) -> STCANet:
    """The checkpoint's network, for the package's size and length of clips: its weights do not depend on them."""
    from stcanet.engine.checkpoint import load_checkpoint
    from stcanet_export.package import with_input
    from stcanet_runtime.package.contents import load_manifest

    model = load_checkpoint(checkpoint).build()
    spec = load_manifest(package).input
    clips = model.config.clip_length is not None and spec.clip_length is not None
    return with_input(model, spec.clip_length if clips else None, (spec.height, spec.width))


def _tolerance(
    runs: list[tuple[Path, str]], min_cosine: float | None, max_abs: float | None, max_layer: float | None
) -> Tolerance:
    from dataclasses import replace

    from stcanet_export.parity.tolerance import tolerance_between

    given = {"min_cosine": min_cosine, "max_abs": max_abs, "max_layer": max_layer}
    return replace(tolerance_between(*runs), **{name: value for name, value in given.items() if value is not None})
