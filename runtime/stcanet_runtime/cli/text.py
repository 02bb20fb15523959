"""Names of others on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with escapes for what a terminal would obey and not show: names in a file may come from anybody."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
