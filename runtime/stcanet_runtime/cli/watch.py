"""`watch` and `health`: cameras without end, and whether somebody still looks at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from stcanet_runtime.cli.examples import examples
from stcanet_runtime.cli.options import PROVIDER, THREADS, check_apart, check_threshold


@examples("""
    stcanet watch package/ door=rtsp://10.0.0.7/main yard=yard.mp4 --detector person.onnx --gallery site.gallery
    stcanet --config box.toml watch
    stcanet health /run/stcanet/health.json
""")
def watch(
    package: Annotated[Path, typer.Argument(help="Model package.")],
    cameras: Annotated[list[str], typer.Argument(metavar="NAME=SOURCE...", help="Cameras (URLs), or video files.")],
    detector: Annotated[Path, typer.Option(help="Person detector (.onnx; the guide says what it must be).")],
    gallery: Annotated[
        Path | None, typer.Option(help="Gallery of people who are known. Without: embeddings are written.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(callback=check_threshold, help="Distance up to which it is them. Default: the gallery's.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to append JSON lines to. Default: stdout.")] = None,
    health: Annotated[Path | None, typer.Option(help="File that says every 5 seconds how it goes; see `health`.")] = None,
    metrics_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Serve metrics for Prometheus there.")] = None,
    metrics_address: Annotated[str | None, typer.Option(help="Address of the metrics. Default: 127.0.0.1.")] = None,
    provider: PROVIDER = "auto",
    threads: THREADS = None,
    cache: Annotated[Path | None, typer.Option(help="Folder where TensorRT and OpenVINO keep what they compile.")] = None,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Least score of a person.")] = 0.5,
) -> None:
    """Watch cameras until SIGTERM or Ctrl-C: a JSON line for each person and frame. What cannot keep up drops old frames."""
    import signal
    from contextlib import ExitStack

    from stcanet_runtime.cameras.detector import Detector
    from stcanet_runtime.cameras.health import report_loading
    from stcanet_runtime.cameras.lines import appending
    from stcanet_runtime.cameras.metrics import Metrics
    from stcanet_runtime.cameras.watch import Watch
    from stcanet_runtime.errors import DataError
    from stcanet_runtime.files import check_writable
    from stcanet_runtime.gallery import Gallery
    from stcanet_runtime.inference.encoder import Encoder

    sources = _sources(cameras)
    _check_needed("--threshold", threshold, "--gallery", gallery, "nobody is known")
    _check_needed("--metrics-address", metrics_address, "--metrics-port", metrics_port, "nothing is served")
    check_apart([package, detector, gallery, *sources.values()], ("--out", out), ("--health", health))
    if health is not None:
        check_writable(health)  # later on a disk may be full, and the watch goes on
    metrics = Metrics() if metrics_port is not None else None
    with ExitStack() as stack:
        stack.enter_context(report_loading(health))
        # What may be wrong and is quickly seen goes first: models may be compiled for minutes.
        if gallery is not None:
            _check_gallery(gallery, package, threshold)
        write = stack.enter_context(appending(out))
        if metrics is not None and metrics_port is not None:
            metrics.serve(metrics_port, metrics_address or "127.0.0.1")
        encoder = Encoder.load(package, provider, threads, cache=cache)
        # Both may have been replaced meanwhile.
        known = stack.enter_context(Gallery.open(gallery, encoder.model_sha256, read_only=True)) if gallery else None
        finder = Detector.load(detector, provider, threads, min_score, cache=cache)
        encoder.warm_up(len(sources))  # each camera has a thread of its own
        finder.warm_up(len(sources))
        watched = Watch(encoder, finder, sources, write, known, threshold, metrics)
        before = signal.signal(signal.SIGTERM, lambda *_: watched.stop.set())
        stack.callback(signal.signal, signal.SIGTERM, before)
        ends = watched.run(health)
    if lacking := [fault for name, facts in ends.items() if facts["ended"] for fault in _lacking(name, facts)]:
        raise DataError("; ".join(lacking))


def _check_needed(option: str, value: object, needed: str, other: object, why: str) -> None:
    if value is not None and other is None:
        raise typer.BadParameter(f"needs {needed}: without it {why}", param_hint=f"'{option}'")


def _check_gallery(gallery: Path, package: Path, threshold: float | None) -> None:
    from stcanet_runtime.gallery import Gallery
    from stcanet_runtime.package.contents import package_sha256

    with Gallery.open(gallery, package_sha256(package), read_only=True) as looked_at:
        looked_at.limit(threshold)


def _lacking(name: str, facts: Mapping[str, Any]) -> list[str]:
    """What is not there of a file that has ended."""
    from stcanet_runtime.wording import counted

    return [
        *([f"{name}: {facts['error']}"] if facts["error"] else []),
        *([f"{name}: {counted(facts['failed'], 'frame', 'frames')} failed"] if facts["failed"] else []),
        *([f"{name}: lines of {counted(facts['lost'], 'frame', 'frames')} were lost"] if facts["lost"] else []),
    ]


@examples("""
    stcanet health watch.json
    stcanet health watch.json --alive --max-age 120
""")
def health(
    file: Annotated[Path, typer.Argument(help="What `watch --health` writes.")],
    max_age: Annotated[float, typer.Option(min=0, help="Seconds of silence that are a fault.")] = 60.0,
    alive: Annotated[
        bool, typer.Option("--alive", help="Leave out cameras that are off, and a full disk: is the watch itself at work?")
    ] = False,
) -> None:
    """Status 0 if a watch runs and every camera gives frames; else 1, and what is wrong."""
    from stcanet_runtime.cameras.health import check_health
    from stcanet_runtime.errors import DataError

    if faults := check_health(file, max_age, alive=alive):
        raise DataError("; ".join(faults))
    typer.echo("healthy")


def _sources(texts: Sequence[str]) -> dict[str, str]:
    sources: dict[str, str] = {}
    for name, source in map(_pair, texts):
        if name in sources:
            raise typer.BadParameter(f"'{name}' names two cameras; give them different names", param_hint="'NAME=SOURCE'")
        sources[name] = source
    return sources


def _pair(text: str) -> tuple[str, str]:
    from stcanet_runtime.cameras.video import is_url, without_login

    name, sign, source = text.partition("=")
    if not sign or not name or not source or is_url(name):  # a URL with = in it would name the camera
        raise typer.BadParameter(f"'{without_login(text)}' must be NAME=SOURCE", param_hint="'NAME=SOURCE'")
    return name, source
