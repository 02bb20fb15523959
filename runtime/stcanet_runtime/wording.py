"""Words beside numbers."""

from __future__ import annotations


def counted(number: int, one: str, many: str, form: str = "") -> str:
    """``1 query`` and ``2 queries``; the number is formatted as `form` says."""
    return f"{number:{form}} {one if number == 1 else many}"
