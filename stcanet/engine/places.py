"""Settings that name files, such that they lead there from any working folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stcanet.config import IMAGENET, NO_WEIGHTS, TrainConfig
from stcanet.data.datasets import parse_source
from stcanet_runtime.errors import ConfigError


def located(config: TrainConfig) -> TrainConfig:
    """The same settings with whole paths: what a run keeps, so that it is resumed and reported on from anywhere.

    Links are not followed, since they may be there to be moved. What is not there stays as it is: runs of earlier versions kept
    paths as they were given, which lead nowhere from another folder.

    Raises:
        ConfigError: A path is not UTF-8, as the file of the settings is.
    """
    weights = config.backbone_weights
    return replace(
        config,
        data=_source(config.data),
        masks=_if_there(config.masks),
        init=_if_there(config.init),
        backbone_weights=weights if weights in (IMAGENET, NO_WEIGHTS) else _if_there(weights),
        cache_dir=_whole(config.cache_dir) if config.cache_dir else "",  # it need not be there yet
    )


def _source(data: str) -> str:
    layout, _, path = parse_source(data)
    label = "" if layout is None else f"{data.partition('=')[0]}="
    return f"{label}{_whole(path)}" if path.exists() else data


def _if_there(path: str) -> str:
    return _whole(path) if path and Path(path).exists() else path


def _whole(path: str | Path) -> str:
    whole = str(Path(path).absolute())  # with .. in it: after a link that is not the folder above
    try:
        whole.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{whole!r} is not UTF-8, as the settings of a run are; rename it, or pass a link to it") from None
    return whole
