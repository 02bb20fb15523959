"""Words beside numbers."""

from __future__ import annotations


def counted(number: int, one: str, many: str) -> str:
    """``1 query`` and ``2 queries``."""
    return f"{number} {one if number == 1 else many}"
