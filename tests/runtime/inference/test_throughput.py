"""What `bench` reports: the right work and consistent figures. No time is asserted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stcanet_runtime import Encoder, ProviderError
from stcanet_runtime.cli import app
from stcanet_runtime.cli.bench import _print
from stcanet_runtime.cli.progress import progress_bar
from stcanet_runtime.inference import providers
from stcanet_runtime.inference.throughput import Throughput, measure


@pytest.mark.parametrize("kind", ["package", "clip_package"])
def test_figures_belong_together(kind: str, request: pytest.FixtureRequest) -> None:
    encoder = Encoder.load(request.getfixturevalue(kind), "cpu", threads=1)
    result = measure(encoder, batch=3, seconds=0)
    assert (result.provider, result.precision, result.batch, result.runs) == ("cpu", "fp32", 3, 5)
    assert 0 < result.latency_ms["p50"] <= result.latency_ms["p90"] <= result.latency_ms["p99"]
    assert 3000 / result.latency_ms["p99"] * 0.99 <= result.per_second
    assert result.first_ms > 0


def test_command(package: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    options = ["--provider", "cpu", "--batch", "1", "--batch", "2", "--seconds", "0", "--threads", "1"]
    done = CliRunner().invoke(app, ["bench", str(package), *options, "--json", "-o", os.fspath(out)])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report == json.loads(out.read_text())
    assert [(row["provider"], row["batch"]) for row in report["results"]] == [("cpu", 1), ("cpu", 2)]
    assert {row["package"] for row in report["results"]} == {str(package)}
    assert report["threads"] == 1
    table = CliRunner().invoke(app, ["bench", str(package), *options, "-o", os.fspath(out)]).stdout
    assert "p99 ms" in table
    assert table.splitlines()[3:] == [f"wrote {out}"]


def test_where_nothing_can_be_written_nothing_is_measured(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", str(tmp_path / "no package"), "-o", str(tmp_path)])
    assert isinstance(done.exception, IsADirectoryError)


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # progress is for terminals
    with progress_bar("embedding crops[/]"):
        pass
    _print([(Path("small[/]"), Throughput("tiny", "fp32", "cpu", 1, 5, {"p50": 1.0, "p90": 1.0, "p99": 1.0}, 1.0, 1.0))])
    out, err = capsys.readouterr()
    assert "embedding crops[/]" in err
    assert "small[/]" in out


@pytest.mark.parametrize(("seconds", "lines"), [(0.0, "embedding: 1,200 of 5,000\nembedding: 1,300\n"), (30.0, "")])
def test_without_a_terminal_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seconds: float, lines: str
) -> None:
    monkeypatch.setattr("stcanet_runtime.cli.progress.LINE_SECONDS", seconds)
    with progress_bar("embedding") as progress:
        progress(1200, 5000)
        progress(1300, 1300)  # of a camera, which has no end
    assert capsys.readouterr() == ("", lines)


def test_a_provider_that_is_built_in_and_cannot_run_is_left_out(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "available_providers", lambda: {"cpu": None, "tensorrt": None, "cuda": "no"})
    done = CliRunner().invoke(app, ["bench", str(package), "--batch", "1", "--seconds", "0", "--json"])
    assert [row["provider"] for row in json.loads(done.stdout)["results"]] == ["cpu"]
    assert "note: provider 'tensorrt' cannot run" in done.stderr


def test_a_named_provider_that_cannot_run(package: Path) -> None:
    done = CliRunner().invoke(app, ["bench", str(package), "--provider", "tensorrt"])
    assert isinstance(done.exception, ProviderError)
