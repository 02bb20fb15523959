"""Compile the CUDA kernels for every architecture: no warnings, and how many registers and spills each kernel has.

Needs nvcc, no GPU. Ends with an error where there is a warning. By architecture the kernel that takes most registers, and those
that spill; ``--out benchmarks/results`` records it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from provenance import add_out, environment, write_result

from stcanet_runtime.backends import gpu_device

ROOT = Path(__file__).parents[1]
ARCHITECTURES = (75, 80, 86, 87, 89, 90, 100, 120)
BACKEND = ROOT / "runtime" / "stcanet_runtime" / "backends"
SOURCES = [*sorted((ROOT / "csrc" / "cuda").glob("*.cu")), *(BACKEND / name for name in gpu_device.SOURCES)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architectures", type=int, nargs="+", default=ARCHITECTURES, help="such as 80 90")
    add_out(parser)
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for architecture in options.architectures:
        kernels: dict[str, dict[str, int]] = {}
        for source in SOURCES:
            print(f"sm_{architecture} {source.name}", file=sys.stderr)
            kernels |= compile_one(source, architecture)
        found[f"sm_{architecture}"] = brief(kernels)
        print(f"sm_{architecture}", found[f"sm_{architecture}"], flush=True)
    report = {"benchmark": "cuda_registers", "environment": environment(), "nvcc": nvcc_version(), "architectures": found}
    write_result(options.out, "cuda_registers", report)


def brief(kernels: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Of the kernels of one architecture: how many, the one with most registers, and what spills."""
    most = max(kernels, key=lambda kernel: kernels[kernel]["registers"])
    return {
        "kernels": len(kernels),
        "most_registers": kernels[most]["registers"],
        "of": most,
        "spilling": {kernel: facts for kernel, facts in kernels.items() if facts["spilled_bytes"]},
    }


def compile_one(source: Path, architecture: int) -> dict[str, dict[str, int]]:
    """Registers of a thread and bytes spilled, by kernel."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ["-std=c++17", "-O3", f"-arch=sm_{architecture}", "-Xptxas", "-v", "-Werror", "all-warnings"]
        includes = [f"-I{ROOT / folder}" for folder in ("csrc/include", "csrc/cuda")]
        command = ["nvcc", *flags, *includes, "-c", str(source), "-o", str(Path(folder) / "out.o")]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    text = subprocess.run(["c++filt"], input=result.stderr, capture_output=True, text=True, check=True).stdout
    if result.returncode or "warning" in text.lower():
        raise SystemExit(f"{source.name} for sm_{architecture}:\n{text}")
    found = re.findall(
        r"Compiling entry function '(.*?)' for .*?(\d+) bytes spill stores.*?Used (\d+) registers", text, re.DOTALL
    )
    return {short(name): {"registers": int(registers), "spilled_bytes": int(spilled)} for name, spilled, registers in found}


def short(name: str) -> str:
    """``forward_kernel<Bf16, Shape<…>>``: without namespaces, result and parameters."""
    bare = name.replace("stcanet::cuda::", "").replace("(anonymous namespace)::", "").removeprefix("void ")
    return bare.split(">(")[0] + (">" if ">(" in bare else "")


def nvcc_version() -> str:
    lines = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()
    return next(line.split("release ")[1] for line in lines if "release " in line)


if __name__ == "__main__":
    main()
