"""``stcanet train``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stcanet.commands.options import BLOCKS, DATA_HELP, device_option, parse_blocks, preset_option
from stcanet.config import TrainConfig, load_toml, make_config, parse_override
from stcanet.engine import run_files
from stcanet_runtime.cli.examples import examples
from stcanet_runtime.cli.options import JSON
from stcanet_runtime.errors import StcanetError
from stcanet_runtime.wording import counted

if TYPE_CHECKING:
    from stcanet.engine.trainer import TrainResult


@examples("""
    stcanet train --data market1501/ --out runs/market
    stcanet train --data market1501/ --out runs/market --backbone-weights resnet50.pth --epochs 120
    stcanet train --config recipes/tiny-scratch.toml --data people/ --out runs/tiny
    stcanet train --config runs/tiny/config.toml --out runs/again --set loss.distance=euclidean --set optim.lr=1e-3
    stcanet train --data market1501/ --out runs/plain --blocks none
    stcanet train --resume runs/market
    stcanet train --resume runs/market --epochs 80
""")
def train(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Run folder to make: checkpoints, figures, log, report.html. Needed, or else --resume."
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Go on with the run in this folder, with its settings, to the same weights."),
    ] = None,
    data: Annotated[str | None, typer.Option(help=f"{DATA_HELP} Needed, here or in the settings.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings (.toml); the other options win over it.")] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Folder with part masks of the training images (stcanet masks; synth --masks).")
    ] = None,
    preset: Annotated[str | None, preset_option("Network", show_default=TrainConfig.preset)] = None,
    blocks: BLOCKS = None,
    backbone_weights: Annotated[
        str | None, typer.Option(metavar="imagenet|none|PATH", help="Start of the backbone.", show_default="imagenet")
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(metavar="CHECKPOINT", help="Start from the weights of this one that fit; also of another program."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.", show_default=str(TrainConfig.epochs))] = None,
    device: Annotated[str | None, device_option(show_default=TrainConfig.device)] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the weights, batches and augmentation.", show_default=str(TrainConfig.seed))
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any other setting, as optim.lr=1e-3; repeatable. A run's config.toml lists all."
        ),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Train a network; the best checkpoint is chosen on training data that is held back, never on the test set."""
    folder = resume or out
    if folder is None or (out and resume):
        given = "pass either --out FOLDER for a new run or --resume FOLDER for an interrupted one"
        raise typer.BadParameter(given, param_hint="'--out'")
    if resume and config:
        raise typer.BadParameter("a resumed run has the settings of its folder; leave it out", param_hint="'--config'")
    if resume:
        run_files.check_run(resume)
        config = resume / run_files.CONFIG
    named = {"preset": preset, "backbone_weights": backbone_weights, "epochs": epochs, "device": device, "seed": seed}
    model = None if blocks is None else {"blocks": parse_blocks(blocks)}
    options = {**named, "data": data, "init": init, "model": model, "masks": masks}
    resolved = _resolve(config, options, settings or [])
    speaks = os.environ.get("RANK", "0") == "0"  # under torchrun the first process does, and writes
    try:
        result = _train(resolved, folder, resume is not None, speaks)
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, SIGTERM
        if speaks and (folder / run_files.CONFIG).exists():
            typer.echo(f"stopped; to go on: stcanet train --resume {shlex.quote(str(folder))}", err=True)
        raise
    if speaks:
        _tell(result, folder, resolved.device, as_json)


def _resolve(base: Path | None, options: Mapping[str, Any], settings: Sequence[str]) -> TrainConfig:
    """The settings of a file, over which options win, over which in turn those of ``--set`` win."""
    given = {name: str(value) if isinstance(value, Path) else value for name, value in options.items() if value is not None}
    return make_config(load_toml(base) if base else {}, given, *map(parse_override, settings))


def _train(config: TrainConfig, folder: Path, resume: bool, speaks: bool) -> TrainResult:
    from contextlib import nullcontext

    from stcanet.commands.training_progress import TrainingProgress
    from stcanet.engine.trainer import train as run

    with TrainingProgress(config.epochs) if speaks else nullcontext() as progress:
        return run(config, folder, progress, resume)


def _tell(result: TrainResult, folder: Path, device: str, as_json: bool) -> None:
    """Print what training gave, which may have taken days, whatever becomes of the page about it."""
    from dataclasses import asdict

    from stcanet.commands.training_progress import validation_text
    from stcanet_runtime.cli.text import print_json

    if as_json:
        page = _page(folder, device, result.was_finished)
        print_json({**asdict(result), "checkpoint": str(result.checkpoint), "report": str(page) if page else None})
        return
    ran = counted(result.epochs, "epoch", "epochs")
    chosen = f"best of {ran}: {result.best_epoch}" if result.metrics else ran
    figures = validation_text(result.metrics) or "no validation split"
    if result.was_finished:
        typer.echo(f"{folder} is finished: nothing was trained")
    took = "" if result.was_finished else f"; {result.seconds / 60:.1f} min"
    typer.echo(f"{result.checkpoint} ({chosen}; {figures}{took})")
    if page := _page(folder, device, result.was_finished):
        typer.echo(str(page))


def _page(folder: Path, device: str, was_finished: bool) -> Path | None:
    """``report.html``, written anew where something was trained; nobody asked for it, so a failure is a warning.

    That of a run which was finished stays: it may be the one that 'stcanet report' wrote about other data.
    """
    from stcanet.report.write import write_report

    if was_finished and (page := folder / run_files.REPORT).is_file():
        return page
    try:
        return write_report(folder, device=device)
    except (OSError, StcanetError) as error:
        typer.echo(f"warning: {folder / run_files.REPORT} is not written; 'stcanet report' writes it: {error}", err=True)
        return None
