"""A picture of ranked lists: each query with its matches, right and wrong ones told apart by their frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from stcanet_runtime.errors import ShapeError
from stcanet_runtime.files import save_picture
from stcanet_runtime.pictures.drawing import FAINT, INK, PAPER, font, shorten, text_width
from stcanet_runtime.preprocess import ImageSource, load_image, resize

_CELL_WIDTH, _CELL_HEIGHT = 96, 192  # of an image, in pixels; crops of people are about 1 : 2
_FRAME, _GAP, _MARGIN, _QUERY_GAP = 5, 12, 28, 30
_TEXT, _SMALL = 15, 13
_LABEL_HEIGHT, _TITLE_HEIGHT = 42, 64

_QUERY, _RIGHT, _WRONG, _UNKNOWN = (45, 75, 160), (30, 150, 75), (208, 48, 48), (150, 153, 158)

_COLOR_OF = {True: _RIGHT, False: _WRONG, None: _UNKNOWN}
_BADGE = 18
_BADGE_STROKES = {
    True: (((0.27, 0.53), (0.44, 0.70), (0.74, 0.33)),),
    False: (((0.31, 0.31), (0.69, 0.69)), ((0.31, 0.69), (0.69, 0.31))),
}
_OVERSAMPLE = 4


@dataclass(frozen=True)
class Match:
    """One gallery image in a ranked list."""

    image: ImageSource
    """Path, PIL image, or RGB array."""
    distance: float
    correct: bool | None = None
    """Whether it shows the query's identity; None where that is not known."""
    label: str = ""
    """Small second line, such as identity and camera."""


@dataclass(frozen=True)
class SheetRow:
    """A query with its ranked matches, the closest first."""

    query: ImageSource
    matches: Sequence[Match]
    label: str = ""


def ranked_sheet(rows: Sequence[SheetRow], out: str | Path, title: str = "Ranked matches", subtitle: str = "") -> None:
    """Draw ranked lists and save the picture, atomically.

    Args:
        rows: Queries, from top to bottom; their lists may differ in length.
        out: File to write; the suffix gives the format.
        title: Headline.
        subtitle: Smaller text beside the legend.

    Raises:
        ShapeError: There are no rows.
        ImageError: A crop cannot be read.
        OptionError: The suffix is of no known format.
    """
    if not rows:
        raise ShapeError("a sheet needs at least one row")
    save_picture(draw_sheet(rows, title, subtitle), out)


def draw_sheet(rows: Sequence[SheetRow], title: str, subtitle: str) -> Image.Image:
    """The picture that :func:`ranked_sheet` saves."""
    columns = max(len(row.matches) for row in rows)
    width = max(2 * _MARGIN + _step_x() + _QUERY_GAP + columns * _step_x() - _GAP, 560)
    height = 2 * _MARGIN + _TITLE_HEIGHT + len(rows) * _step_y() - _GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_head(draw, rows, title, subtitle)
    for index, row in enumerate(rows):
        _draw_row(sheet, draw, row, _MARGIN + _TITLE_HEIGHT + index * _step_y())
    return sheet


def _step_x() -> int:
    return _CELL_WIDTH + 2 * _FRAME + _GAP


def _step_y() -> int:
    return _CELL_HEIGHT + 2 * _FRAME + _LABEL_HEIGHT + _GAP


def _draw_head(draw: ImageDraw.ImageDraw, rows: Sequence[SheetRow], title: str, subtitle: str) -> None:
    draw.text((_MARGIN, _MARGIN - 8), title, INK, font(22))
    x = float(_MARGIN)
    seen = {match.correct for row in rows for match in row.matches}
    legend = [(_QUERY, "query")]
    if seen - {None}:
        legend += [(_RIGHT, "same person"), (_WRONG, "another person"), *([(_UNKNOWN, "not known")] if None in seen else [])]
    else:
        legend.append((_UNKNOWN, "match"))
    for color, text in legend:
        draw.rounded_rectangle((x, _MARGIN + 27, x + 12, _MARGIN + 39), 3, color)
        draw.text((x + 18, _MARGIN + 24), text, FAINT, font(_SMALL))
        x += 18 + text_width(text, _SMALL) + 18
    draw.text((x, _MARGIN + 24), subtitle, FAINT, font(_SMALL))


def _digits(distance: float) -> str:
    """As many as tell one from another, of a network too whose distances are all tiny."""
    return f"{distance:.3f}" if distance >= 0.01 or distance == 0 else f"{distance:.3g}"


def _draw_row(sheet: Image.Image, draw: ImageDraw.ImageDraw, row: SheetRow, y: int) -> None:
    _draw_cell(sheet, draw, row.query, (_MARGIN, y), _QUERY, ("query", row.label))
    x = _MARGIN + _step_x() + _QUERY_GAP // 2
    draw.line((x - _GAP // 2 - 1, y, x - _GAP // 2 - 1, y + _CELL_HEIGHT + 2 * _FRAME), (215, 215, 212), 1)
    for index, match in enumerate(row.matches):
        place = (x + _QUERY_GAP // 2 + index * _step_x(), y)
        _draw_cell(sheet, draw, match.image, place, _COLOR_OF[match.correct], (_digits(match.distance), match.label))
        if match.correct is not None:
            badge = _badge(match.correct)
            sheet.paste(badge, (place[0] + _CELL_WIDTH + 2 * _FRAME - _BADGE, y), badge)


def _badge(correct: bool) -> Image.Image:
    """A tick or a cross: green and red are one colour to one man in twelve."""
    size = _BADGE * _OVERSAMPLE
    badge = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    draw = ImageDraw.Draw(badge)
    draw.ellipse((0, 0, size - 1, size - 1), _COLOR_OF[correct])
    for stroke in _BADGE_STROKES[correct]:
        draw.line([(x * size, y * size) for x, y in stroke], (255, 255, 255), size // 8, joint="curve")
    return badge.resize((_BADGE, _BADGE), Image.Resampling.LANCZOS)


def _draw_cell(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    source: ImageSource,
    place: tuple[int, int],
    color: tuple[int, int, int],
    lines: tuple[str, str],
) -> None:
    x, y = place
    width, height = _CELL_WIDTH + 2 * _FRAME, _CELL_HEIGHT + 2 * _FRAME
    draw.rounded_rectangle((x, y, x + width - 1, y + height - 1), _FRAME, color)
    crop = resize(load_image(source, "rgb"), _CELL_HEIGHT, _CELL_WIDTH)
    sheet.paste(Image.fromarray(crop), (x + _FRAME, y + _FRAME))
    draw.text((x + width / 2, y + height + 4), lines[0], color, font(_TEXT), anchor="ma")
    draw.text((x + width / 2, y + height + 23), shorten(lines[1], width, _SMALL), FAINT, font(_SMALL), anchor="ma")
