"""Counters and latencies for Prometheus; needs the extra ``metrics``, and opens a socket only when told to serve them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stcanet_runtime.extras import import_extra
from stcanet_runtime.inference.asynchronous import AsyncEncoder

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """``stcanet_frames_submitted_total{camera}``, ``stcanet_frames_total{camera,outcome}``, ``stcanet_seconds{camera,stage}``.

    Example:
        >>> metrics = Metrics()  # doctest: +SKIP
        >>> stream = AsyncEncoder(encoder, observe=metrics.observer("door"))  # doctest: +SKIP
        >>> metrics.follow("door", stream)  # doctest: +SKIP
        >>> metrics.serve(9108)  # doctest: +SKIP
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Count nothing yet.

        Args:
            registry: Where the metrics belong; None for one of their own.

        Raises:
            MissingDependencyError: prometheus-client is not installed.
        """
        self._prometheus = import_extra("prometheus_client", "prometheus-client", "counting for Prometheus", "metrics")
        self.registry = registry or self._prometheus.CollectorRegistry()
        self._streams: dict[str, AsyncEncoder] = {}
        self._seconds = self._prometheus.Histogram(
            "stcanet_seconds", "Time by stage: cut, embed, frame", ["camera", "stage"], buckets=_BUCKETS, registry=self.registry
        )
        self.registry.register(self)

    def observer(self, camera: str) -> Any:
        """What `AsyncEncoder` takes as `observe`, for the stream of a camera."""
        return lambda stage, seconds: self._seconds.labels(camera, stage).observe(seconds)

    def follow(self, camera: str, stream: AsyncEncoder) -> None:
        """Show the counts of a stream; they are read when they are asked for."""
        self._streams[camera] = stream

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        family = self._prometheus.metrics_core.CounterMetricFamily
        submitted = family("stcanet_frames_submitted", "Frames that came", labels=["camera"])
        outcomes = family("stcanet_frames", "Frames by what became of them", labels=["camera", "outcome"])
        for camera, stream in list(self._streams.items()):
            counts = asdict(stream.counts)
            submitted.add_metric([camera], counts.pop("submitted"))
            for outcome, count in counts.items():
                outcomes.add_metric([camera, outcome], count)
        yield from (submitted, outcomes)

    def text(self) -> str:
        """All of it, as Prometheus reads it."""
        return str(self._prometheus.generate_latest(self.registry).decode())

    def serve(self, port: int, address: str = "127.0.0.1") -> None:
        """Answer ``GET /metrics`` until the process ends: the only thing in this package that opens a socket.

        Raises:
            OSError: The port is taken, or there is no such address.
        """
        try:
            self._prometheus.start_http_server(port, address, self.registry)
        except OSError as error:
            error.filename = f"{address}:{port}"  # the system names neither
            raise
