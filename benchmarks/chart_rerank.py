"""The picture of README.md: time and memory of re-ranking, from `bench_rerank`'s result file, for `tables`."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from tables_rerank import GIB, shape

_LEFT_OUT = ("1 thread", "jit, top", "numpy, top")  # of ours: what others are, and how fast, is all there
_LABELS, _PANEL, _GAP = 265, 190, 60  # widths
_TOP, _STEP, _BAR = 66, 26, 16  # heights
_OURS, _THEIRS, _INK, _FAINT, _PAPER = "#2d6cb4", "#b9bcc1", "#202226", "#6b6f76", "#fafaf8"

Row = tuple[str, bool, dict[str, Any]]
"""Name, whether it is ours, figures."""


def rerank_chart(report: dict[str, Any]) -> str:
    """Horizontal bars as SVG; on paper of its own, so that it can be read on a dark page, too."""
    rows = _rows(report["results"]["rerank"])
    width, height = _LABELS + 2 * (_PANEL + _GAP), _TOP + _STEP * len(rows) + 12
    title = f"Re-ranking of {shape(report['sizes'])}"
    bars = [
        *_panel(rows, "wall_s", 1.0, "seconds", _LABELS),
        *_panel(rows, "peak_over_start_bytes", GIB, "GiB of memory besides the inputs", _LABELS + _PANEL + _GAP),
    ]
    labels = [
        _text(_LABELS - 12, _middle(place), name, _INK if ours else _FAINT, "end") for place, (name, ours, _) in enumerate(rows)
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="{escape(title)}">'
    )
    return "\n".join(
        [
            head,
            f'<rect width="{width}" height="{height}" rx="8" fill="{_PAPER}"/>',
            f'<text x="18" y="27" font-size="15" fill="{_INK}">{escape(title)}</text>',
            *labels,
            *bars,
            "</svg>\n",
        ]
    )


def _rows(results: dict[str, dict[str, Any]]) -> list[Row]:
    measured = {name: row for name, row in results.items() if "error" not in row}
    return [
        (name, name.startswith("ours"), row) for name, row in measured.items() if not any(part in name for part in _LEFT_OUT)
    ]


def _panel(rows: list[Row], key: str, unit: float, title: str, x: int) -> Iterator[str]:
    longest = max(row[key] for _, _, row in rows)
    yield _text(x, _TOP - 12, title, _FAINT)
    for place, (_, ours, row) in enumerate(rows):
        length = max(2.0, _PANEL * row[key] / longest)
        y = _TOP + place * _STEP
        yield f'<rect x="{x}" y="{y}" width="{length:.1f}" height="{_BAR}" rx="2" fill="{_OURS if ours else _THEIRS}"/>'
        value = row[key] / unit
        yield _text(x + length + 6, _middle(place), f"{value:.1f}" if value >= 1 else f"{value:.2f}", _INK)


def _middle(place: int) -> float:
    return _TOP + place * _STEP + _BAR / 2 + 4.5


def _text(x: float, y: float, text: str, color: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" text-anchor="{anchor}">{escape(text)}</text>'
