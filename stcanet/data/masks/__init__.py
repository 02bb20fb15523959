"""Part masks: on disk in two layouts, and made from human-parsing labels. No torch here."""

from __future__ import annotations

from stcanet.data.masks.folder import MaskFolder
from stcanet.data.masks.layout import COLORS, save_indexed

__all__ = ["COLORS", "MaskFolder", "save_indexed"]
