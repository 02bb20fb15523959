"""Options that several commands of training have, beside those of the runtime: each with one name, help and check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from stcanet.config import PRESETS, check_blocks, check_device
from stcanet_runtime.cli.options import check_choice, check_value, provider_option

if TYPE_CHECKING:
    from stcanet.data.datasets import ReIDDataset
    from stcanet.evaluation import EvaluationSettings
    from stcanet_runtime.inference.tracklets import Frames
    from stcanet_runtime.retrieval.figures import APRule

DATA_HELP = "Folder of a data set, NAME[:VARIANT]=FOLDER, or a .csv manifest; see `stcanet datasets`."
"""Of every option that takes a data set."""


def preset_option(what: str, **settings: Any) -> Any:
    """An option that names a preset; its help begins with what it is for."""
    return typer.Option(callback=_check_preset, help=f"{what}: {', '.join(PRESETS)}.", **settings)


def _check_preset(name: str | None) -> str | None:
    return check_choice(name, PRESETS)


def parse_blocks(text: str) -> tuple[int, ...]:
    """Stages from ``none`` or ``2,3``; raises as :func:`~stcanet.config.check_blocks`."""
    names = [] if text == "none" else text.split(",")
    stages = tuple(int(name) if name.isdecimal() else 0 for name in names)  # 0 is no stage
    check_blocks(stages)
    return stages


def device_option(what: str = "", **settings: Any) -> Any:
    """An option that names a device; its help begins with what it is for."""
    return typer.Option(callback=_check_device, help=f"{what}auto, cpu, cuda or cuda:N.", **settings)


def _check_device(name: str | None) -> str | None:
    return check_value(name, check_device)


def _check_blocks(text: str | None) -> str | None:
    return check_value(text, parse_blocks)


def _check_ap(name: str) -> str:
    from stcanet_runtime.retrieval.figures import AP_RULES

    return check_choice(name, AP_RULES)


def _check_frames(name: str) -> str:
    from stcanet_runtime.inference.tracklets import FRAMES

    return check_choice(name, FRAMES)


BLOCKS = Annotated[
    str | None,
    typer.Option(
        callback=_check_blocks,
        metavar="none|2,3",
        help="Stages with attention after them.",
        show_default="those of the preset",
    ),
]
DEVICE = Annotated[str, device_option("For checkpoints: ")]
PROVIDER = Annotated[str, provider_option("For packages")]
BATCH_SIZE = Annotated[
    int, typer.Option(min=1, help="Images, or frames of tracklets, per forward pass: sets the memory, not the figures.")
]
FRAMES = Annotated[
    str,
    typer.Option(callback=_check_frames, help="Of tracklets: all, in consecutive clips, or quick, one clip."),
]
CLIP_LENGTH = Annotated[
    int | None, typer.Option(min=1, help="Frames of a clip, for models of clips.", show_default="the model's own")
]
AP = Annotated[
    str,
    typer.Option(
        callback=_check_ap,
        help="Average precision. rectangle: mean of the precision at each hit; trapezoid: as the authors of Market-1501.",
    ),
]
FLIP = Annotated[bool, typer.Option("--flip", help="Average the embeddings of each image and its mirror image.")]


def check_place(models: Sequence[Path], device: str, provider: str) -> None:
    """BadParameter where an option is given that is for none of the models."""
    from stcanet.evaluation.models import is_package

    if provider != "auto" and not any(map(is_package, models)):
        raise typer.BadParameter("is for model packages; a checkpoint runs on a --device", param_hint="'--provider'")
    if device != "auto" and all(map(is_package, models)):
        raise typer.BadParameter("is for checkpoints; a model package runs by a --provider", param_hint="'--device'")


def read_dataset(source: str) -> ReIDDataset:
    """The data set of an option, its notes on stderr."""
    from stcanet.data.datasets import load_dataset
    from stcanet_runtime.cli.text import printable

    dataset = load_dataset(source)
    for note in dataset.notes:
        typer.echo(printable(f"note: {note}"), err=True)
    return dataset


def make_settings(
    frames: str,
    clip_length: int | None,
    flip: bool,
    metric: str,
    ap: str,
    rerank: bool,
    k1: int,
    k2: int,
    lambda_value: float,
    batch_size: int,
) -> EvaluationSettings:
    """The options that `evaluate` and `cross` share, as settings."""
    from stcanet.evaluation import EvaluationSettings
    from stcanet_runtime.inference.tracklets import Sampling
    from stcanet_runtime.retrieval.rerank import Reranking

    reranking = Reranking(k1, k2, lambda_value) if rerank else None
    return EvaluationSettings(
        Sampling(cast("Frames", frames), clip_length, flip), metric, reranking, batch_size, cast("APRule", ap)
    )
