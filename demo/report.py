"""One page about what `make demo` did: the commands, the figures, the picture. Usage: report.py FOLDER SECONDS."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from stcanet.report.page import Section, figures, paragraph, picture, preformatted, render_page, table
from stcanet_runtime.files import write_text


def percents(result: dict[str, Any]) -> dict[str, str]:
    cmc = result["cmc"]
    values = {"rank-1": cmc[0], "rank-5": cmc[4], "mAP": result["mAP"], "mINP": result["mINP"]}
    return {name: f"{100 * value:.1f} %" for name, value in values.items()}


def measured(check: dict[str, Any]) -> str:
    value = "nothing to compare" if check["value"] is None else f"{check['value']:.9g}"
    return f"{value}, has to be {check['rule']} {check['bound']:g}"


def main(folder: Path, seconds: float) -> None:
    results = {name: json.loads((folder / f"{name}.json").read_text()) for name in ("torch", "runtime")}
    parity = json.loads((folder / "package" / "parity.json").read_text())
    found, protocol = percents(results["runtime"]), results["runtime"]["protocol"]
    sides = {"PyTorch": percents(results["torch"]), "exported package, ONNX Runtime": found}
    introduction = (
        "A network was trained on drawn people, exported, verified, and run again without PyTorch, in "
        f"{seconds / 60:.1f} minutes. None of the people below were in the training data."
    )
    judged = (
        f"{protocol['num_query']} queries, {protocol['num_gallery']} gallery images, of them "
        f"{protocol['num_distractors']} distractors; matches from the query's own camera are left out."
    )
    checked = f"Checked on {len(parity['crops'])} drawn crops before the package was written:"
    with Image.open(folder / "ranks.png") as image:
        ranks = picture("ranked lists", image.convert("RGB"))
    sections = [
        Section("", figures(found) + paragraph(judged)),
        Section(
            "The exported model computes what the trained one does",
            table({side: ", ".join(" ".join(pair) for pair in values.items()) for side, values in sides.items()})
            + paragraph(checked)
            + table({check["name"]: measured(check) for check in parity["checks"]}),
        ),
        Section("Each query and its nearest matches", ranks),
        Section("How", preformatted("the commands", (folder / "commands.txt").read_text())),
    ]
    page = folder / "report.html"
    write_text(page, render_page("People found again", introduction, sections))
    print(f"\n{page}: rank-1 {found['rank-1']}, mAP {found['mAP']}, {seconds / 60:.1f} minutes in all")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
