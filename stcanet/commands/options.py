"""Options that several commands of training have, beside those of the runtime: each with one name, help and check."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from stcanet.config import PRESETS, check_blocks, check_device
from stcanet_runtime.cli.options import check_choice, check_value


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


BLOCKS = Annotated[
    str | None,
    typer.Option(
        callback=_check_blocks,
        metavar="none|2,3",
        help="Stages with attention after them.",
        show_default="those of the preset",
    ),
]
