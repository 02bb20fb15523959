"""One page about what `make demo` did: the commands, the figures, the picture. Usage: report.py FOLDER SECONDS."""

from __future__ import annotations

import base64
import html
import json
import sys
from pathlib import Path
from typing import Any

from stcanet_runtime.files import write_text

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>STCANet demo</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
  table {{ border-collapse: collapse }}
  td, th {{ padding: .25rem 1rem .25rem 0; text-align: left; border-bottom: 1px solid #ddd }}
  pre {{ background: #f4f4f4; padding: 1rem; overflow-x: auto; font-size: 13px }}
  img {{ max-width: 100% }}
</style>
<h1>People found again</h1>
<p>A network was trained on drawn people, exported, verified, and run again without PyTorch, in {minutes:.1f} minutes.
None of the people below were in the training data.</p>
<table>
<tr><th>query against gallery</th><th>rank-1</th><th>rank-5</th><th>mAP</th><th>mINP</th></tr>
{rows}
</table>
<p>{protocol}</p>
<h2>The exported model computes what the trained one does</h2>
<p>Checked on {crops} drawn crops before the package was written:</p>
<table>
<tr><th>check</th><th>measured</th><th>bound</th></tr>
{checks}
</table>
<h2>Each query and its nearest matches</h2>
<img alt="ranked lists" src="data:image/png;base64,{picture}">
<h2>How</h2>
<pre>{commands}</pre>
"""


def row(name: str, result: dict[str, Any]) -> str:
    cmc = result["cmc"]
    cells = (cmc[0], cmc[4], result["mAP"], result["mINP"])
    return f"<tr><td>{name}</td>" + "".join(f"<td>{100 * value:.1f} %</td>" for value in cells) + "</tr>"


def check_row(check: dict[str, Any]) -> str:
    value = "–" if check["value"] is None else f"{check['value']:.9g}"  # null: there was nothing to compare
    cells = (check["name"], value, f"{check['rule']} {check['bound']:g}")
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


def main(folder: Path, seconds: float) -> None:
    results = {name: json.loads((folder / f"{name}.json").read_text()) for name in ("torch", "runtime")}
    parity = json.loads((folder / "package" / "parity.json").read_text())
    protocol = results["runtime"]["protocol"]
    page = PAGE.format(
        minutes=seconds / 60,
        rows="\n".join((row("PyTorch", results["torch"]), row("exported package, ONNX Runtime", results["runtime"]))),
        protocol=html.escape(
            f"{protocol['num_query']} queries, {protocol['num_gallery']} gallery images, of them "
            f"{protocol['num_distractors']} distractors; matches from the query's own camera are left out."
        ),
        crops=len(parity["crops"]),
        checks="\n".join(check_row(check) for check in parity["checks"]),
        picture=base64.b64encode((folder / "ranks.png").read_bytes()).decode(),
        commands=html.escape((folder / "commands.txt").read_text()),
    )
    write_text(folder / "report.html", page)
    figures = f"rank-1 {results['runtime']['cmc'][0]:.1%}, mAP {results['runtime']['mAP']:.1%}"
    print(f"\n{folder / 'report.html'}: {figures}, {seconds / 60:.1f} minutes in all")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
