"""How fast a package runs here: latency percentiles and crops per second of one provider at one batch size."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from stcanet_runtime.inference.contract import noise
from stcanet_runtime.inference.encoder import Encoder
from stcanet_runtime.inference.providers import precision_under

PERCENTILES = (50, 90, 99)
_FEWEST_RUNS = 5


@dataclass(frozen=True)
class Throughput:
    """Runs of one batch size, one after the other, by themselves; without decoding, cutting and resizing."""

    model: str
    precision: str
    provider: str
    batch: int
    """Crops, or clips, of a run."""
    runs: int
    latency_ms: dict[str, float]
    """Of a run: p50, p90 and p99."""
    per_second: float
    """Crops, or clips."""
    first_ms: float
    """The first run of this size, which may compile; not among the others."""


def measure(encoder: Encoder, batch: int, seconds: float = 2.0) -> Throughput:
    """Run batches of noise for some seconds, but at least five.

    Args:
        encoder: The open package.
        batch: Crops, or clips, of a run, at least 1.
        seconds: How long.
    """
    crops = noise(encoder.manifest.input, batch)

    def run() -> float:
        start = time.perf_counter()
        encoder.embed_batch(crops)
        return 1e3 * (time.perf_counter() - start)

    first, times = run(), [run()]
    while len(times) < _FEWEST_RUNS or sum(times) < 1e3 * seconds:
        times.append(run())
    latency = {f"p{percentile}": float(np.percentile(times, percentile)) for percentile in PERCENTILES}
    manifest = encoder.manifest
    rate = 1e3 * batch * len(times) / sum(times)
    provider = encoder.session.provider
    precision = precision_under(provider, manifest.precision)
    return Throughput(manifest.preset, precision, provider, batch, len(times), latency, rate, first)
