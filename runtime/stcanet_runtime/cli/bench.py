"""``stcanet bench``, ``stcanet-runtime bench``: how fast packages run on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stcanet_runtime.cli.examples import examples
from stcanet_runtime.cli.options import JSON, THREADS, check_apart, check_providers, provider_option

if TYPE_CHECKING:
    from stcanet_runtime.errors import ProviderError
    from stcanet_runtime.inference.throughput import Throughput


@examples("""
    stcanet bench package/
    stcanet bench package/ package-int8/ --provider cpu --provider openvino --batch 1 --batch 8 --threads 2
    stcanet bench package/ --provider cpu --provider openvino-bf16   (with AMX or AVX512_BF16)
    stcanet bench package/ --json -o bench.json
""")
def bench(
    packages: Annotated[list[Path], typer.Argument(help="Model packages: one for each precision, for example.")],
    provider: Annotated[
        list[str] | None, provider_option("Where to run, again for more (default: all that can run here)", check_providers)
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Crops (or clips) of a run; again for more. Default: 1 and 8.")
    ] = None,
    threads: THREADS = None,
    seconds: Annotated[float, typer.Option(min=0, help="Time for each provider and batch; five runs at least.")] = 2.0,
    cache: Annotated[Path | None, typer.Option(help="Folder where TensorRT and OpenVINO keep what they compile.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="JSON file to write.")] = None,
    as_json: JSON = False,
) -> None:
    """Measure latency and throughput of packages, by provider and batch size."""
    from stcanet_runtime.cli.progress import progress_bar
    from stcanet_runtime.cli.text import print_json, printable, say_written
    from stcanet_runtime.files import check_writable, write_json

    check_apart(packages, ("--out", out))
    if out is not None:
        check_writable(out)
    with progress_bar("measuring") as progress:
        results, left_out = _measure_all(packages, provider, batch or [1, 8], threads, seconds, cache, progress)
    for error in left_out:
        typer.echo(printable(f"note: {error}"), err=True)
    report = _report(results, threads)
    if out is not None:
        write_json(out, report)
    if as_json:
        print_json(report)
    else:
        _print(results)
        say_written(out)


def _here() -> list[str]:
    """The providers that can be asked for on this machine."""
    from stcanet_runtime.inference.providers import available_providers

    return [name for name, reason in available_providers().items() if reason is None] or ["cpu"]


def _measure_all(
    packages: list[Path],
    named: list[str] | None,
    batches: list[int],
    threads: int | None,
    seconds: float,
    cache: Path | None,
    progress: Any,
) -> tuple[list[tuple[Path, Throughput]], list[ProviderError]]:
    """What was measured; and why a provider was not that nobody named: that it is built in says little of its libraries."""
    from stcanet_runtime.errors import ProviderError
    from stcanet_runtime.inference.encoder import Encoder
    from stcanet_runtime.inference.throughput import measure

    results: list[tuple[Path, Throughput]] = []
    left_out: list[ProviderError] = []
    providers = named or _here()
    for package in packages:
        for provider in providers:
            try:
                encoder = Encoder.load(package, provider, threads, batch_sizes=batches, cache=cache)
            except ProviderError as error:
                if named:
                    raise
                left_out.append(error)
                continue
            for batch in batches:
                results.append((package, measure(encoder, batch, seconds)))
                progress(len(results), len(packages) * len(providers) * len(batches))
    return results, left_out


def _report(results: list[tuple[Path, Throughput]], threads: int | None) -> dict[str, Any]:
    from dataclasses import asdict

    from stcanet_runtime._version import __version__
    from stcanet_runtime.machine import processor, versions

    found = versions(("numpy", "onnxruntime", "onnxruntime-gpu", "onnxruntime-ep-openvino"))
    machine = {"version": __version__, "versions": found, "cpu": processor(), "threads": threads}
    return {**machine, "results": [{"package": str(package), **asdict(result)} for package, result in results]}


def _print(results: list[tuple[Path, Throughput]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from stcanet_runtime.cli.text import printable, table_console

    table = Table(box=None)
    table.add_column("package", overflow="fold")
    for name in ("precision", "provider"):
        table.add_column(name)
    for name in ("batch", "p50 ms", "p90 ms", "p99 ms", "per s", "first ms"):
        table.add_column(name, justify="right")
    for package, result in results:
        figures = [*result.latency_ms.values(), result.per_second, result.first_ms]
        table.add_row(
            Text(printable(str(package))),
            result.precision,
            result.provider,
            str(result.batch),
            *(f"{figure:.1f}" for figure in figures),
        )
    table_console().print(table)
