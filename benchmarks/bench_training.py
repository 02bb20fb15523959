"""Images per second of training: the loader alone, the network alone, and both together, against a plain torchvision loader.

    python benchmarks/bench_training.py market1501/ --name training_tiny --preset stcanet-tiny --steps 6
    python benchmarks/bench_training.py market1501/ --name training_gpu --device cuda       # full preset, bf16; minutes

The plain loader is what most re-identification code has: a Dataset of torchvision transforms (bicubic resize, flip, pad and
crop, normalise, erase) in a DataLoader with a process for each core. Both train the same network with the same optimiser.
``--out benchmarks/results`` records it as NAME.json. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from provenance import add_out, environment, write_result
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from turns import in_turns

from stcanet.config import TrainConfig, make_config
from stcanet.data.datasets import Sample, load_dataset
from stcanet.engine.batches import Batch, TrainBatches
from stcanet.engine.devices import resolve_device
from stcanet.engine.learner import Learner
from stcanet.model import build_model
from stcanet_runtime.preprocess import IMAGENET_MEAN, IMAGENET_STD

Batches = Callable[[], Iterator[Batch]]


class PlainDataset(Dataset[tuple[Tensor, int]]):
    """One image, decoded and varied by torchvision every time that it is asked for."""

    def __init__(self, samples: Sequence[Sample], labels: dict[int, int], config: TrainConfig) -> None:
        size, varied = (config.model_config.height, config.model_config.width), config.augment
        self._samples, self._labels = samples, labels
        self._transform = transforms.Compose(
            [
                transforms.Resize(size, transforms.InterpolationMode.BICUBIC),
                transforms.RandomHorizontalFlip(varied.flip),
                transforms.Pad(varied.pad),
                transforms.RandomCrop(size),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
                transforms.RandomErasing(varied.erase, varied.erase_area),
            ]
        )

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        sample = self._samples[index]
        with Image.open(sample.path) as image:
            return self._transform(image.convert("RGB")), self._labels[sample.pid]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", required=True, help="of the result file")
    parser.add_argument("--preset", default="stcanet-image")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=100, help="of a repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="train with torch.compile")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes of the plain loader")
    add_out(parser)
    options = parser.parse_args()
    report: dict[str, Any] = {"benchmark": "training", "environment": environment("torch", "torchvision", "pillow")}
    device = resolve_device(options.device)
    settings = {"data": str(options.data), "preset": options.preset, "device": options.device, "compile": options.compile}
    config = make_config({**settings, "backbone_weights": "none"})
    samples = load_dataset(options.data).train
    start = time.perf_counter()
    batches = TrainBatches(samples, config, device)
    filling = time.perf_counter() - start
    learner = Learner(build_model(config.preset, len(batches.labels)), config, device)
    learner.begin_epoch(1)
    sources = {"ours": ours(batches), "plain": plain(samples, batches, config, device, options.workers)}
    report["setting"] = {
        "data": options.data.resolve().name,
        "images": len(samples),
        "preset": config.preset,
        "size": [config.model_config.height, config.model_config.width],
        "batch": config.identities * config.instances,
        "precision": "bf16" if learner.autocast else "fp32",
        "compile": options.compile,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cache": batches.where,
        "cache_seconds": filling,
        "workers": options.workers,
        "steps": options.steps,
        "repeats": options.repeats,
    }
    report["results"] = measure(sources, learner, device, options.steps, options.repeats)
    if device.type == "cuda":
        report["peak_device_bytes"] = torch.cuda.max_memory_allocated(device)
    write_result(options.out, options.name, report)


def ours(batches: TrainBatches) -> Batches:
    """Epoch after epoch of the loader that training uses."""

    def read() -> Iterator[Batch]:
        for epoch in itertools.count(1):
            yield from batches.read(batches.plan(epoch), epoch)

    return read


def plain(samples: Sequence[Sample], batches: TrainBatches, config: TrainConfig, device: torch.device, workers: int) -> Batches:
    """The same batches from the plain loader."""
    dataset = PlainDataset(samples, batches.labels, config)

    def read() -> Iterator[Batch]:
        for epoch in itertools.count(1):
            pinned = device.type == "cuda"
            loader = DataLoader(dataset, batch_sampler=batches.plan(epoch), num_workers=workers, pin_memory=pinned)
            for images, labels in loader:
                moved = images.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
                yield Batch(moved, labels.to(device, non_blocking=True))

    return read


def measure(
    sources: dict[str, Batches], learner: Learner, device: torch.device, steps: int, repeats: int
) -> dict[str, dict[str, Any]]:
    """Medians over repeats in which all take turns."""
    resident = next(sources["ours"]())
    tasks: dict[str, Callable[[], float]] = {"network alone": lambda: rate(itertools.repeat(resident), learner, device, steps)}
    for name, read in sources.items():
        tasks[f"{name}: loader alone"] = lambda read=read: rate(read(), None, device, 4 * steps)
        tasks[f"{name}: both"] = lambda read=read: rate(read(), learner, device, steps)
    rates = in_turns(tasks, repeats, lambda task: task())
    for name, all_ in rates.items():
        print(f"{name:20} {statistics.median(all_):10.1f} images/s", flush=True)
    results: dict[str, dict[str, Any]] = {
        name: {"images_per_second": statistics.median(all_), "all": [round(value, 1) for value in all_]}
        for name, all_ in rates.items()
    }
    for name in sources:
        slower = min(results[task]["images_per_second"] for task in ("network alone", f"{name}: loader alone"))
        results[f"{name}: both"]["of_the_slower"] = results[f"{name}: both"]["images_per_second"] / slower
    return results


def rate(batches: Iterator[Batch], learner: Learner | None, device: torch.device, steps: int) -> float:
    """Images per second over `steps` batches, after two that are not counted."""
    images, start = 0, 0.0
    for step, batch in enumerate(itertools.islice(batches, steps + 2)):
        if step == 2:
            synchronise(device)
            images, start = 0, time.perf_counter()
        if learner:
            learner.step(batch, 1, 0, 1)
        images += len(batch.labels)
    synchronise(device)
    seconds = time.perf_counter() - start
    if hasattr(batches, "close"):
        batches.close()
    return images / seconds


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
