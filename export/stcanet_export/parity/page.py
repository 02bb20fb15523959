"""The parity report as one HTML file that opens offline: verdict, checks, and the error of every layer as a plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from stcanet.report.page import Section, paragraph, render_page, table
from stcanet_export.parity.report import LayerError, ParityReport
from stcanet_runtime.wording import counted

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 1000, 260, 60, 24
_STYLE = "width: 100%; height: auto; font: 11px system-ui, sans-serif; fill: #444"


def html_report(report: ParityReport) -> str:
    """The whole page."""
    plot = _plot(report.layers, report.tolerance.max_layer) if report.layers else paragraph("Not measured.")
    sides = f"Reference: {_facts(report.reference)}. Candidate: {_facts(report.candidate)}."
    return render_page(
        f"Parity on {counted(len(report.crops), 'crop', 'crops')}: {report.verdict}",
        sides,
        [
            Section("", f"<p>The two part at <b>{escape(report.parts_at)}</b>.</p>" if report.parts_at else ""),
            Section("Relative error by layer", plot),
            Section("Checks", f"<pre>{escape(report.summary())}</pre>"),
            Section("Layers", table({layer.name: _errors(layer) for layer in report.layers})),
        ],
    )


def _facts(facts: dict[str, object]) -> str:
    return ", ".join(f"{name} {_flat(value)}" for name, value in facts.items())


def _flat(value: object) -> object:
    return " and ".join(f"{count} on {name}" for name, count in value.items()) if isinstance(value, dict) else value


def _errors(layer: LayerError) -> str:
    taken = "" if layer.input is None else f", of its input {layer.input:.1e}"
    return f"{layer.output:.1e}{taken}"


def _plot(layers: Sequence[LayerError], bound: float) -> str:
    """A bar for each layer on a logarithmic axis; the name appears under the pointer."""
    logs = [math.log10(max(layer.output, 1e-9)) for layer in layers]
    low, high = min(-7.0, math.floor(min(logs))), max(0.0, math.ceil(max(logs)))

    def y(value: float) -> float:
        return (_HEIGHT - _BOTTOM) * (1 - (value - low) / (high - low)) + 4

    step = (_WIDTH - _LEFT) / len(layers)
    parts = []
    for power in range(int(low), int(high) + 1):
        line = f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y(power):.1f}" y2="{y(power):.1f}" stroke="#e4e4e4"/>'
        parts.append(f'{line}<text x="{_LEFT - 8}" y="{y(power) + 4:.1f}" text-anchor="end">1e{power}</text>')
    for index, (layer, value) in enumerate(zip(layers, logs, strict=True)):
        color = "#b3261e" if layer.output > bound else "#5b7db1"
        place = f'x="{_LEFT + index * step:.1f}" y="{y(value):.1f}" width="{max(step - 1.5, 1):.1f}"'
        title = f"<title>{escape(layer.name)}: {layer.output:.1e}</title>"
        parts.append(f'<rect {place} height="{max(y(low) - y(value), 0.5):.1f}" fill="{color}">{title}</rect>')
    limit = y(math.log10(bound))
    parts.append(
        f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{limit:.1f}" y2="{limit:.1f}" stroke="#b3261e" stroke-dasharray="5 4"/>'
    )
    labels = ((_LEFT, "start", layers[0].name), (_WIDTH, "end", layers[-1].name))
    parts += [f'<text x="{x}" y="{_HEIGHT - 2}" text-anchor="{side}">{escape(name)}</text>' for x, side, name in labels]
    drawn = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" style="{_STYLE}" role="img" aria-label="relative error by layer"'
    return f"<svg {drawn}>{''.join(parts)}</svg>"
