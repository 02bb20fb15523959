"""The picture of a calibration: error rates over the threshold, and where the distances of both kinds lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stcanet_runtime.files import save_picture
from stcanet_runtime.pictures.drawing import FAINT, INK, PAPER, font
from stcanet_runtime.retrieval.calibration import Calibration, Scores

_SCALE = 2  # drawn larger, then reduced: Pillow's lines have hard edges
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 1040, 430, 64, 92, 84
_PLOT_WIDTH, _PLOT_HEIGHT = 420, 270
_GRID, _IMPOSTOR, _GENUINE = (226, 226, 223), (208, 48, 48), (30, 120, 75)
_POINTS = 400
_BINS = 80
_DECADES = 5

Color = tuple[int, int, int]


def draw_calibration(calibration: Calibration, scores: Scores, out: str | Path) -> None:
    """Save FAR and FRR, and the distributions of distances, as a picture.

    Args:
        calibration: What was found.
        scores: The distances behind it.
        out: File to write; the suffix gives the format.
    """
    low = float(min(scores.genuine[0], scores.impostor[0]))
    high = float(max(scores.genuine[-1], scores.impostor[-1]))
    span = (low, high if high > low else low + 1)
    picture = Image.new("RGB", (_SCALE * _WIDTH, _SCALE * _HEIGHT), PAPER)
    draw = ImageDraw.Draw(picture)
    _text(draw, (_LEFT, 22), "Calibration", 22, INK)
    _text(draw, (_LEFT, 52), calibration.summary(), 13, FAINT)
    left = _Plot(draw, _LEFT, span, "error rate (logarithmic)")
    left.rates(scores)
    right = _Plot(draw, _LEFT + _PLOT_WIDTH + _GAP, span, "share of comparisons")
    right.distributions(scores)
    for plot in (left, right):
        plot.mark(calibration.threshold)
    save_picture(picture.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS), out)


class _Plot:
    """One pair of axes; y runs from 0 at the bottom to 1."""

    def __init__(self, draw: ImageDraw.ImageDraw, x: int, span: tuple[float, float], title: str) -> None:
        self._draw, self._x, self._span = draw, x, span
        _text(draw, (x, _TOP - 20), title, 13, INK)
        bottom = _TOP + _PLOT_HEIGHT
        self._line([(x, bottom), (x + _PLOT_WIDTH, bottom)], FAINT)
        for value in np.linspace(*span, 6):
            _text(draw, (self._place(value), bottom + 8), f"{value:.2f}", 12, FAINT, "ma")
        _text(draw, (x + _PLOT_WIDTH / 2, bottom + 28), "distance", 12, FAINT, "ma")

    def rates(self, scores: Scores) -> None:
        """FAR and FRR, each decade of the rate as high."""
        for decade in range(_DECADES):
            y = _TOP + _PLOT_HEIGHT * decade / _DECADES
            self._line([(self._x, y), (self._x + _PLOT_WIDTH, y)], _GRID)
            _text(self._draw, (self._x - 6, y), f"{10.0**-decade:g}", 12, FAINT, "rm")
        thresholds = np.linspace(*self._span, _POINTS).astype(np.float32)
        for rates, color, name, from_right in (
            (scores.far(thresholds), _IMPOSTOR, "FAR", 50),
            (scores.frr(thresholds), _GENUINE, "FRR", 0),
        ):
            heights = 1 + np.log10(np.maximum(rates, 10.0**-_DECADES)) / _DECADES
            shown = heights > 0
            self._curve(thresholds[shown], heights[shown], color)
            self._label(name, color, from_right)

    def distributions(self, scores: Scores) -> None:
        """Histograms, each with the height of the tallest bin of both."""
        edges = np.linspace(*self._span, _BINS + 1)
        shares = [np.histogram(values, edges)[0] / len(values) for values in (scores.impostor, scores.genuine)]
        tallest = max(float(share.max()) for share in shares)
        kinds = ((_IMPOSTOR, "different people", 90), (_GENUINE, "one person", 0))
        for share, (color, name, from_right) in zip(shares, kinds, strict=True):
            self._curve((edges[1:] + edges[:-1]) / 2, share / tallest * 0.92, color)
            self._label(name, color, from_right)

    def mark(self, threshold: float) -> None:
        """A line at the threshold."""
        x = self._place(threshold)
        for y in range(_TOP, _TOP + _PLOT_HEIGHT, 8):
            self._line([(x, y), (x, y + 4)], INK)
        _text(self._draw, (x + 6, _TOP + _PLOT_HEIGHT - 6), f"{threshold:.4f}", 12, INK, "ls")

    def _place(self, value: float) -> float:
        low, high = self._span
        return self._x + _PLOT_WIDTH * (value - low) / (high - low)

    def _curve(self, x: NDArray[np.floating], y: NDArray[np.floating], color: Color) -> None:
        points = [(self._place(float(a)), _TOP + _PLOT_HEIGHT * (1 - float(b))) for a, b in zip(x, y, strict=True)]
        self._line(points, color, 2)

    def _label(self, name: str, color: Color, from_right: int) -> None:
        _text(self._draw, (self._x + _PLOT_WIDTH - from_right, _TOP - 20), name, 13, color, "ra")

    def _line(self, points: list[tuple[float, float]], color: Color, width: int = 1) -> None:
        self._draw.line([(_SCALE * x, _SCALE * y) for x, y in points], color, _SCALE * width, joint="curve")


def _text(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, color: Color, anchor: str = "la"
) -> None:
    place = (_SCALE * place[0], _SCALE * place[1])
    # With an edge of the paper's colour, so that no curve below it crosses the letters.
    draw.text(place, text, color, font(_SCALE * size), anchor=anchor, stroke_width=2 * _SCALE, stroke_fill=PAPER)
