"""The report as one HTML file that opens offline: styles and pictures are inside, scripts there are none."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
  :root {{ color-scheme: light }}
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1.5rem }}
  body {{ color: #202226; background: #fafaf8 }}
  h1 {{ font-size: 1.7rem; margin: 0 }}
  h2 {{ font-size: 1.2rem; margin: 2.2rem 0 .6rem }}
  p {{ max-width: 48rem }}
  p.faint, td.faint {{ color: #787c82 }}
  table {{ border-collapse: collapse }}
  td {{ padding: .2rem 1.5rem .2rem 0; border-bottom: 1px solid #e4e4e0; vertical-align: top }}
  td + td {{ font-variant-numeric: tabular-nums }}
  .figures {{ display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0 }}
  .figures div {{ background: #fff; border: 1px solid #e4e4e0; border-radius: 8px; padding: .6rem 1.1rem }}
  .figures b {{ display: block; font-size: 1.4rem; font-variant-numeric: tabular-nums }}
  .figures span {{ color: #787c82; font-size: .85rem }}
  .curves {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(26rem, 1fr)); gap: .8rem }}
  .curves img, .picture {{ width: 100%; border: 1px solid #e4e4e0; border-radius: 8px; background: #fff }}
  .picture {{ width: auto; max-width: 100% }}
  pre {{ background: #fff; border: 1px solid #e4e4e0; border-radius: 8px; padding: .8rem 1rem }}
  pre {{ overflow: auto; font-size: 13px; max-height: 30rem }}
  details {{ margin: .6rem 0 }}
  summary {{ cursor: pointer }}
</style>
<h1>{title}</h1>
<p class="faint">{subtitle}</p>
{body}
</html>
"""


@dataclass(frozen=True)
class Section:
    """A headline and what is below it, as HTML."""

    title: str
    body: str


def render_page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The page; `title` and `subtitle` are plain text."""
    body = "\n".join(
        (f"<h2>{html.escape(section.title)}</h2>\n" if section.title else "") + section.body for section in sections
    )
    return _PAGE.format(title=html.escape(title), subtitle=html.escape(subtitle), body=body)


def paragraph(text: str, faint: bool = False) -> str:
    """Plain text as a paragraph."""
    return f'<p class="faint">{html.escape(text)}</p>' if faint else f"<p>{html.escape(text)}</p>"


def figures(values: Mapping[str, str]) -> str:
    """The few numbers that matter, large; a name below each."""
    boxes = "".join(f"<div><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>" for name, value in values.items())
    return f'<div class="figures">{boxes}</div>'


def table(rows: Mapping[str, str]) -> str:
    """Names and values."""
    cells = "".join(
        f'<tr><td class="faint">{html.escape(name)}</td><td>{html.escape(value)}</td></tr>' for name, value in rows.items()
    )
    return f"<table>{cells}</table>"


def preformatted(summary: str, text: str) -> str:
    """Text as it is, behind a line that opens it."""
    return f"<details><summary>{html.escape(summary)}</summary><pre>{html.escape(text)}</pre></details>"


def curves(charts: Mapping[str, Image.Image]) -> str:
    """Charts side by side."""
    return (
        '<div class="curves">'
        + "".join(f'<img alt="{html.escape(name)}" src="{_data_uri(chart, "PNG")}">' for name, chart in charts.items())
        + "</div>"
    )


def picture(name: str, image: Image.Image) -> str:
    """A picture of crops, as wide as it is or as the page."""
    return f'<img class="picture" alt="{html.escape(name)}" src="{_data_uri(image, "JPEG")}">'


def _data_uri(image: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    options = {"quality": 90, "subsampling": 0} if kind == "JPEG" else {"optimize": True}
    image.save(buffer, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
