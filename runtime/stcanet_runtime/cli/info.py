"""`info`: what is installed, what can run here, and what "auto" would take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stcanet_runtime.cli.examples import examples
from stcanet_runtime.cli.options import JSON
from stcanet_runtime.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

_PACKAGES = ("numpy", "pillow", "onnxruntime", "onnxruntime-gpu", "onnxruntime-ep-openvino", "numba", "torch")


@examples("stcanet info --json")
def info(
    as_json: JSON = False,
) -> None:
    """Show versions, compute backends and execution providers, and what "auto" takes."""
    from stcanet_runtime.cli.text import print_json

    facts = collect()
    if as_json:
        print_json(facts)
    else:
        _print(facts)


def collect() -> dict[str, Any]:
    """Everything that `info` shows, as JSON values."""
    from stcanet_runtime import backends, cuda
    from stcanet_runtime._version import __version__
    from stcanet_runtime.inference.providers import AUTO_ORDER, available_providers
    from stcanet_runtime.machine import processor, versions

    providers = available_providers()
    return {
        "version": __version__,
        "versions": versions(_PACKAGES),
        "cpu": processor(),
        "backends": {"available": backends.available(), "auto": backends.explain()},
        "cuda_kernels": cuda.why_not(),
        "providers": {
            "available": providers,
            "auto": next((name for name in AUTO_ORDER if providers[name] is None), None),
            "order": list(AUTO_ORDER),
        },
    }


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    cpu = facts["cpu"]
    console.print(f"[bold]stcanet {facts['version']}[/]")
    versions = facts["versions"]
    console.print("  " + ", ".join(f"{name} {value}" for name, value in versions.items() if value), soft_wrap=True)
    if versions["onnxruntime"] and versions["onnxruntime-gpu"]:
        console.print(
            "  [yellow]both onnxruntime and onnxruntime-gpu are installed; they overwrite each other: keep one[/]",
            soft_wrap=True,
        )
    console.print(f"[bold]processor[/] {cpu['model'] or cpu['machine']}, {counted(cpu['cores'], 'core', 'cores')}")
    if cpu["features"]:
        console.print("  " + " ".join(cpu["features"]), soft_wrap=True)
    backends, providers = facts["backends"], facts["providers"]
    _print_choices(console, "compute backends", backends["available"])
    console.print(f"  auto: {backends['auto']}", markup=False, soft_wrap=True)
    if versions["torch"]:
        _print_choices(console, "attention while training", {"eager": None, "sdpa": None, "fused": facts["cuda_kernels"]})
        console.print("  auto: eager, until the fused kernels have been measured on a GPU", soft_wrap=True)
    _print_choices(console, "execution providers", providers["available"])
    order = ", ".join(providers["order"])
    console.print(f"  auto: {providers['auto'] or 'nothing'}, the first that can run of {order}", soft_wrap=True)


def _print_choices(console: Console, title: str, reasons: dict[str, str | None]) -> None:
    from rich.markup import escape

    console.print(f"[bold]{title}[/]")
    width = max(map(len, reasons))
    for name, reason in reasons.items():
        state = "[green]available[/]" if reason is None else f"[dim]not here: {escape(reason)}[/]"
        console.print(f"  {name:<{width}}  {state}", soft_wrap=True)
