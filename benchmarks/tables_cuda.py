"""Tables of the CUDA kernels: registers by architecture; attention and re-ranking on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def registers(report: dict[str, Any]) -> Iterator[str]:
    """Registers and spills of the CUDA kernels by architecture."""
    yield f"Compiled with nvcc {report['nvcc']} without a warning, not run. Registers of a thread, and bytes that it spills."
    yield ""
    yield "| architecture | kernels | most registers | spills |"
    yield "|---|---|---|---|"
    for architecture, found in report["architectures"].items():
        spills = [f"`{kernel}`: {facts['spilled_bytes']} B" for kernel, facts in found["spilling"].items()]
        most = f"{found['most_registers']}: `{found['of']}`"
        yield f"| {architecture} | {found['kernels']} | {most} | {', '.join(spills) or 'none'} |"
    yield ""


def attention(report: dict[str, Any]) -> Iterator[str]:
    """Channel attention on a GPU: time, memory and error of each implementation."""
    yield f"On one {report['gpu']}, CUDA {report['cuda']}; medians of {report['repeats']}."
    yield ""
    yield "| G | dtype | implementation | forward ms | with gradient | forward MiB | with gradient | error | of gradient |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in report["rows"]:
        figures = [f"{row[key]:.3f}" for key in ("forward_ms", "both_ms")]
        figures += [f"{row[key]:,.0f}" for key in ("forward_mib", "both_mib")]
        figures += [f"{row[key]:.1e}" for key in ("error", "gradient_error")]
        yield f"| {row['shape']} {row['sizes']} | {row['dtype']} | {row['implementation']} | {' | '.join(figures)} |"
    yield ""
    yield "| part relation of x | implementation | with gradient ms |"
    yield "|---|---|---|"
    for row in report["relations"]:
        yield f"| {row['shape']} {row['sizes']} | {row['implementation']} | {row['both_ms']:.3f} |"
    yield ""


def model(report: dict[str, Any]) -> Iterator[str]:
    """Whole models on a GPU: images or clips per second by attention."""
    yield (
        f"On {report['device']}: batches that are on it already, random; medians of {report['repeats']} times "
        f"{report['steps']} steps, taking turns. Peak: weights and all."
    )
    yield ""
    yield "| | batch | precision | | attention | images or clips/s | times eager | peak MiB |"
    yield "|---|---|---|---|---|---|---|---|"
    rows = report["rows"]
    eager = {(row["preset"], row["what"]): row["per_second"] for row in rows if row["attention"] == "eager"}
    for row in rows:
        ratio = row["per_second"] / eager[row["preset"], row["what"]]
        place = (
            f"`{row['preset']}` | {'×'.join(map(str, row['shape']))} | {row['precision']} | {row['what']} | {row['attention']}"
        )
        yield f"| {place} | {row['per_second']:,.1f} | {ratio:.2f} | {row['peak_mib']:,.0f} |"
    yield ""


def rerank(report: dict[str, Any]) -> Iterator[str]:
    """Time and memory of re-ranking on a GPU, and whether the lists are those of the processor."""
    yield (
        f"On one {report['gpu']}, CUDA {report['cuda']}; embeddings on it, the best {report['top']} of each query out; "
        f"medians of {report['repeats']}."
    )
    yield ""
    yield "| | Q, G, D | search ms | re-ranking ms | MiB besides embeddings | on the processor ms | lists that differ |"
    yield "|---|---|---|---|---|---|---|"
    for row in report["rows"]:
        figures = f"{row['search_ms']:.1f} | {row['rerank_ms']:.1f} | {row['peak_mib']:,.0f}"
        beside = f"{row['processor_ms']:,.0f} | {row['differing']}" if "differing" in row else "no time left | not compared"
        yield f"| {row['name']} | {', '.join(map(str, row['sizes']))} | {figures} | {beside} |"
    yield ""
