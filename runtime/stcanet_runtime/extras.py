"""Packages that an extra brings: imported where they are needed, and missed in one line."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from stcanet_runtime.errors import MissingDependencyError


def import_extra(module: str, package: str, purpose: str, extra: str) -> Any:
    """The module.

    Args:
        module: Such as "av".
        package: Whose it is, as pip calls it.
        purpose: What needs it, for the message.
        extra: What brings it.

    Raises:
        MissingDependencyError: It is not installed, or does not load.
    """
    try:
        return import_module(module)
    except ImportError as error:
        # Another module is one that the package needs: it is there.
        missing = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        raise MissingDependencyError(package, purpose, extra, None if missing else error) from error
