"""What is built and what it contains; no network: the build tools of this environment are used."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from stcanet_runtime.backends import gpu_device

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = """
cmake_minimum_required(VERSION 3.22)
project(stand_in NONE)
file(WRITE "${CMAKE_BINARY_DIR}/_kernels.stand-in.so" "")
install(FILES "${CMAKE_BINARY_DIR}/_kernels.stand-in.so" DESTINATION stcanet_runtime)
"""
"""Takes the place of the kernels, which are compiled once for the wheel: here only the place of the module matters."""
TOOLS = ("setuptools", "pybind11", "build", "cmake")
SOURCES = ("csrc", "runtime", "export", "stcanet", "setup.py", "pyproject.toml", "CMakeLists.txt", "MANIFEST.in")
DOCUMENTS = ("LICENSE", "README.md", "CHANGELOG.md")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(any(find_spec(tool) is None for tool in TOOLS), reason="needs the extra dev"),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources: a build must not leave anything in the working tree."""
    target = tmp_path_factory.mktemp("tree")
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", "build")
    for name in (*SOURCES, *DOCUMENTS):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=ignored)
        elif name in SOURCES or (ROOT / name).is_file():
            shutil.copy2(ROOT / name, target / name)
    (target / "tests").mkdir()
    (target / "tests" / "test_nothing.py").touch()
    return target


def run(*command: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STCANET_")}
    tools = str(Path(sys.executable).parent)  # cmake and ninja of a virtual environment that is not activated
    environment = {**kept, "PATH": tools + os.pathsep + kept.get("PATH", ""), "PYTHONPATH": "", **variables}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def build(kind: str, source: Path, out: Path, **variables: str) -> Path:
    result = run(
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        f"--{kind}",
        "--outdir",
        str(out),
        str(source),
        cwd=out,
        **variables,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    (product,) = out.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return product


def unpack(sdist: Path, folder: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


@pytest.fixture(scope="module")
def runtime_wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime flavour, built from the sdist of the whole project, as a release would."""
    sdist = build("sdist", tree, tmp_path_factory.mktemp("sdist"))
    root = unpack(sdist, tmp_path_factory.mktemp("unpacked"))
    out = tmp_path_factory.mktemp("wheel")
    return build("wheel", root, out, STCANET_FLAVOR="runtime", STCANET_KERNELS="require")


def members(wheel: Path) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


def imported_modules(source: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(source)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {n.split(".")[0] for n in plain | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}}


def test_sdist_holds_what_a_build_needs(tree: Path, tmp_path: Path) -> None:
    sdist = build("sdist", tree, tmp_path)
    assert sdist.name.startswith("stcanet-0.")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*") if path.is_file()}
    assert len(sources) > 10
    assert sources <= names
    assert {"CMakeLists.txt", "setup.py", "runtime/stcanet_runtime/_kernels.pyi"} <= names
    assert "stcanet/__init__.py" in names
    assert not any(name.startswith("tests/") or name.endswith(".so") for name in names)


def test_runtime_wheel_is_small_and_free_of_torch(runtime_wheel: Path) -> None:
    assert runtime_wheel.name.startswith("stcanet_runtime-")
    assert runtime_wheel.stat().st_size < 2_000_000
    names = members(runtime_wheel)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"stcanet_runtime"}
    assert any(name.startswith("stcanet_runtime/_kernels.") and name.endswith(".so") for name in names)
    gpu = {f"stcanet_runtime/backends/{name}" for name in ("launch.cuh", *gpu_device.SOURCES)}
    assert {"stcanet_runtime/py.typed", "stcanet_runtime/_kernels.pyi", *gpu} <= set(names)
    with zipfile.ZipFile(runtime_wheel) as archive:
        for name in names:
            if name.endswith(".py"):
                modules = imported_modules(archive.read(name).decode())
                assert not modules & {"torch", "torchvision", "stcanet", "stcanet_export"}, name
        metadata = next(archive.read(name).decode() for name in names if name.endswith("METADATA"))
        scripts = next(archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    assert "torch" not in [line.split()[1] for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    assert scripts.split("\n")[1:2] == ["stcanet-runtime = stcanet_runtime.cli:main"]
    assert "License-Expression: Apache-2.0" in metadata


def test_runtime_wheel_works(runtime_wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(runtime_wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import sys, numpy as np, stcanet_runtime as s; x = np.eye(9);"
        "assert s.__file__.startswith(sys.argv[1]), s.__file__;"
        "assert (s.search(x, x, 1, backend='compiled').indices[:, 0] == range(9)).all(); assert 'torch' not in sys.modules"
    )
    result = run(sys.executable, "-c", code, str(tmp_path), cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr


def test_full_wheel_holds_three_packages_and_no_tests(tree: Path, tmp_path: Path) -> None:
    wheel = build("wheel", tree, tmp_path, STCANET_KERNELS="off")
    assert wheel.name.endswith("-py3-none-any.whl")
    folders = {name.split("/")[0] for name in members(wheel) if ".dist-info" not in name}
    assert folders <= {"stcanet", "stcanet_export", "stcanet_runtime"}
    assert {"stcanet", "stcanet_runtime"} <= folders


def test_flavor_of_an_sdist_stays(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "sdist").mkdir()
    (tmp_path / "wheel").mkdir()
    sdist = build("sdist", tree, tmp_path / "sdist", STCANET_FLAVOR="runtime")
    assert sdist.name.startswith("stcanet_runtime-")
    root = unpack(sdist, tmp_path / "unpacked")
    assert build("wheel", root, tmp_path / "wheel", STCANET_KERNELS="off").name.startswith("stcanet_runtime-")


def test_without_a_compiler_the_install_is_pure_python(tree: Path, tmp_path: Path) -> None:
    wheel = build("wheel", tree, tmp_path, STCANET_FLAVOR="runtime", CXX="/bin/false")
    names = members(wheel)
    assert "stcanet_runtime/retrieval/ranking.py" in names
    assert not [name for name in names if name.endswith(".so")]
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        # An editable installation in this environment would lend its compiled module to the package under test.
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'ditable' not in repr(f)];"
        "import stcanet_runtime as s; from stcanet_runtime.backends import available;"
        "print(available()['compiled']); print(s.search([[1, 0]], [[0, 1], [1, 0]], 1).indices)"
    )
    result = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"), STCANET_BACKEND="numpy")
    assert result.stdout.splitlines() == ["the C++ kernels were not built at installation", "[[1]]"], result.stderr


def test_required_kernels_that_fail_are_an_error(tree: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path), str(tree)]
    result = run(*command, cwd=tmp_path, STCANET_FLAVOR="runtime", CXX="/bin/false", STCANET_KERNELS="require")
    assert result.returncode != 0
    assert "the kernels could not be built" in result.stdout + result.stderr
    assert not list(tmp_path.glob("*.whl"))


@pytest.mark.parametrize("variable", ["STCANET_FLAVOR", "STCANET_KERNELS", "STCANET_CUDA"])
def test_misspelt_choices_are_refused(tree: Path, variable: str) -> None:
    result = run(sys.executable, "setup.py", "--version", cwd=tree, **{variable: "maybe"})
    assert result.returncode != 0
    assert variable in result.stderr


def test_editable_install_puts_the_module_beside_its_stub(tree: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(tree, source)
    (source / "CMakeLists.txt").write_text(STAND_IN)
    install = [
        "-m",
        "pip",
        "install",
        "--no-build-isolation",
        "--no-deps",
        "--quiet",
        "--target",
        str(tmp_path / "site"),
    ]
    result = run(sys.executable, *install, "-e", str(source), cwd=tmp_path, STCANET_KERNELS="require")
    assert result.returncode == 0, result.stderr[-3000:]
    modules = [path.name for path in (source / "runtime" / "stcanet_runtime").glob("_kernels*.so")]
    assert len(modules) == 1
    assert [path.parent.name for path in source.rglob("_kernels*.so") if "build" not in path.parts] == ["stcanet_runtime"]
    # -S: without the packages of this environment, among which this project may be installed too.
    code = (
        "import site, sys; from importlib.util import find_spec; site.addsitedir(sys.argv[1]);"
        "print(*[find_spec(name).origin for name in ('stcanet', 'stcanet_runtime')], sep='\\n')"
    )
    result = run(sys.executable, "-S", "-c", code, str(tmp_path / "site"), cwd=tmp_path)
    expected = [source / "stcanet" / "__init__.py", source / "runtime" / "stcanet_runtime" / "__init__.py"]
    assert result.stdout.splitlines() == [str(path) for path in expected], result.stderr
