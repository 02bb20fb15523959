"""Runs `stcanet` as a user does: in a process, or in this one where that is enough."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = os.pathsep.join(str(ROOT / folder) for folder in ("", "runtime", "export"))
BLOCK = "import sys\nfor name in {names!r}: sys.modules[name] = None\n"
Stcanet = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def stcanet() -> Stcanet:
    """Runs ``stcanet ARGS`` in a process; `without` names packages that are made impossible to import."""

    def run(*args: object, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
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
    return run / "best.pt"


@pytest.fixture(scope="session")
def package(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, stcanet: Stcanet) -> Path:
    """Exported from it through the command line."""
    out = tmp_path_factory.mktemp("packages") / "package"
    done = stcanet("export", checkpoint, "--out", out)
    assert done.returncode == 0, done.stderr
    return out
