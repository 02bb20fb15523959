"""Importing has no effects and no weight."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stcanet.extras import EXTRA_OF

HEAVY = ("torch", "torchvision", "onnx", "onnxruntime", "numba", "rich", "PIL")


def imported_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_packages_import_nothing_heavy() -> None:
    assert imported_by("import stcanet, stcanet_runtime").isdisjoint(HEAVY)


def test_the_command_line_imports_no_framework() -> None:
    assert imported_by("import stcanet.cli").isdisjoint({"torch", "torchvision", "onnx", "onnxruntime", "numba", "PIL"})


@pytest.mark.parametrize(
    ("package", "name", "missing"), [("stcanet", "train", "torch"), ("stcanet_export", "export_onnx", "onnx")]
)
def test_a_name_without_its_extra_says_what_to_install(package: str, name: str, missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from {package} import {name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    extra = EXTRA_OF[missing]
    assert f"MissingDependencyError: {package}.{name} needs {missing}, which is not installed" in done.stderr
    assert f"pip install 'stcanet[{extra}]'" in done.stderr


def test_public_names_exist_and_are_listed() -> None:
    """Listed before they are used: what `dir` does not tell, help() and the Tab key of a shell do not, either."""
    import stcanet
    import stcanet.data.synthetic
    import stcanet_export
    import stcanet_runtime

    for module in (stcanet, stcanet.data.synthetic, stcanet_export, stcanet_runtime):
        assert set(module.__all__) <= set(dir(module)), module
        for name in module.__all__:
            assert getattr(module, name) is not None, name
