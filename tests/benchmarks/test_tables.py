"""The table of every kind of result file, those of which there is no file yet by a made-up one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import provenance
import pytest
import tables
from turns import in_turns

RECORDED = {report["benchmark"]: report for report in tables.load().values()}
GPU = {"gpu": "a GPU", "cuda": "13.0", "repeats": 3}
FIGURES = {"forward_ms": 1.0, "both_ms": 2.0, "forward_mib": 3.0, "both_mib": 4.0, "error": 1e-3, "gradient_error": 1e-3}
MADE_UP: dict[str, dict[str, Any]] = {
    "attention": {
        **GPU,
        "rows": [{"shape": "image", "sizes": [64, 512, 512], "dtype": "bf16", "implementation": "fused", **FIGURES}],
        "relations": [{"shape": "image", "sizes": [64, 4, 256], "implementation": "fused", "both_ms": 1.0, "error": 1e-3}],
    },
    "gpu_rerank": {
        **GPU,
        "top": 100,
        "rows": [
            {
                "name": "Market-1501",
                "sizes": [3368, 15913, 2048],
                "search_ms": 1.0,
                "rerank_ms": 2.0,
                "peak_mib": 3.0,
                "processor_ms": 4.0,
                "differing": 0,
            }
        ],
    },
    "model": {
        "device": "a GPU",
        "steps": 10,
        "repeats": 5,
        "rows": [
            {"preset": "p", "shape": [64, 3, 256, 128], "precision": "bf16", "what": "training"}
            | {"attention": attention, "per_second": 100.0, "peak_mib": 1000.0}
            for attention in ("eager", "fused")
        ],
    },
}


def made(report: dict[str, Any]) -> str:
    """The table; all rows of one have as many columns."""
    text = tables.table(report, tables.TABLES[report["benchmark"]])
    for block in text.split("\n\n"):
        assert len({line.count("|") for line in block.splitlines() if line.startswith("|")}) <= 1, block
    return text


@pytest.mark.parametrize("kind", list(tables.TABLES))
def test_every_kind_has_a_table(kind: str) -> None:
    facts = next(iter(RECORDED.values()))["environment"]
    report = RECORDED.get(kind) or {"benchmark": kind, "environment": facts, **MADE_UP[kind]}
    assert "| " in made(report) or kind in ("gallery_kills", "kill_and_resume", "soak")


def test_without_faiss_its_cells_are_empty() -> None:
    report = copy.deepcopy(RECORDED["gallery"])
    row = report["results"][0] | {"share_of_faiss_places": None, "seconds": {"ours_1": 0.001, "ours_32": 0.002}}
    report["results"] = [row]
    assert "| 1.0 |  | 2.0 |  |  |" in made(report)


def test_the_command_is_told_where_it_is_recorded() -> None:
    report = copy.deepcopy(RECORDED["gallery"])
    report["environment"].pop("command", None)
    assert made(report).endswith(f"commit {report['environment']['commit']}.")
    report["environment"]["command"] = "bench_gallery.py --sizes 10"
    assert made(report).endswith("; `bench_gallery.py --sizes 10`.")


def test_the_command_names_no_place_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["/home/me/data/cuhk03/", "--packages=/tmp/a b", "--out", "results/new", "--set", "data=mars:/x/y", "--k", "2"]
    monkeypatch.setattr("sys.argv", ["/home/me/benchmarks/bench_it.py", *arguments])
    assert provenance.command() == "bench_it.py cuhk03 '--packages=a b' --out results/new --set data=mars:y --k 2"


def test_a_result_is_written_where_a_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    provenance.write_result(None, "it", {"benchmark": "it"})
    assert capsys.readouterr().out == ""
    provenance.write_result(tmp_path / "new", "it", {"benchmark": "it"})
    assert [path.name for path in tmp_path.rglob("*.json")] == ["it.json"]


def test_turns_alternate() -> None:
    called: list[str] = []
    calls = {name: lambda name=name: called.append(name) for name in ("a", "b")}
    assert in_turns(calls, 2, lambda call: call()) == {"a": [None, None], "b": [None, None]}
    assert called == ["a", "b", "a", "b"]
