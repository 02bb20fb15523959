"""The picture of a matrix of models and data sets: a heat map with the numbers in it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from stcanet.evaluation.matrix import Cell, Matrix
from stcanet_runtime.files import save_picture
from stcanet_runtime.pictures.drawing import FAINT, INK, PAPER, font, shorten, text_width

_CELL_WIDTH, _CELL_HEIGHT, _GAP, _MARGIN = 150, 76, 4, 28
_TITLE, _NUMBER, _LABEL, _SMALL = 22, 17, 15, 13
_LABEL_WIDTH = 260  # the longest label that is shown whole, in pixels
_HEAD_HEIGHT, _COLUMN_HEIGHT, _FOOT_HEIGHT = 58, 30, 44
_HOME, _FAILED = (208, 120, 30), (226, 226, 222)
_SCALE = ((236, 240, 247), (120, 160, 210), (20, 50, 110))
"""Colours of mAP 0, 50 and 100."""


def draw_heatmap(matrix: Matrix, out: Path, protocol: str) -> None:
    """Write the picture of a matrix, atomically; the suffix gives the format.

    Args:
        matrix: Rows are models, columns data sets. A cell is coloured by mAP and says mAP / rank-1, re-ranked below.
        out: File to write.
        protocol: One line for the foot of the picture.
    """
    save_picture(heatmap(matrix, protocol), out)


def heatmap(matrix: Matrix, protocol: str) -> Image.Image:
    """The picture that :func:`draw_heatmap` saves."""
    labels = max(text_width(label, _LABEL) for label in matrix.models)
    left = _MARGIN + int(min(labels, _LABEL_WIDTH)) + 16
    top = _MARGIN + _HEAD_HEIGHT + _COLUMN_HEIGHT
    head, foot = "Models on data sets", _foot(matrix, protocol)
    legend = "mAP / rank-1 in percent" + (", re-ranked below" if _reranked(matrix) else "")
    width = left + len(matrix.datasets) * (_CELL_WIDTH + _GAP) + _MARGIN
    width = max(width, *(_MARGIN * 2 + int(text_width(line, _SMALL)) for line in (legend, *foot)))
    height = top + len(matrix.models) * (_CELL_HEIGHT + _GAP) + _FOOT_HEIGHT + _MARGIN
    picture = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, _MARGIN - 8), head, INK, font(_TITLE))
    draw.text((_MARGIN, _MARGIN + 24), legend, FAINT, font(_SMALL))
    for column, name in enumerate(matrix.datasets):
        x = left + column * (_CELL_WIDTH + _GAP) + _CELL_WIDTH / 2
        draw.text((x, top - 8), shorten(name, _CELL_WIDTH, _LABEL), INK, font(_LABEL), anchor="ms")
    for row, (name, cells) in enumerate(matrix.rows()):
        y = top + row * (_CELL_HEIGHT + _GAP)
        draw.text((left - 12, y + _CELL_HEIGHT / 2), shorten(name, _LABEL_WIDTH, _LABEL), INK, font(_LABEL), anchor="rm")
        for column, cell in enumerate(cells):
            _draw_cell(draw, cell, left + column * (_CELL_WIDTH + _GAP), y)
    for number, line in enumerate(foot):
        draw.text((_MARGIN, height - _FOOT_HEIGHT - _MARGIN / 2 + 20 * number), line, FAINT, font(_SMALL))
    return picture


def _draw_cell(draw: ImageDraw.ImageDraw, cell: Cell, x: int, y: int) -> None:
    share = None if cell.result is None else cell.result.plain.mAP
    fill = _FAILED if share is None else _color(share)
    box = (x, y, x + _CELL_WIDTH - 1, y + _CELL_HEIGHT - 1)
    draw.rounded_rectangle(box, 6, fill, outline=_HOME if cell.at_home else None, width=3)
    ink = INK if sum(fill) > 3 * 140 else PAPER
    lines = cell.texts()
    for number, line in enumerate(lines):
        offset = (number - (len(lines) - 1) / 2) * (_NUMBER + 8)
        draw.text((x + _CELL_WIDTH / 2, y + _CELL_HEIGHT / 2 + offset), line, ink, font(_NUMBER), anchor="mm")


def _foot(matrix: Matrix, protocol: str) -> list[str]:
    home = any(cell.at_home for cell in matrix.cells)
    return [protocol, *(["framed: trained on a data set of this name"] if home else [])]


def _reranked(matrix: Matrix) -> bool:
    return any(cell.result is not None and cell.result.reranked is not None for cell in matrix.cells)


def _color(share: float) -> tuple[int, int, int]:
    """Between the colours of the scale, for a share in 0..1."""
    place = share * (len(_SCALE) - 1)
    index = min(int(place), len(_SCALE) - 2)
    low, high = _SCALE[index], _SCALE[index + 1]
    red, green, blue = (round(a + (place - index) * (b - a)) for a, b in zip(low, high, strict=True))
    return red, green, blue
