"""A line chart, drawn with Pillow: a plotting library would be the heaviest dependency of training, for this one page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from stcanet_runtime.pictures.drawing import FAINT, INK, font

WIDTH, HEIGHT = 560, 300  # pixels of the finished chart
_SCALE = 2  # it is drawn larger, and shown at half its size: sharp on dense screens
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 58, 34
_GRID = (228, 228, 224)
_COLORS = ((45, 95, 180), (214, 96, 40), (30, 140, 80), (150, 70, 160), (190, 150, 20), (70, 160, 180), (120, 80, 60))

Point = tuple[float, float]


def line_chart(title: str, series: Mapping[str, Sequence[Point]], epochs: Sequence[float] = ()) -> Image.Image:
    """Draw curves over epochs.

    Args:
        title: Headline.
        series: Points (epoch, value) of each curve by its name, in ascending order; values that are not finite are left out.
        epochs: What the axis goes over besides the epochs of the points: all of the run, of which a curve may have a few.

    Returns:
        RGB, twice WIDTH by HEIGHT.
    """
    curves = {name: [point for point in points if math.isfinite(point[1])] for name, points in series.items()}
    curves = {name: points for name, points in curves.items() if points}
    image = Image.new("RGB", (WIDTH * _SCALE, HEIGHT * _SCALE), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    _text(draw, (_LEFT, 12), title, INK, 16, "lt")
    if not curves:
        _text(draw, (WIDTH / 2, HEIGHT / 2), "no values", FAINT, 14, "mm")
        return image
    x_ticks, y_ticks = _axes(list(curves.values()), epochs)
    place = _Plane(x_ticks, y_ticks)
    _draw_grid(draw, place, x_ticks, y_ticks)
    _draw_legend(draw, list(curves))
    for index, points in enumerate(curves.values()):
        _draw_curve(draw, [place(point) for point in points], _COLORS[index % len(_COLORS)])
    return image


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers, 1, 2 or 5 times a power of ten apart, from at or below `low` to at or above `high`."""
    span = (high - low) or abs(high) or 1.0
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def tick_labels(values: Sequence[float]) -> list[str]:
    """Texts of two or more ticks a step apart, with the digits that tell one from the next."""
    step = math.floor(math.log10(values[1] - values[0]) + 1e-9)
    largest = max(abs(value) for value in values)
    if 0.01 <= largest < 1e5:
        return [f"{value:.{max(0, -step)}f}" for value in values]
    return [f"{value:.{math.floor(math.log10(largest) + 1e-9) - step + 1}g}" for value in values]


class _Plane:
    """Maps (epoch, value) to pixels."""

    def __init__(self, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> None:
        self._x, self._y = (x_ticks[0], x_ticks[-1]), (y_ticks[0], y_ticks[-1])

    def __call__(self, point: Point) -> Point:
        x = (point[0] - self._x[0]) / (self._x[1] - self._x[0])
        y = (point[1] - self._y[0]) / (self._y[1] - self._y[0])
        return _LEFT + x * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - y * (HEIGHT - _TOP - _BOTTOM)


def _axes(curves: Sequence[Sequence[Point]], more: Sequence[float] = ()) -> tuple[list[float], list[float]]:
    epochs = [*more, *(epoch for points in curves for epoch, _ in points)]
    values = [value for points in curves for _, value in points]
    low = min(values)
    if 0.0 < low < 0.6 * max(values):
        low = 0.0
    x_ticks = [tick for tick in ticks(min(epochs), max(epochs), 8) if tick == round(tick)]
    # Epochs are whole: the axis goes from the first to the last, not to round numbers beyond them.
    last = max(epochs)
    first = min(*epochs, last - 1)  # a single one ends where it began: at the epoch before
    return [first, *(tick for tick in x_ticks if first < tick < last), last], ticks(low, max(values))


def _draw_grid(draw: ImageDraw.ImageDraw, place: _Plane, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> None:
    for tick, label in zip(y_ticks, tick_labels(y_ticks), strict=True):
        _, y = place((x_ticks[0], tick))
        _line(draw, [(_LEFT, y), (WIDTH - _RIGHT, y)], _GRID, 1)
        _text(draw, (_LEFT - 8, y), label, FAINT, 12, "rm")
    right = math.inf
    for tick in reversed(x_ticks):  # the last epoch has its label for certain; one that would touch it has none
        x, y = place((tick, y_ticks[0]))
        if right - x >= 26 or math.isinf(right):
            _text(draw, (x, y + 10), f"{tick:g}", FAINT, 12, "mt")
            right = x


def _draw_legend(draw: ImageDraw.ImageDraw, names: Sequence[str]) -> None:
    x = float(_LEFT)
    for index, name in enumerate(names):
        _line(draw, [(x, 43), (x + 16, 43)], _COLORS[index % len(_COLORS)], 3)
        _text(draw, (x + 22, 43), name, FAINT, 12, "lm")
        x += 22 + draw.textlength(name, font(12 * _SCALE)) / _SCALE + 16


def _draw_curve(draw: ImageDraw.ImageDraw, points: Sequence[Point], color: tuple[int, int, int]) -> None:
    if len(points) > 1:
        _line(draw, points, color, 2)
    for x, y in points if len(points) <= 30 else ():
        draw.ellipse([value * _SCALE for value in (x - 3, y - 3, x + 3, y + 3)], color)


def _line(draw: ImageDraw.ImageDraw, points: Sequence[Point], color: tuple[int, int, int], width: int) -> None:
    draw.line([(x * _SCALE, y * _SCALE) for x, y in points], color, width * _SCALE, joint="curve")


def _text(draw: ImageDraw.ImageDraw, place: Point, text: str, color: tuple[int, int, int], size: int, anchor: str) -> None:
    draw.text((place[0] * _SCALE, place[1] * _SCALE), text, color, font(size * _SCALE), anchor=anchor)
