"""``stcanet train``."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stcanet.commands.options import BLOCKS, DATA_HELP, device_option, parse_blocks, preset_option
from stcanet.config import TrainConfig, load_toml, make_config, parse_override
from stcanet.engine import run_files
from stcanet_runtime.cli.examples import examples
from stcanet_runtime.cli.options import JSON
from stcanet_runtime.wording import counted

if TYPE_CHECKING:
    from stcanet.engine.observer import StepReport


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
    if (out is None) == (resume is None):
        given = "pass either --out FOLDER for a new run or --resume FOLDER for an interrupted one"
        raise typer.BadParameter(given, param_hint="'--out'")
    folder = resume or out
    assert folder is not None
    base = folder / run_files.CONFIG if resume else config
    if resume and config:
        raise typer.BadParameter("a resumed run has the settings of its folder; leave it out", param_hint="'--config'")
    if resume:
        run_files.check_run(resume)
    named = {"preset": preset, "backbone_weights": backbone_weights, "epochs": epochs, "device": device, "seed": seed}
    layers: list[dict[str, Any]] = [load_toml(base)] if base else []
    layers.append({key: value for key, value in named.items() if value is not None})
    layers += [{"data": data}] if data is not None else []
    layers += [{"init": str(init)}] if init else []
    layers += [{"model": {"blocks": parse_blocks(blocks)}}] if blocks is not None else []
    layers += [{"masks": str(masks)}] if masks else []
    layers += [parse_override(setting) for setting in settings or []]
    resolved = make_config(*layers)

    from stcanet.engine.trainer import train as run
    from stcanet.report import write_report

    speaks = os.environ.get("RANK", "0") == "0"  # under torchrun the first process does, and writes
    try:
        with TrainingProgress(resolved.epochs) as progress:
            result = run(resolved, folder, progress, resume=resume is not None)
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, SIGTERM
        if speaks and (folder / run_files.CONFIG).exists():
            typer.echo(f"stopped; to go on: stcanet train --resume {shlex.quote(str(folder))}", err=True)
        raise
    if not speaks:
        return
    page = write_report(folder, device=resolved.device)
    if as_json:
        from dataclasses import asdict

        from stcanet_runtime.cli.text import print_json

        print_json({**asdict(result), "checkpoint": str(result.checkpoint), "report": str(page)})
    else:
        ran = counted(result.epochs, "epoch", "epochs")
        chosen = f"best of {ran}: {result.best_epoch}" if result.metrics else ran
        if result.was_finished:
            typer.echo(f"{folder} is finished: nothing was trained")
        figures = _validation(result.metrics) or "no validation split"
        typer.echo(f"{result.checkpoint} ({chosen}; {figures}; {result.seconds / 60:.1f} min)")
        typer.echo(str(page))


def _validation(values: dict[str, float]) -> str:
    """In the words and percents of `stcanet evaluate`; empty where nothing was validated."""
    if "val_mAP" not in values:
        return ""
    return f"validation mAP {100 * values['val_mAP']:.2f}, rank-1 {100 * values['val_rank1']:.2f}"


def _describe_resumed(resumed: dict[str, Any]) -> str:
    batches = f" and {counted(resumed['step'], 'batch', 'batches')}" if resumed["step"] else ""
    where = f"resumed after epoch {resumed['epoch']}{batches}"
    changed = "".join(f"; {name}: {before} → {now}" for name, (before, now) in resumed["changed"].items())
    return where + changed


class TrainingProgress:
    """Draws an epoch bar and a line per epoch on stderr; lines only where stderr is no terminal."""

    def __init__(self, epochs: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._epochs = epochs
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        live = (*columns, TextColumn("loss {task.fields[loss]:.3f}  acc {task.fields[acc]:.3f}  {task.fields[rate]:.0f} img/s"))
        self._bar = Bar(*live, console=self._console, disable=not self._console.is_terminal, transient=True)
        self._task = self._bar.add_task("reading images", total=None, loss=0.0, acc=0.0, rate=0.0)

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_read(self, done: int, total: int) -> None:
        """Move the bar, which shows the decoding of the images first."""
        self._bar.update(self._task, completed=done, total=total)

    def on_start(self, facts: dict[str, Any]) -> None:
        """Say what is trained on."""
        queries = counted(facts["val_queries"], "query", "queries")
        validation = f"validation {queries} in {facts['val_gallery']}" if facts["val_queries"] else "no validation"
        self._console.print(
            f"{facts['dataset']}: {facts['train_images']} {facts['kind']} of {facts['train_identities']} identities, "
            f"{validation}; {facts['device']}, {facts['precision']}, images from {facts['images_from']}",
            soft_wrap=True,
        )
        if "init" in facts:
            self._console.print(f"{'started' if 'resumed' in facts else 'starts'} from {facts['init']}", soft_wrap=True)
        for note in (*facts["dataset_notes"], *facts["notes"]):
            self._console.print(f"note: {note}", soft_wrap=True)
        if "resumed" in facts:
            self._console.print(_describe_resumed(facts["resumed"]), soft_wrap=True)

    def on_step(self, report: StepReport) -> None:
        """Move the bar."""
        # The bar runs over the whole run, so that the time left is that of the run.
        self._bar.update(
            self._task,
            description=f"epoch {report.epoch}/{self._epochs}",
            total=report.steps * self._epochs,
            completed=(report.epoch - 1) * report.steps + report.step,
            loss=report.loss,
            acc=report.accuracy,
            rate=report.images_per_second,
        )

    def on_epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Print the line of an epoch."""
        self._console.print(
            f"epoch {epoch:3d}/{self._epochs}  loss {values['loss']:.3f}  acc {values['accuracy']:.3f}  lr {values['lr']:.2e}  "
            f"{values['images_per_second']:.0f} img/s  {values['seconds']:.0f} s  {_validation(values)}".rstrip(),
            soft_wrap=True,
        )
