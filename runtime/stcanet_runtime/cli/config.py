"""Options of all commands in one TOML file; what is given on the command line goes first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stcanet_runtime.errors import ConfigError, quote_choices
from stcanet_runtime.files import read_toml

_LOG = {"level": str, "json": bool}


def load_config(path: Path, app: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the file.

    Args:
        path: A table for each command, ``[gallery.search]`` for those of a group; keys are the names of options without their
            dashes, or of arguments. ``[log]`` has ``level`` and ``json``.
        app: The parsed application, whose commands and options are known.

    Returns:
        Defaults as the parser takes them, and ``[log]``.

    Raises:
        ConfigError: It cannot be read, is not TOML, or has a command, option or value that there is not.
    """
    tables = read_toml(path, "configuration")
    log = tables.pop("log", {})
    if not isinstance(log, dict) or any(name not in _LOG or not isinstance(value, _LOG[name]) for name, value in log.items()):
        raise ConfigError(f"{path}: [log] may have level (text) and json (true or false), got {log}")
    return _defaults(f"{path}: [", tables, app), log


def _defaults(place: str, tables: dict[str, Any], group: Any) -> dict[str, Any]:
    found = {}
    for name, table in tables.items():
        command = group.commands.get(name)
        if command is None:
            raise ConfigError(f"{place}{name}]: there is no such command; there are {quote_choices(sorted(group.commands))}")
        if not isinstance(table, dict):
            raise ConfigError(f"{place}{name}] must be a table of options")
        here = f"{place}{name}"
        found[name] = _defaults(f"{here}.", table, command) if hasattr(command, "commands") else _options(here, table, command)
    return found


def _options(place: str, table: dict[str, Any], command: Any) -> dict[str, Any]:
    params = {
        opt.lstrip("-"): param for param in command.params for opt in param.opts if not opt.startswith("-") or len(opt) > 2
    }
    for name, value in table.items():
        if name not in params:
            raise ConfigError(f"{place}] has no option '{name}'; there are {quote_choices(sorted(params))}")
        if (expected := _expected(params[name], value)) is not None:
            raise ConfigError(f"{place}] takes {expected} for '{name}', got {value!r}")
    return {params[name].name: value for name, value in table.items()}


def _expected(param: Any, value: Any) -> str | None:
    """What an option takes instead of this value; None where it is one. The parser would make text of any, also of a list."""
    many = param.nargs == -1 or getattr(param, "multiple", False)
    if many != isinstance(value, list):
        return "a list" if many else "one value"
    refused = dict | list if getattr(param, "is_flag", False) else dict | list | bool
    return "text or numbers" if any(isinstance(one, refused) for one in (value if many else [value])) else None
