"""Names of a package whose modules are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from stcanet_runtime.errors import MissingDependencyError


def lazy_names(
    package: str, names: Mapping[str, Sequence[str]], extras: Mapping[str, str] | None = None
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The functions ``__getattr__`` and ``__dir__`` of a package.

    Args:
        package: Its ``__name__``.
        names: By the module that has them, below the package. No module may be called as one of the names: once imported, it
            would take the place of it.
        extras: Optional packages that the modules import, and what brings each: where one is missing, the name is a
            MissingDependencyError.
    """
    module_of = {name: module for module, held in names.items() for name in held}
    found = vars(sys.modules[package])

    def get(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            module = import_module(f"{package}.{module_of[name]}")
        except ModuleNotFoundError as error:
            if extra := (extras or {}).get(error.name or ""):
                raise MissingDependencyError(str(error.name), f"{package}.{name}", extra) from error
            raise
        found[name] = getattr(module, name)
        return found[name]

    def listed() -> list[str]:
        return sorted({*found, *module_of})

    return get, listed
