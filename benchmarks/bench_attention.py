"""Attention on a GPU: the fused kernels beside eager PyTorch, its compiled form and the backends of its attention.

The part relation, fused and eager; then milliseconds of the GPU (median) and peak memory, forward alone and with its gradient,
and the largest error relative to float64. With ``--out FOLDER`` the result file is written again after each shape and dtype, so
what was measured is kept whatever comes. It ends with an error where the fused kernels failed or are not as precise as they
have to be, after all the rest. Without a GPU it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import gc
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from provenance import add_out, environment, nothing_measured, write_result
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from turns import in_turns

from stcanet.config.model import Attention
from stcanet.model import fused
from stcanet.model.mixing import channel_mix, part_relation
from stcanet_runtime import cuda
from stcanet_runtime.errors import StcanetError

RELATIONS = {"image": (64, 4, 256), "video, T = 4": (32, 16, 256), "video, T = 8": (32, 32, 256)}
SHAPES = {"image, stage 2": (64, 512, 512), "image, stage 3": (64, 1024, 128), "video, T = 4": (32, 2048, 512)}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "tf32": torch.float32}
BACKENDS = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH)
LARGEST_ERROR = {"bf16": 1e-2, "fp16": 1e-2, "fp32": 1e-5, "tf32": 1e-3}
"""Of the fused kernels, relative to the largest value; in bf16 no more than twice that of "plain" besides."""
BUSY_CYCLES = 10_000_000
"""Some 5 ms, several times what PyTorch takes to launch a call and its gradient."""
Mix = Callable[[Tensor], Tensor]
Row = TypeVar("Row")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    add_out(parser)
    options = parser.parse_args()
    if not torch.cuda.is_available() or (problem := cuda.why_not()) is not None:
        nothing_measured(problem if torch.cuda.is_available() else "torch sees no GPU")
    rows: list[dict[str, Any]] = []
    relations: list[dict[str, Any]] = []
    problems: list[str] = []
    facts = {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "repeats": options.repeats}
    report = {"benchmark": "attention", "environment": environment("torch"), **facts, "rows": rows, "relations": relations}
    for label, shape in RELATIONS.items():
        relations += attempt(f"relation of {label}", problems, partial(compare_relation, label, shape, options.repeats))
    write_result(options.out, "attention", report)
    for dtype in options.dtypes:  # those that matter most first
        torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
        for label, shape in SHAPES.items():
            found = attempt(f"{label}, {dtype}", problems, partial(compare, shape, DTYPES[dtype], options.repeats))
            rows += [{"shape": label, "sizes": shape, "dtype": dtype, **row} for row in found]
            if found:
                show(rows)
            write_result(options.out, "attention", report)
    if problems := problems + too_large(rows, relations):
        raise SystemExit("failed or not precise enough: " + "; ".join(problems))


def attempt(what: str, problems: list[str], measure: Callable[[], list[Row]]) -> list[Row]:
    """The rows of a measurement; none, and a problem more, where it fails."""
    try:
        return measure()
    except (RuntimeError, StcanetError) as error:
        problems.append(f"{what}: {' '.join(str(error).split())[:200]}")
        print(problems[-1])
        return []


def too_large(rows: list[dict[str, Any]], relations: list[dict[str, Any]]) -> list[str]:
    """Errors of the fused kernels that are larger than they may be."""
    plain = {(row["shape"], row["dtype"]): row for row in rows if row["implementation"] == "plain"}
    problems = []
    for row in rows:
        for name in ("error", "gradient_error") if row["implementation"] == "fused" else ():
            limit, beside = LARGEST_ERROR[row["dtype"]], plain.get((row["shape"], row["dtype"]))
            if row["dtype"] == "bf16" and beside is not None:
                limit = min(limit, 2 * beside[name])
            if not row[name] <= limit:  # NaN is too large
                problems.append(f"{name} {row[name]:.1e} of {row['shape']}, {row['dtype']} (at most {limit:.1e})")
    for row in relations:
        if row["implementation"] == "fused" and not row["error"] <= LARGEST_ERROR["bf16"]:
            problems.append(f"error {row['error']:.1e} of the relation of {row['shape']}")
    return problems


def compare(shape: tuple[int, int, int], dtype: torch.dtype, repeats: int) -> list[dict[str, Any]]:
    """One row for each implementation that runs; interleaved, so that all meet the same clock."""
    generator = torch.Generator("cuda").manual_seed(0)
    rows = (torch.rand(shape, generator=generator, device="cuda") * 3 / shape[2] ** 0.5).to(dtype).requires_grad_()
    grad = torch.randn(shape, generator=generator, device="cuda").to(dtype)
    exact = reference(rows[:1], grad[:1])
    found: dict[str, dict[str, Any]] = {}
    named = implementations()
    for name, mix in named.items():
        try:
            found[name] = {"implementation": name, **errors(mix, rows, grad, exact), **memory(mix, rows, grad)}
        except RuntimeError as error:  # a backend that does not take this head dimension or dtype
            if name == "fused":
                raise
            print(f"  {name}: {str(error).splitlines()[0][:90]}")
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    for name in found:
        calls[name, "forward"] = lambda mix=named[name]: forward(mix, rows)  # type: ignore[misc]
        calls[name, "both"] = lambda mix=named[name]: both(mix, rows, grad)  # type: ignore[misc]
    for (name, what), times in in_turns(calls, repeats, milliseconds).items():
        found[name][f"{what}_ms"] = statistics.median(times)
    return list(found.values())


def compare_relation(label: str, shape: tuple[int, int, int], repeats: int) -> list[dict[str, Any]]:
    """Milliseconds of the part relation in bfloat16, with its gradient."""
    nodes = torch.randn(shape, device="cuda").bfloat16().requires_grad_()
    weight = torch.randn(1, shape[2], device="cuda").bfloat16().requires_grad_()
    exact = nodes.detach().double(), weight.detach().double()
    expected = part_relation(*(x.requires_grad_() for x in exact), "eager")
    grads = torch.autograd.grad(expected, exact, expected.detach())

    def run(attention: Attention) -> tuple[Tensor, ...]:
        logits = part_relation(nodes, weight, attention)
        return logits.detach(), *torch.autograd.grad(logits, (nodes, weight), logits.detach())

    def error(attention: Attention) -> float:
        pairs = zip(run(attention), (expected.detach(), *grads), strict=True)
        return max(float((result.double() - wanted).abs().max() / wanted.abs().max()) for result, wanted in pairs)

    calls = {"fused": lambda: run("fused"), "eager": lambda: run("eager")}
    times = in_turns(calls, repeats + 3, milliseconds)
    rows = [
        {"shape": label, "sizes": shape, "implementation": n, "both_ms": statistics.median(t[3:]), "error": error(n)}
        for n, t in times.items()
    ]
    said = ", ".join(f"{row['implementation']} {row['both_ms']:.3f} ms, error {row['error']:.1e}" for row in rows)
    print(f"relation, {label} {shape}: {said}")
    return rows


def implementations() -> dict[str, Mix]:
    """By name; the eager path computes in float32 as the model does, "plain" in the dtype of its input."""
    torch.compiler.reset()  # else it gives up, silently, after a few shapes and dtypes
    compiled = torch.compile(channel_mix, dynamic=False)
    named: dict[str, Mix] = {"fused": fused.channel_attention, "eager": channel_mix, "compiled": compiled, "plain": plain}
    for backend in BACKENDS:
        named[f"sdpa {backend.name.split('_')[0].lower()}"] = with_backend(backend)
    return named


def plain(rows: Tensor) -> Tensor:
    return torch.softmax(rows @ rows.mT, dim=-1) @ rows


def with_backend(backend: SDPBackend) -> Mix:
    def mix(rows: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            return channel_mix(rows, "sdpa")

    return mix


def forward(mix: Mix, rows: Tensor) -> Tensor:
    with torch.no_grad():
        return mix(rows)


def both(mix: Mix, rows: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    mixed = mix(rows)
    (grad_rows,) = torch.autograd.grad(mixed, rows, grad.to(mixed.dtype))
    return mixed.detach(), grad_rows


def reference(rows: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Of the first clip, in float64."""
    return both(plain, rows.detach().double().requires_grad_(), grad.double())


def errors(mix: Mix, rows: Tensor, grad: Tensor, exact: tuple[Tensor, Tensor]) -> dict[str, float]:
    results = both(mix, rows, grad)
    names = ("error", "gradient_error")
    return {
        name: float((result[:1].double() - expected).abs().max() / expected.abs().max())
        for name, result, expected in zip(names, results, exact, strict=True)
    }


def memory(mix: Mix, rows: Tensor, grad: Tensor) -> dict[str, float]:
    """Peak MiB beyond what was there."""
    found = {}
    for name, call in (("forward_mib", lambda: forward(mix, rows)), ("both_mib", lambda: both(mix, rows, grad))):
        call()  # the first of a kind compiles
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        found[name] = round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
    return found


def milliseconds(call: Callable[[], object]) -> float:
    """Of the GPU alone: it is busy until the whole call is in its queue, else the time that Python takes would count."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(BUSY_CYCLES)  # noqa: SLF001
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def show(rows: list[dict[str, Any]]) -> None:
    last = [row for row in rows if (row["shape"], row["dtype"]) == (rows[-1]["shape"], rows[-1]["dtype"])]
    print(f"{last[0]['shape']} {last[0]['sizes']} {last[0]['dtype']}")
    for row in last:
        print(
            f"  {row['implementation']:<16} {row['forward_ms']:8.3f} ms {row['both_ms']:8.3f} ms  "
            f"{row['forward_mib']:8.1f} MiB {row['both_mib']:8.1f} MiB  {row['error']:.1e} {row['gradient_error']:.1e}"
        )


if __name__ == "__main__":
    main()
