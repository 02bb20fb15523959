"""Values of settings, checked against the types of the fields that they are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from stcanet_runtime.errors import ConfigError, OptionError, quote_choices


class UnknownSettingError(ConfigError):
    """There is no setting of that name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        super().__init__(f"unknown setting {name}; known are {quote_choices(known)}")


_VALUES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def typed(kind: type, values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of fields of a dataclass, each as the type that the field has; nothing is rounded or parsed.

    Args:
        kind: The dataclass.
        values: By the names of fields, as TOML gives them; "none" is None where a field may be None.
        prefix: Before the names in messages, such as ``model.``.

    Raises:
        UnknownSettingError: There is no such field.
        ConfigError: A value is of another type.
    """
    hints = get_type_hints(kind)
    known = [item.name for item in fields(kind)]
    if unknown := sorted(map(str, set(values) - set(known))):
        raise UnknownSettingError(f"{prefix}{unknown[0]}", known)
    return {name: _convert(hints[name], value, f"{prefix}{name}") for name, value in values.items()}


def check_choices(settings: object, prefix: str = "") -> None:
    """Raise OptionError where a field of a dataclass is none of the choices that its type names."""
    for name, hint in get_type_hints(type(settings)).items():
        if get_origin(hint) is Literal and getattr(settings, name) not in get_args(hint):
            raise OptionError(f"{prefix}{name}", getattr(settings, name), quote_choices(get_args(hint)))


def _convert(hint: Any, value: Any, name: str, alternative: str = "") -> Any:
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name} must be a table of settings, got {value!r}")
        return hint(**typed(hint, value, f"{name}."))  # type: ignore[arg-type, operator]
    if get_origin(hint) is UnionType:
        return None if value in (None, "none") else _convert(hint.__args__[0], value, name, " or none")
    if get_origin(hint) is Mapping and not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be a table of settings, got {value!r}")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in _VALUES:
        if type(value) is not hint:
            raise ConfigError(f"{name} must be {_VALUES[hint]}{alternative}, got {value!r}")
        return value
    if get_origin(hint) is tuple:
        item = hint.__args__[0]
        length = None if Ellipsis in hint.__args__ else len(hint.__args__)
        if not isinstance(value, (list, tuple)) or (length is not None and len(value) != length):
            raise ConfigError(f"{name} must be a list of {length or 'any number of'} values, got {value!r}")
        return tuple(_convert(item, entry, name) for entry in value)
    return value
