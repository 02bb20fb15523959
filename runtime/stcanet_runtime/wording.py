"""Words beside numbers, and errors of others in one line."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, one: str, many: str, form: str = "") -> str:
    """``1 query`` and ``2 queries``; the number is formatted as `form` says."""
    return f"{number:{form}} {one if number == 1 else many}"


def listed(names: Sequence[str]) -> str:
    """``a, b or c``."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def fault(error: Exception) -> str:
    """What is wrong with JSON from anybody, by what reading it raised."""
    return f"it has no field {error}" if isinstance(error, KeyError) else one_line(error)


def one_line(error: Exception) -> str:
    """What it says, or what it is called."""
    return " ".join(str(error).split()) or type(error).__name__
