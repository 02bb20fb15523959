"""Tables of training, for `tables`: `bench_training`, `kill_and_resume`, `attention_ablation`, `train_and_deploy`."""

from __future__ import annotations

import statistics
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


def deployed(report: dict[str, Any]) -> Iterator[str]:
    """Retrieval of a trained model in PyTorch and, exported, under each provider."""
    data, training, results = report["data"], report["training"], report["results"]
    settings, protocol = training["settings"], results["torch"]["protocol"]
    yield (
        f"`{settings['preset']}` on {data['name']}: {data['train']['images']:,} training images, "
        f"{protocol['num_query']:,} queries, {protocol['num_gallery']:,} gallery images; {settings['epochs']} epochs "
        f"in {training['minutes']:.0f} minutes from "
        f"{'scratch' if settings['backbone_weights'] == 'none' else 'ImageNet weights'}."
    )
    yield ""
    yield "| runs in | mAP | rank-1 | rank-5 | mINP | images/s, files to embeddings |"
    yield "|---|---|---|---|---|---|"
    for name, row in results.items():
        where = "PyTorch" if name == "torch" else f"the exported package, provider `{name}`"
        figures = " | ".join(f"{100 * row[key]:.2f}" for key in ("mAP", "rank1", "rank5", "mINP"))
        rate = f"{row['images_per_second']:.0f}" if "images_per_second" in row else ""
        yield f"| {where} | {figures} | {rate} |"
    yield ""
    yield f"Package {report['package_bytes'] / 1e6:.1f} MB; parity: least cosine {report['parity_min_cosine']:.8f}."


def ablation(report: dict[str, Any]) -> Iterator[str]:
    """Networks with and without attention: mean and spread over seeds, and the difference."""
    settings, arms = report["settings"], report["arms"]
    seeds = len(arms["attention"])
    yield (
        f"`{settings['preset']}` on {report['data']}, {settings['epochs']} epochs, {settings['half_size_epochs']} of them at "
        f"half size, {seeds} seeds: mean ± standard deviation, in percent."
    )
    yield ""
    yield "| | mAP | rank-1 | mINP | mAP of each seed |"
    yield "|---|---|---|---|---|"
    for name, rows in arms.items():
        cells = " | ".join(spread([100 * row[key] for row in rows]) for key in ("mAP", "rank1", "mINP"))
        each = ", ".join(f"{100 * row['mAP']:.2f}" for row in rows)
        yield f"| {name} | {cells} | {each} |"
    gains = [100 * (a["mAP"] - b["mAP"]) for a, b in zip(arms["attention"], arms["plain"], strict=True)]
    yield ""
    yield f"Attention minus plain, mAP: {spread(gains)} points."
    yield ""


def spread(values: list[float]) -> str:
    """Mean ± standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} ± {deviation:.2f}"
