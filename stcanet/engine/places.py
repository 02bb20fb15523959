"""Settings that name files, such that they lead there from any working folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stcanet.config import IMAGENET, NO_WEIGHTS, TrainConfig
from stcanet.data.datasets import split_source
from stcanet_runtime.errors import ConfigError


def located(config: TrainConfig) -> TrainConfig:
    """The same settings with whole paths: what a run keeps, so that it is resumed and reported on from anywhere.

    Links are not followed, since they may be there to be moved.

    Raises:
        ConfigError: A path is not UTF-8, as the file of the settings is.
    """
    weights = config.backbone_weights
    return replace(
        config,
        data=_source(config.data),
        masks=_whole(config.masks),
        init=_whole(config.init),
        backbone_weights=weights if weights in (IMAGENET, NO_WEIGHTS) else _whole(weights),
        cache_dir=_whole(config.cache_dir),
    )


def _source(data: str) -> str:
    label, path = split_source(data)
    return f"{label}={_whole(path)}" if label else _whole(path)


def _whole(path: str | Path) -> str:
    """The whole path; empty, where none is given, it stays."""
    if path == "":
        return ""
    whole = str(Path(path).absolute())  # with .. in it: after a link that is not the folder above
    try:
        whole.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{whole!r} is not UTF-8, as the settings of a run are; rename it, or pass a link to it") from None
    return whole
