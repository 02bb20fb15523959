"""From TOML files and ``key=value`` overrides to a validated configuration.

A file has the shape of :class:`~stcanet.config.TrainConfig`: its keys at the top level, and the tables ``[model]``
(settings of the preset to replace), ``[augment]``, ``[clips]``, ``[loss]`` and ``[optim]``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from stcanet.config.training import TrainConfig
from stcanet_runtime.errors import ConfigError, quote_choices
from stcanet_runtime.files import read_toml

T = TypeVar("T")

_VALUES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


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
    return _build(TrainConfig, merged, "")


def parse_override(text: str) -> dict[str, Any]:
    """``optim.lr=1e-3`` as a nested dictionary; the value is TOML, or else a plain string.

    Raises:
        ConfigError: There is no ``=`` in it.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"a setting is given as key=value, for example optim.lr=1e-3, got '{text}'")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    return parsed  # type: ignore[no-any-return]


def _merge(base: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = dict(value) if isinstance(value, Mapping) else value


def _build(kind: type[T], values: Mapping[str, Any], prefix: str) -> T:
    hints = get_type_hints(kind)
    known = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(known)):
        raise ConfigError(f"unknown setting {prefix}{unknown[0]}; known are {quote_choices(known)}")
    return kind(**{name: _convert(hints[name], value, f"{prefix}{name}") for name, value in values.items()})


def _convert(hint: Any, value: Any, name: str) -> Any:
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name} must be a table of settings, got {value!r}")
        return _build(hint, value, f"{name}.")  # type: ignore[arg-type]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in _VALUES:
        if type(value) is not hint:
            raise ConfigError(f"{name} must be {_VALUES[hint]}, got {value!r}")
        return value
    if getattr(hint, "__origin__", None) is tuple:
        item = hint.__args__[0]
        length = None if Ellipsis in hint.__args__ else len(hint.__args__)
        if not isinstance(value, (list, tuple)) or (length is not None and len(value) != length):
            raise ConfigError(f"{name} must be a list of {length or 'any number of'} values, got {value!r}")
        return tuple(_convert(item, entry, name) for entry in value)
    return value
