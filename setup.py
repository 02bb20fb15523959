"""Metadata, flavours and the native build; tool settings are in pyproject.toml.

Environment:
    STCANET_FLAVOR=runtime: build ``stcanet-runtime``, the edge library alone. An sdist of a flavour stays that flavour.
    STCANET_KERNELS=require: a failed build of the kernels is an error. ``off``: do not try. Otherwise: try, and install
        the pure-Python package when it fails.
    STCANET_CUDA=1: build the CUDA kernels too; nvcc must be there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

ROOT = Path(__file__).resolve().parent
RUNTIME = ROOT / "runtime"


def read_version() -> str:
    text = (RUNTIME / "stcanet_runtime" / "_version.py").read_text(encoding="utf-8")
    match = re.search(r'__version__\s*=\s*"([^"]+)"', text)
    if match is None:
        raise SystemExit("runtime/stcanet_runtime/_version.py has no __version__")
    return match[1]


def read_flavor() -> str:
    flavor = os.environ.get("STCANET_FLAVOR", "")
    if flavor not in ("", "full", "runtime"):
        raise SystemExit(f"STCANET_FLAVOR must be 'full' or 'runtime', got '{flavor}'")
    info = ROOT / "PKG-INFO"  # only in an sdist
    if not flavor and info.is_file() and "\nName: stcanet-runtime\n" in info.read_text(encoding="utf-8"):
        return "runtime"
    return flavor or "full"


def read_choice(variable: str, choices: tuple[str, ...]) -> str:
    value = os.environ.get(variable, "").lower()
    if value not in ("", *choices):
        raise SystemExit(f"{variable} must be unset or one of {', '.join(choices)}, got '{value}'")
    return value


class CMakeBuild(build_ext):
    """Runs CMake once for all modules; setuptools only learns where they lie."""

    def build_extension(self, ext: Extension) -> None:
        if ext is self.extensions[0]:
            self._run_cmake()

    def _run_cmake(self) -> None:
        build, prefix = Path(self.build_temp).resolve() / "cmake", Path(self.build_lib).resolve()
        shutil.rmtree(build, ignore_errors=True)  # its cache remembers an isolated environment that is gone
        for stale in (prefix / "stcanet_runtime").glob("_kernels*.so"):
            stale.unlink()
        configure = ["cmake", "-S", str(ROOT), "-B", str(build), f"-DPython_EXECUTABLE={sys.executable}"]
        configure += [f"-DSTCANET_CUDA={'ON' if CUDA == '1' else 'OFF'}"]
        configure += ["-G", "Ninja"] if shutil.which("ninja") else []
        try:
            subprocess.run(configure, check=True)
            subprocess.run(["cmake", "--build", str(build), "--parallel"], check=True)
            subprocess.run(["cmake", "--install", str(build), "--prefix", str(prefix)], check=True)
        except (subprocess.CalledProcessError, OSError) as error:
            raise CompileError(f"the kernels could not be built: {error}") from error

    def copy_extensions_to_source(self) -> None:
        # Editable installs: every module that CMake made, not only those declared, and none if the build failed.
        for module in (Path(self.build_lib) / "stcanet_runtime").glob("_kernels*"):
            shutil.copy2(module, RUNTIME / "stcanet_runtime")


FLAVOR = read_flavor()
KERNELS = read_choice("STCANET_KERNELS", ("require", "off"))
CUDA = read_choice("STCANET_CUDA", ("0", "1"))

MODULES = ["stcanet_runtime._kernels"] + (["stcanet_runtime._kernels_cuda"] if CUDA == "1" else [])

TORCH = ["torch>=2.8", "torchvision>=0.23"]
RUNTIME_EXTRAS = {
    # Never in the base: the wheels of onnxruntime and onnxruntime-gpu overwrite each other.
    "cpu": ["onnxruntime>=1.22"],
    # Both of CUDA 13, for which onnxruntime-gpu is built from 1.27 on.
    # Not cupy-cuda13x[ctk]: where onnxruntime-gpu runs, most of CUDA's libraries are there, in whatever way they came.
    "gpu": ["onnxruntime-gpu>=1.27", "cupy-cuda13x>=13.6"],
    "video": ["av>=14.1"],
    "metrics": ["prometheus-client"],
    "jit": ["numba>=0.61"],
    "sign": ["py-minisign"],
    "openvino": ["onnxruntime>=1.24", "onnxruntime-ep-openvino"],
}
FULL_EXTRAS = {
    **RUNTIME_EXTRAS,
    "train": [*TORCH, "tensorboard", "tomli-w", "scipy"],
    "openvino-native": ["openvino"],  # without ONNX Runtime; also on processors where its plugin lists no device
    "mat": ["scipy"],  # .mat files of CUHK03, MARS and label maps, for who evaluates without torch
    "export": [*TORCH, "onnx>=1.18", "onnxscript>=0.7"],
    "dev": [
        "build",
        "clang-format",
        "cmake>=3.22",
        "hypothesis",
        "import-linter",
        "mypy",
        "ninja",
        "pre-commit",
        "pybind11>=2.13",
        "pytest>=8",
        "pytest-xdist>=3.6",
        "ruff",
        "setuptools>=77",
        "wheel",
    ],
}
SCRIPTS = {"stcanet": "stcanet.cli:main", "stcanet-runtime": "stcanet_runtime.cli:main"}

FLAVORS = {
    "full": {
        "name": "stcanet",
        "description": "Person re-identification with spatio-temporal context attention: train, export, verify, deploy",
        "folders": {"stcanet_runtime": "runtime", "stcanet": ".", "stcanet_export": "export"},
        "extras": FULL_EXTRAS,
        "scripts": SCRIPTS,
    },
    "runtime": {
        "name": "stcanet-runtime",
        "description": "The edge runtime of STCANet: embed, search and rank people, without PyTorch",
        "folders": {"stcanet_runtime": "runtime"},
        "extras": RUNTIME_EXTRAS,
        "scripts": {"stcanet-runtime": SCRIPTS["stcanet-runtime"]},
    },
}


def find_all(folders: dict[str, str]) -> list[str]:
    """The packages of each folder by name, so that tests and benchmarks beside them are never packaged."""
    return [package for name, folder in folders.items() for package in find_packages(folder, include=[name, f"{name}.*"])]


flavor = FLAVORS[FLAVOR]
readme = ROOT / ("runtime/README.md" if FLAVOR == "runtime" else "README.md")

setup(
    name=flavor["name"],
    version=read_version(),
    description=flavor["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.is_file() else flavor["description"],
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: C++",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    python_requires=">=3.11,<3.15",
    install_requires=["numpy>=2", "pillow>=11", "typer>=0.20", "rich"],
    extras_require=flavor["extras"],
    entry_points={"console_scripts": [f"{name} = {target}" for name, target in flavor["scripts"].items()]},
    packages=find_all(flavor["folders"]),
    package_dir={name: f"{folder}/{name}" for name, folder in flavor["folders"].items()},
    package_data={
        **{name: ["py.typed", "*.pyi"] for name in flavor["folders"]},
        "stcanet_runtime.backends": ["launch.cuh", "retrieval.cu", "crops.cu"],
        "stcanet.data.masks": ["lip.toml"],
    },
    include_package_data=False,
    ext_modules=[] if KERNELS == "off" else [Extension(m, [], optional=KERNELS != "require") for m in MODULES],
    cmdclass={"build_ext": CMakeBuild},
    # setuptools packages all it finds in the build folder, so that a shared one would carry torch into the runtime wheel.
    options={"build": {"build_base": f"build/{FLAVOR}"}},
    zip_safe=False,
)
