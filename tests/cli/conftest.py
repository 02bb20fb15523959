"""Runs `stcanet` as a user does: in a process of its own where that is the point, else in this one, which is faster."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from stcanet.cli import main

ROOT = Path(__file__).parents[2]
SOURCES = os.pathsep.join(str(ROOT / folder) for folder in ("", "runtime", "export"))
BLOCK = "import sys\nfor name in {names!r}: sys.modules[name] = None\n"
Stcanet = Callable[..., subprocess.CompletedProcess[str]]


def run_here(*args: str) -> subprocess.CompletedProcess[str]:
    """Runs ``stcanet ARGS`` in this process. A warning, which would be a line on stderr there, is an error here."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["stcanet", *args]),
        mock.patch.dict(os.environ, COLUMNS="200"),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as left,
    ):
        main()
    assert isinstance(left.value.code, int)
    return subprocess.CompletedProcess(args, left.value.code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def stcanet() -> Stcanet:
    """Runs ``stcanet ARGS``; `without` names packages that are made impossible to import, which takes a process."""

    def run(*args: object, without: tuple[str, ...] = (), process: bool = False) -> subprocess.CompletedProcess[str]:
        if not without and not process:
            return run_here(*map(str, args))
        code = BLOCK.format(names=without) + "from stcanet.cli import main\nmain()\n"
        environment = {**os.environ, "PYTHONPATH": SOURCES, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", code, *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)

    return run


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn people in the Market-1501 layout, 64×32."""
    from stcanet.data.synthetic import SynthConfig, generate

    root = tmp_path_factory.mktemp("cli") / "people"
    generate(
        root, SynthConfig(identities=12, test_identities=4, cameras=2, images_per_camera=3, height=64, width=32, distractors=2)
    )
    return root


@pytest.fixture(scope="session")
def checkpoint(people: Path, tmp_path_factory: pytest.TempPathFactory, stcanet: Stcanet) -> Path:
    """Trained for one epoch through the command line."""
    run = tmp_path_factory.mktemp("runs") / "run"
    options = ["--preset", "stcanet-tiny", "--backbone-weights", "none", "--epochs", 1, "--device", "cpu"]
    small = [
        option
        for setting in ("model.height=64", "model.width=32", "identities=4", "val_fraction=0.25")
        for option in ("--set", setting)
    ]
    done = stcanet("train", "--data", people, "--out", run, *options, *small)
    assert done.returncode == 0, done.stderr
    assert "best.pt (best of 1 epoch: 1; " in done.stdout
    return run / "best.pt"


@pytest.fixture(scope="session")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, stcanet: Stcanet) -> subprocess.CompletedProcess[str]:
    """``stcanet export`` of it, done once: tracing takes long."""
    out = tmp_path_factory.mktemp("packages") / "package"
    return stcanet("export", checkpoint, "-o", out, "--opset", 19, "--json")


@pytest.fixture(scope="session")
def package(exported: subprocess.CompletedProcess[str]) -> Path:
    """Read only; copy it to damage it."""
    assert exported.returncode == 0, exported.stderr
    return Path(json.loads(exported.stdout)["package"])
