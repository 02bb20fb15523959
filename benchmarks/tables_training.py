"""Tables of `bench_training`'s and `kill_and_resume`'s result files, for `tables`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def training(report: dict[str, Any]) -> Iterator[str]:
    """Training: images per second of loader, network and both."""
    setting = report["setting"]
    height, width = setting["size"]
    precision = f"{setting['precision']}, torch.compile" if setting["compile"] else setting["precision"]
    yield (
        f"Training `{setting['preset']}` on {setting['data']}, {height}×{width}, batches of {setting['batch']}, "
        f"{precision} on {setting['device']}. {setting['images']:,} images decoded once "
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


def kills(report: dict[str, Any]) -> Iterator[str]:
    """What became of training runs that were killed."""
    trials = report["trials"]
    found = [kill for trial in trials for kill in trial["kills"]]
    yield (
        f"{len(trials)} runs of {report['epochs']} epochs on the CPU, killed {len(found)} times (SIGKILL) at random moments, "
        f"{sum(bool(kill['half_written']) for kill in found)} of these with a file half written: "
        f"{sum(trial['same_weights'] for trial in trials)} ended with the weights of a run that was left alone, bit for bit, "
        f"{sum(trial['clean'] for trial in trials)} with every epoch recorded once and no leftovers."
    )
    yield ""
