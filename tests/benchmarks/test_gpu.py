"""What the GPU benchmarks decide by themselves; what they measure needs a GPU."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import bench_attention
import bench_gpu_rerank
import bench_model
import bench_preprocess
import numpy as np
import pytest
import tables_cuda
import torch
from numpy.typing import NDArray
from provenance import NOTHING_MEASURED

from stcanet.model import mixing
from stcanet_runtime.backends import gpu_device

FOLDER = Path(bench_attention.__file__).parent


def row(implementation: str, error: float, gradient: float = 0.0, dtype: str = "bf16") -> dict[str, object]:
    figures = {"error": error, "gradient_error": gradient}
    return {"shape": "image", "dtype": dtype, "implementation": implementation, **figures}


def relation(implementation: str, error: float) -> dict[str, object]:
    return {"shape": "image", "implementation": implementation, "error": error}


@pytest.mark.parametrize(
    ("rows", "relations", "problems"),
    [
        ([row("plain", 5e-3, 5e-3), row("fused", 9e-3, 9e-3)], [relation("fused", 9e-3), relation("eager", 1.0)], 0),
        ([row("plain", 2e-3, 1.0), row("fused", 5e-3)], [], 1),  # more than twice that of the plain one
        ([row("fused", 2e-2)], [], 1),
        ([row("fused", math.nan, math.nan)], [relation("fused", math.nan)], 3),
        ([row("fused", 2e-5, 2e-5, "fp32"), row("eager", 1.0, 1.0, "fp32")], [], 2),
        ([row("fused", 9e-4, 9e-4, "tf32")], [], 0),
    ],
)
def test_errors_that_are_too_large_are_named(
    rows: list[dict[str, object]], relations: list[dict[str, object]], problems: int
) -> None:
    assert len(bench_attention.too_large(rows, relations)) == problems


def test_what_fails_is_a_problem_and_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(_shape: object, dtype: torch.dtype, _repeats: int) -> list[dict[str, object]]:
        if dtype == torch.bfloat16:
            raise RuntimeError("CUDA: launching failed")
        return [row("fused", 1e-6, 1e-6, "fp32")]

    reports: list[dict[str, list[object]]] = []
    monkeypatch.setattr("sys.argv", ["bench_attention", "--dtypes", "bf16", "fp32"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "none")
    monkeypatch.setattr(bench_attention.cuda, "why_not", lambda: None)
    monkeypatch.setattr(bench_attention, "compare", compare)
    monkeypatch.setattr(bench_attention, "compare_relation", lambda *_: [relation("fused", 1e-3)])
    monkeypatch.setattr(bench_attention, "show", lambda _rows: None)
    monkeypatch.setattr(bench_attention, "write_result", lambda _folder, _name, report: reports.append(copy.deepcopy(report)))
    before = torch.get_float32_matmul_precision()
    try:
        with pytest.raises(SystemExit, match=r"image, stage 2, bf16: CUDA: launching failed; image, stage 3, bf16: .*"):
            bench_attention.main()
    finally:
        torch.set_float32_matmul_precision(before)
    assert (len(reports[0]["relations"]), len(reports[0]["rows"])) == (3, 0)  # first, since it may be the last
    assert len(reports[-1]["rows"]) == 3


def test_memory_is_that_of_a_call_that_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda: said.append("reset"))
    for name in ("memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(f"torch.cuda.{name}", lambda: 0)

    def mix(rows: torch.Tensor) -> torch.Tensor:
        said.append(f"gradient {torch.is_grad_enabled()}")
        return rows * 2

    bench_attention.memory(mix, torch.rand(1, 2, 3).requires_grad_(), torch.rand(1, 2, 3))
    assert said == [f"gradient {grad}" if called else "reset" for grad in (False, True) for called in (True, False, True)]


def test_a_model_whose_kernels_fail_leaves_the_figures_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_rows: object) -> None:
        raise RuntimeError("CUDA: launching failed")

    reports: list[dict[str, list[dict[str, object]]]] = []
    monkeypatch.setattr(mixing, "choose", lambda _rows, attention: "eager" if attention == "auto" else attention)
    monkeypatch.setattr(mixing.fused, "channel_attention", broken)
    monkeypatch.setattr(bench_model, "_WARM_UP", 1)
    monkeypatch.setattr(bench_model, "write_result", lambda _folder, _name, report: reports.append(copy.deepcopy(report)))
    few = ["--device", "cpu", "--batch", "4", "--steps", "1", "--repeats", "1"]
    monkeypatch.setattr("sys.argv", ["bench_model", *few, "--presets", "stcanet-tiny"])
    with pytest.raises(SystemExit, match=r"^failed: stcanet-tiny, fused: CUDA: launching failed$"):
        bench_model.main()
    expected = [(attention, what) for attention in ("eager", "sdpa") for what in ("training", "inference")]
    assert [(row["attention"], row["what"]) for row in reports[-1]["rows"]] == expected


def test_times_of_the_gpu_are_kept_when_the_processor_has_no_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def rerank(query: NDArray[np.float32], _gallery: object, top: int, backend: str = "auto") -> SimpleNamespace:
        if backend == "auto" and len(query) > 200:  # the larger one
            raise KeyboardInterrupt
        return SimpleNamespace(indices=np.zeros((1, top)), distances=np.zeros((1, top)))

    pool = SimpleNamespace(free_all_blocks=lambda: None, total_bytes=lambda: 0)
    runtime = SimpleNamespace(getDeviceProperties=lambda _: {"name": b"none"}, runtimeGetVersion=lambda: 13000)
    cuda = SimpleNamespace(runtime=runtime, Device=lambda: SimpleNamespace(id=0))
    cupy = SimpleNamespace(asarray=lambda x: x, get_default_memory_pool=lambda: pool, cuda=cuda)
    reports: list[dict[str, list[dict[str, object]]]] = []
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(gpu_device, "why_not", lambda: None)
    monkeypatch.setattr(bench_gpu_rerank.gpu, "neighbours", lambda *_, **__: None)
    monkeypatch.setattr(bench_gpu_rerank, "rerank", rerank)
    monkeypatch.setattr(bench_gpu_rerank, "write_result", lambda _folder, _name, made: reports.append(copy.deepcopy(made)))
    monkeypatch.setattr("sys.argv", ["bench_gpu_rerank", "--shrink", "50", "--depth", "16"])
    with pytest.raises(KeyboardInterrupt):
        bench_gpu_rerank.main()
    first, last = reports[-1]["rows"]
    assert first["equal"] is True
    assert last["rerank_ms"] >= 0
    assert "equal" not in last
    assert [line.split(" | ")[-1] for line in tables_cuda.rerank(reports[-1]) if "none" not in line][-2] == "not compared |"


@pytest.mark.parametrize(
    ("script", "options"),
    [(bench_attention, ()), (bench_model, ()), (bench_gpu_rerank, ()), (bench_preprocess, ("--gpu",))],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_script_that_cannot_measure_says_why_and_has_a_status_of_its_own(
    script: ModuleType, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [script.__name__, *options])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(gpu_device, "why_not", lambda: "CuPy is not installed")
    with pytest.raises(SystemExit) as left:
        script.main()
    assert left.value.code == NOTHING_MEASURED
    assert capsys.readouterr().out in ("nothing measured: CuPy is not installed\n", "nothing measured: torch sees no GPU\n")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("@pytest.mark.skip\ndef test_it(): pass", NOTHING_MEASURED),
        ("@pytest.mark.skip\ndef test_one(): pass\ndef test_other(): pass", 0),
    ],
    ids=["skipped", "some"],
)
def test_tests_that_are_all_skipped_have_measured_nothing(tmp_path: Path, body: str, status: int) -> None:
    (tmp_path / "test_it.py").write_text(f"import pytest\n{body}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "nothing_ran", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr


PARTS = [
    *("build", "attention-tests", "retrieval-tests", "attention", "rerank", "model", "preprocess"),
    *("memcheck", "racecheck", "random-retrieval"),
]


@pytest.mark.parametrize(
    ("outcomes", "last"),
    [
        ({}, []),
        ({"bench_gpu_rerank.py": 77, "tests/runtime": 77}, ["nothing measured: retrieval-tests rerank random-retrieval"]),
        ({"bench_model.py": 3, "--gpu": 77}, ["failed: model", "nothing measured: preprocess"]),
    ],
)
def test_gpu_sh_names_the_parts_that_failed_or_measured_nothing(
    tmp_path: Path, outcomes: dict[str, int], last: list[str]
) -> None:
    done = run_gpu_sh(tmp_path, outcomes, "made/here")
    assert (done.returncode, done.stderr) == (int(bool(last)), "")
    assert done.stdout.splitlines()[-1 - len(last) :] == [f"all output: {tmp_path / 'made/here'}", *last]
    assert [line.split()[1].strip(":") for line in done.stdout.splitlines() if line.endswith(" s")] == PARTS
    told = (tmp_path / "made/here/log.txt").read_text().replace("benchmarks/", "")
    assert "ran bench_model.py" in told
    assert [line.split()[1] for line in told.splitlines() if line.startswith("==")] == PARTS
    assert [line.split()[0] for line in done.stdout.splitlines() if "bench_model.py" in line] == [
        "ran"
    ]  # not again by later parts


def test_gpu_sh_runs_the_parts_that_are_named_in_all_the_time_there_is(tmp_path: Path) -> None:
    done = run_gpu_sh(tmp_path, {}, "out", "racecheck", "retrieval-tests")
    assert (done.returncode, done.stderr) == (0, "")
    told = (tmp_path / "out/log.txt").read_text()
    assert [line.split()[1] for line in told.splitlines() if line.startswith("==")] == ["build", "retrieval-tests", "racecheck"]
    done = run_gpu_sh(tmp_path, {}, "out", "racechecks")
    assert (done.returncode, done.stderr) == (2, f"error: no part 'racechecks'; there are {' '.join(PARTS)}\n")


def test_a_part_that_runs_out_of_time_is_interrupted_and_still_tells(tmp_path: Path) -> None:
    """As pytest does by SIGINT. The part has eight seconds; the two of the build are not enough to begin."""
    endless = "trap 'echo told; exit 1' INT; while sleep 0.1; do :; done"
    done = run_gpu_sh(tmp_path, {"bench_model.py": endless}, "out", "model", seconds=11)
    assert done.returncode == 1
    assert "told" in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1] == "failed: build model"


def run_gpu_sh(
    folder: Path, outcomes: dict[str, int | str], *arguments: str, seconds: int = 570
) -> subprocess.CompletedProcess[str]:
    """With stand-ins that say what they were called with and leave with a status, or run a command."""
    commands = {word: f"exit {outcome}" if isinstance(outcome, int) else outcome for word, outcome in outcomes.items()}
    cases = "".join(f"  *{word}*) {command} ;;\n" for word, command in commands.items())
    for name in ("python3", "cmake", "compute-sanitizer"):
        (folder / name).write_text(f'#!/bin/sh\necho "ran $*"\ncase "$*" in\n{cases}esac\n')
        (folder / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "STCANET_GPU_SECONDS": str(seconds)}
    command = ["sh", str(FOLDER / "gpu.sh"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
