"""The table of `bench_training`'s result files, for `tables`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def training(report: dict[str, Any]) -> Iterator[str]:
    """Images per second of loader, network and both."""
    setting = report["setting"]
    height, width = setting["size"]
    yield (
        f"Training `{setting['preset']}` on {setting['data']}, {height}×{width}, batches of {setting['batch']}, "
        f"{setting['precision']} on {setting['device']}. {setting['images']:,} images decoded once "
        f"in {setting['cache_seconds']:.1f} s, kept in {setting['cache']}. "
        f"Medians of {setting['repeats']} times {setting['steps']} steps, taking turns."
    )
    yield ""
    yield "| | images/s | of the slower of the two alone |"
    yield "|---|---|---|"
    for name, row in report["results"].items():
        share = f"{row['of_the_slower']:.0%}" if "of_the_slower" in row else ""
        yield f"| {name} | {row['images_per_second']:,.0f} | {share} |"
    yield ""
    yield f"Plain: torchvision transforms in a DataLoader with {setting['workers']} processes."
    if "peak_device_bytes" in report:
        yield f"Peak of device memory: {report['peak_device_bytes'] / 2**30:.1f} GiB."
