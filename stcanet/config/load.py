"""From TOML files and ``key=value`` overrides to a validated configuration.

A file has the shape of :class:`~stcanet.config.TrainConfig`: its keys at the top level, and the tables ``[model]``
(settings of the preset to replace), ``[augment]``, ``[clips]``, ``[loss]`` and ``[optim]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

from stcanet.config.model import ModelConfig
from stcanet.config.training import TrainConfig
from stcanet.config.values import UnknownSettingError, typed
from stcanet_runtime.errors import ConfigError
from stcanet_runtime.files import parse_toml, read_toml


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML configuration; raises as :func:`stcanet_runtime.files.read_toml`."""
    return read_toml(path, "configuration")


def make_config(*layers: Mapping[str, Any]) -> TrainConfig:
    """Merge layers of settings, later ones winning key by key, into a validated configuration.

    Raises:
        ConfigError: A key is unknown or missing, or a value has the wrong type.
        OptionError: A value is out of range.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        _merge(merged, layer)
    if "data" not in merged:
        raise ConfigError("no training data: pass --data PATH, or set data in the configuration file")
    try:
        return TrainConfig(**typed(TrainConfig, merged))
    except UnknownSettingError as error:
        near = _nearest(error.name)
        raise ConfigError(f"unknown setting {error.name}; did you mean {near}?") if near else error from None


def parse_override(text: str) -> dict[str, Any]:
    """``optim.lr=1e-3`` as a nested dictionary; the value is TOML, or else a plain string.

    Raises:
        ConfigError: There is no ``=`` in it.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"a setting is given as key=value, for example optim.lr=1e-3, got '{text}'")
    try:
        parsed = parse_toml(f"value = {value}")["value"]
    except ValueError:
        parsed = value
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    return parsed  # type: ignore[no-any-return]


def _nearest(name: str) -> str:
    """The setting whose last name is that of `name`, or the most like it; empty where none is."""
    known = {full.rpartition(".")[2]: full for full in [*_names(ModelConfig, "model."), *_names(TrainConfig)]}
    return next((known[last] for last in get_close_matches(name.rpartition(".")[2], known, 1, 0.75)), "")


def _names(kind: type, prefix: str = "") -> Iterator[str]:
    """The whole names of all settings below a dataclass."""
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            yield from _names(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            yield f"{prefix}{name}"


def _merge(base: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = dict(value) if isinstance(value, Mapping) else value
