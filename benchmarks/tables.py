"""The tables and the chart of BENCHMARKS.md and README.md, from benchmarks/results/*.json.

python benchmarks/tables.py            # write them
python benchmarks/tables.py --check    # status 1 where they are out of date
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tables_cuda
import tables_custom_op
import tables_evaluate
import tables_precision
import tables_rerank
import tables_runtime
import tables_training
from chart_rerank import rerank_chart

ROOT = Path(__file__).parents[1]
MARKS = re.compile(r"(<!-- measured -->\n).*?(<!-- /measured -->)", re.DOTALL)
INTRO = """# Benchmarks

Generated from `benchmarks/results/*.json` by `benchmarks/tables.py`. Every file there names the commit, the hardware and the
versions, newer ones the command too; the scripts beside it make it again, with `--out benchmarks/results`. Machines differ and
shared ones are noisy: compare within one table.
"""


def distances(report: dict[str, Any]) -> Iterator[str]:
    """Distance matrix and top-k search of every backend."""
    sizes = report["sizes"]
    yield f"{sizes['query']:,} queries, {sizes['gallery']:,} gallery rows, {sizes['depth']:,} dimensions, k = {sizes['k']}."
    for kind, rows in report["results"].items():
        yield ""
        yield f"| {kind} | wall s | CPU s | largest difference | queries with exact indices |"
        yield "|---|---|---|---|---|"
        for name, row in rows.items():
            exact = f"{row['queries_with_exact_indices']:.1%}" if "queries_with_exact_indices" in row else ""
            yield f"| {name} | {row['wall_s']:.3f} | {row['cpu_s']:.3f} | {row['max_difference']:.1e} | {exact} |"
    yield ""


def machine(report: dict[str, Any]) -> str:
    """Hardware, versions and commit in one line."""
    facts = report["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
    units = [feature for feature in facts["cpu_features"] if feature.startswith(("avx512f", "amx_bf16", "avx2"))]
    called = f"; `{facts['command']}`" if "command" in facts else ""  # of what was measured before it was recorded
    return (
        f"{facts['cpus']} cores of {facts['processor']} ({', '.join(units)}), load {facts['load_average']} at the start; "
        f"Python {facts['python']}, {versions}; commit {facts['commit']}{called}."
    )


Table = Callable[[dict[str, Any]], Iterator[str]]

TABLES: dict[str, Table] = {
    "ablation": tables_training.ablation,
    "attention": tables_cuda.attention,
    "cuda_registers": tables_cuda.registers,
    "custom_op": tables_custom_op.custom_op,
    "deployed": tables_training.deployed,
    "distance": distances,
    "evaluate": tables_evaluate.evaluate,
    "gallery": tables_runtime.gallery,
    "gallery_kills": tables_runtime.gallery_kills,
    "gpu_rerank": tables_cuda.rerank,
    "identify": tables_runtime.identify,
    "kill_and_resume": tables_training.kills,
    "model": tables_cuda.model,
    "precision": tables_precision.precision,
    "preprocess": tables_runtime.preprocess,
    "rerank": tables_rerank.rerank,
    "rerank_growth": tables_rerank.growth,
    "rerank_msmt": tables_rerank.msmt,
    "soak": tables_runtime.soak,
    "training": tables_training.training,
}
"""By the ``benchmark`` of a result file."""

README_TABLES: dict[str, Table] = {"rerank": tables_rerank.rerank_picture}
"""What README.md shows, by the name of the file, followed by those of `deployed`."""


def table(report: dict[str, Any], make: Table) -> str:
    """A table and the machine that it was measured on."""
    return "\n".join([*make(report), machine(report)])


def load() -> dict[str, dict[str, Any]]:
    paths = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def pages(reports: dict[str, dict[str, Any]]) -> dict[Path, str]:
    """Every generated page by path."""
    makers = {name: TABLES[report["benchmark"]] for name, report in reports.items()}
    contents = [f"* [{name}](#{name}): {str(make.__doc__).splitlines()[0]}" for name, make in makers.items()]
    sections = [f"## {name}\n\n{table(report, makers[name])}\n" for name, report in reports.items()]
    shown = [table(reports[name], make) for name, make in README_TABLES.items() if name in reports]
    # Those of trained models come last: the text that follows them in README.md is about them.
    deployed = tables_training.deployed
    shown += [table(report, deployed) for name, report in reports.items() if makers[name] is deployed]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = "\n\n".join(shown)
    charts = {ROOT / "benchmarks" / tables_rerank.CHART: rerank_chart(reports["rerank"])} if "rerank" in reports else {}
    return charts | {
        ROOT / "BENCHMARKS.md": "\n".join([INTRO, *contents, "", *sections]),
        ROOT / "README.md": MARKS.sub(lambda match: f"{match[1]}{block}\n{match[2]}", readme),
    }


def main() -> None:
    generated = pages(load())
    stale = [path for path, text in generated.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.name} is out of date: run benchmarks/tables.py", file=sys.stderr)
        raise SystemExit(bool(stale))
    for path, text in generated.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
