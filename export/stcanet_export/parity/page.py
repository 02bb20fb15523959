"""The parity report as one HTML file that opens offline: verdict, checks, and the error of every layer as a plot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from stcanet_export.parity.report import LayerError, ParityReport
from stcanet_runtime.wording import counted

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid #ddd }
td.n { text-align: right; font-variant-numeric: tabular-nums } .fail { color: #b3261e; font-weight: 600 } .ok { color: #1b6e3c }
svg { width: 100%; height: auto } svg text { font: 11px system-ui, sans-serif; fill: #444 }
"""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 1000, 260, 60, 24


def html_report(report: ParityReport) -> str:
    """The whole page."""
    verdict = f'<p class="{"ok" if report.passed else "fail"}">{report.verdict}</p>'
    part = f"<p>The two part at <b>{escape(report.parts_at)}</b>.</p>" if report.parts_at else ""
    notes = "".join(f"<p>Note: {escape(note)}</p>" for note in report.notes)
    body = [
        f"<h1>Parity on {counted(len(report.crops), 'crop', 'crops')}</h1>{verdict}{part}{notes}",
        f"<p>Reference: {_facts(report.reference)}<br>Candidate: {_facts(report.candidate)}</p>",
        "<h2>Relative error by layer</h2>",
        _plot(report.layers, report.tolerance.max_layer) if report.layers else "<p>Not measured.</p>",
        "<h2>Checks</h2>",
        _table(("", "check", "value", "bound", "where"), _check_rows(report)),
        "".join(f"<p>{escape(str(ranking))}.</p>" for ranking in report.rankings),
        "<h2>Layers</h2>",
        _table(("layer", "error of its output", "of its input"), _layer_rows(report)),
    ]
    head = f'<meta charset="utf-8"><title>Parity</title><style>{_STYLE}</style>'
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(body)}</body></html>\n"


def _facts(facts: dict[str, object]) -> str:
    flat = {name: _flat(value) for name, value in facts.items()}
    return escape(", ".join(f"{name} {value}" for name, value in flat.items()))


def _flat(value: object) -> object:
    return " and ".join(f"{count} on {name}" for name, count in value.items()) if isinstance(value, dict) else value


def _table(titles: Sequence[str], rows: Iterator[str]) -> str:
    return f"<table><tr>{''.join(f'<th>{title}</th>' for title in titles)}</tr>{''.join(rows)}</table>"


def _check_rows(report: ParityReport) -> Iterator[str]:
    for check in report.checks:
        kind = ' class="ok"' if check.verdict == "ok" else "" if check.passed else ' class="fail"'
        verdict = f"<td{kind}>{check.verdict}</td>"
        value = "nothing" if check.value is None else f"{check.value:.6g}"
        rest = f'<td class="n">{value}</td><td>{escape(check.rule)} {check.bound:g}</td><td>{escape(check.detail)}</td>'
        yield f"<tr>{verdict}<td>{escape(check.name)}</td>{rest}</tr>"


def _layer_rows(report: ParityReport) -> Iterator[str]:
    for layer in report.layers:
        taken = "" if layer.input is None else f"{layer.input:.1e}"
        mark = ' class="fail"' if report.parts_at and layer.name in report.parts_at.replace(")", " ").split(" ") else ""
        yield f'<tr><td{mark}>{escape(layer.name)}</td><td class="n">{layer.output:.1e}</td><td class="n">{taken}</td></tr>'


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
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="relative error by layer">{"".join(parts)}</svg>'
