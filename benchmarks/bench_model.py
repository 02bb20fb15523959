"""Whole models by implementation of their attention: images per second of training and of inference, and peak memory.

    python benchmarks/bench_model.py                                                   # on a GPU, bf16, under a minute
    python benchmarks/bench_model.py --device cpu --presets stcanet-tiny --batch 8     # to try it out

Images are random and already on the device, so this is the network alone: forward, losses, backward and optimiser as `train`
does them, then the embedding of images. Implementations that cannot run are said and left out. What fails is said, the rest
measured, and it ends with an error.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from bench_attention import attempt
from bench_training import synchronise
from provenance import add_out, environment, nothing_measured, write_result
from turns import in_turns

from stcanet.config import TrainConfig, make_config
from stcanet.config.model import Attention
from stcanet.engine.batches import Batch
from stcanet.engine.devices import resolve_device
from stcanet.engine.learner import Learner
from stcanet.model import build_model
from stcanet_runtime.errors import BackendError

IDENTITIES = 751  # of Market-1501
ATTENTION: tuple[Attention, ...] = ("eager", "fused", "sdpa")
_WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["stcanet-image", "stcanet-video"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, help="images, or clips; default: what the preset is trained with")
    parser.add_argument("--steps", type=int, default=10, help="of a repeat")
    parser.add_argument("--repeats", type=int, default=5)
    add_out(parser)
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        nothing_measured("torch sees no GPU")
    device = resolve_device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    facts = {"device": name, "steps": options.steps, "repeats": options.repeats}
    report: dict[str, Any] = {"benchmark": "model", "environment": environment("torch"), **facts, "rows": []}
    problems: list[str] = []
    for preset in options.presets:
        report["rows"] += attempt(preset, problems, partial(compare, preset, device, options, problems))
        write_result(options.out, "model_gpu", report)  # what comes after may fail
    if problems:
        raise SystemExit("failed: " + "; ".join(problems))


def compare(preset: str, device: torch.device, options: argparse.Namespace, problems: list[str]) -> list[dict[str, Any]]:
    """A row for each implementation and call, in turns; `problems` gets what fails."""
    config = make_config({"data": "none, it is random", "preset": preset, "backbone_weights": "none", "device": str(device)})
    count, model = options.batch or config.identities * config.instances, config.model_config
    shape = (count, *((model.clip_length,) if model.clip_length else ()), 3, model.height, model.width)
    batch = Batch(torch.rand(shape, device=device), torch.arange(count, device=device) // config.instances)
    tasks: dict[tuple[str, str], Task] = {}
    for attention in ATTENTION:
        start = partial(prepare, preset, attention, config, device, batch)
        tasks |= {(attention, task.what): task for task in attempt(f"{preset}, {attention}", problems, start)}
    rates = in_turns(tasks, options.repeats, lambda task: count * options.steps / seconds(task.call, device, options.steps))
    rows = []
    for (attention, what), found in rates.items():
        task, rate = tasks[attention, what], statistics.median(found)
        facts = {"preset": preset, "shape": shape, "precision": task.precision, "what": what, "attention": attention}
        rows.append({**facts, "per_second": rate, "peak_mib": task.peak_mib})
        print(f"{preset} {list(shape)} {task.precision} {what:9} {attention:6} {rate:10.1f} /s", flush=True)
    return rows


class Task(NamedTuple):
    """A call that ran, and its memory."""

    what: str
    call: Callable[[], object]
    precision: str
    peak_mib: float

    def __call__(self) -> object:
        return self.call()


def prepare(preset: str, attention: Attention, config: TrainConfig, device: torch.device, batch: Batch) -> list[Task]:
    """Training and inference with an implementation, warmed up; nothing where it cannot run here."""
    learner = Learner(build_model(preset, IDENTITIES, attention=attention), config, device)
    learner.begin_epoch(1)
    calls = {"training": lambda: learner.step(batch, 1, 0, 1), "inference": lambda: infer(learner, batch)}
    precision = "bf16" if learner.autocast else "fp32"
    try:
        return [Task(what, call, precision, peak(call, device)) for what, call in calls.items()]
    except BackendError as error:
        print(f"  {attention}: {error}")
        return []


def infer(learner: Learner, batch: Batch) -> None:
    model = learner.model.eval()
    with torch.inference_mode(), torch.autocast(learner.device.type, torch.bfloat16, enabled=learner.autocast):
        model(batch.images)
    model.train()


def peak(call: Callable[[], object], device: torch.device) -> float:
    """MiB of the device at most, weights and all, after some calls that warm up; 0 on a processor."""
    for _ in range(_WARM_UP):
        call()
    if device.type != "cuda":
        return 0.0
    torch.cuda.reset_peak_memory_stats(device)
    call()
    synchronise(device)
    return torch.cuda.max_memory_allocated(device) / 2**20


def seconds(call: Callable[[], object], device: torch.device, steps: int) -> float:
    synchronise(device)
    start = time.perf_counter()
    for _ in range(steps):
        call()
    synchronise(device)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
