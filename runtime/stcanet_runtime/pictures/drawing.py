"""What all pictures have in common: paper, ink and letters."""

from __future__ import annotations

from PIL import ImageFont

PAPER, INK, FAINT = (250, 250, 248), (32, 34, 38), (120, 124, 130)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The letters that Pillow brings, of so many pixels."""
    return ImageFont.load_default(size)


def text_width(text: str, size: int) -> float:
    """Of one line, in pixels."""
    return float(font(size).getlength(text))


def shorten(text: str, width: float, size: int) -> str:
    """`text`, or its end after an ellipsis where it is wider: paths and names of files differ in their ends."""
    if text_width(text, size) <= width:
        return text
    while text and text_width("…" + text, size) > width:
        text = text[1:]
    return "…" + text
