"""What an import may cost: looked at in processes of their own, where nothing is loaded yet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import stcanet_runtime


def modules_after(statement: str) -> set[str]:
    """Top-level modules, and modules of the runtime, that are loaded after `statement`."""
    code = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(Path(stcanet_runtime.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""
    names = json.loads(done.stdout.splitlines()[-1])
    return {name if name.startswith("stcanet_runtime.") else name.split(".")[0] for name in names}


HEAVY = {"torch", "torchvision", "stcanet", "stcanet_export", "onnxruntime", "onnx", "numba", "scipy", "PIL", "rich", "typer"}


def test_the_package_imports_nothing_heavy() -> None:
    assert modules_after("import stcanet_runtime") & {*HEAVY, "numpy"} == set()


def test_all_public_names_import_neither_torch_nor_onnxruntime() -> None:
    loaded = modules_after("import stcanet_runtime\nfor name in stcanet_runtime.__all__: getattr(stcanet_runtime, name)")
    assert loaded & HEAVY == {"PIL"}


def test_the_command_line_imports_nothing_heavy_before_a_command_runs() -> None:
    assert modules_after("import stcanet_runtime.cli") & HEAVY <= {"typer", "rich"}


def test_health_which_is_asked_every_minute_imports_no_model() -> None:
    loaded = modules_after("import stcanet_runtime.cameras.health")
    others = ("backends", "cameras.video", "cameras.watch", "gallery", "inference", "retrieval")
    assert loaded & {*HEAVY, *(f"stcanet_runtime.{name}" for name in others)} == set()


def test_every_public_name_is_there() -> None:
    for name in stcanet_runtime.__all__:
        assert getattr(stcanet_runtime, name) is not None
        assert name in dir(stcanet_runtime)
    with pytest.raises(AttributeError, match="no attribute 'Encodre'"):
        stcanet_runtime.Encodre  # type: ignore[attr-defined]  # noqa: B018
    assert stcanet_runtime.__all__ == sorted(stcanet_runtime.__all__)


def test_what_is_given_to_public_functions_is_public_too() -> None:
    from stcanet_runtime import Reranking

    assert Reranking is stcanet_runtime.retrieval.kreciprocal.Reranking
