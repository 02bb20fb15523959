"""Kill a training run at random moments, resume it, and hold the final weights against those of a run that was left alone.

    python benchmarks/kill_and_resume.py                 # twenty trials on drawn people: minutes
    python benchmarks/kill_and_resume.py --trials 3

A trial starts a run in a forked process, kills it with SIGKILL after a random time, and resumes it with another one, which is
killed too in every second trial and resumed again. The state is saved every second: many kills hit a file being written.
``--out benchmarks/results`` records it; nothing in it is a measurement, so other work on the machine does no harm.
Ends with status 1 if any final weight differs in any bit, or the metrics do not have every epoch once.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import shutil
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from provenance import add_out, environment, write_result

from stcanet.config import load_toml, make_config
from stcanet.data.synthetic import SynthConfig, generate
from stcanet.engine import run_files
from stcanet.engine.trainer import train

EPOCHS = 3
SETTINGS = """
preset = "stcanet-tiny"
backbone_weights = "none"
device = "cpu"
epochs = 3
half_size_epochs = 0
eval_every = 2
val_fraction = 0.2
identities = 4
instances = 4
checkpoint_minutes = 0.016
[model]
height = 32
width = 32
[optim]
lr = 1e-3
schedule = "cosine"
accumulate = 2
ema_decay = 0.9
freeze_epochs = 1
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    add_out(parser)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    report: dict[str, Any] = {"benchmark": "kill_and_resume", "environment": environment("torch"), "epochs": EPOCHS}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        generate(
            root / "people", SynthConfig(identities=20, test_identities=4, cameras=3, images_per_camera=4, height=64, width=32)
        )
        (root / "settings.toml").write_text(SETTINGS)
        torch.set_num_threads(1)
        start = time.monotonic()
        reference = root / "reference"
        assert finish(start_run(root, reference, resume=False)) == 0
        duration = time.monotonic() - start
        report["trials"] = [trial(root, reference, duration, rng, number) for number in range(1, options.trials + 1)]
    write_result(options.out, "kill_and_resume", report)
    raise SystemExit(not all(row["same_weights"] and row["clean"] for row in report["trials"]))


def trial(root: Path, reference: Path, duration: float, rng: random.Random, number: int) -> dict[str, Any]:
    """Kill a run (once, or twice where `number` is even), and say whether it ends as the reference did."""
    run, resume = root / f"run{number}", False
    kills: list[dict[str, Any]] = []
    while len(kills) < 1 + (number % 2 == 0):
        start = time.monotonic()
        process = start_run(root, run, resume)
        process.join(rng.uniform(0.0, 1.0) * duration)
        process.kill()
        process.join()
        resume = (run / run_files.CONFIG).exists()
        if process.exitcode:
            kills.append({"found": where(run), "half_written": [path.name for path in run.glob(".*.tmp*")]})
        elif kills:
            break  # what was left of the run was done before the second kill
        else:  # the whole run was done before the kill: the machine has less to do than when the reference ran
            duration, resume = time.monotonic() - start, False
            shutil.rmtree(run)
    status = finish(start_run(root, run, resume))
    same = status == 0 and all(equal(run / name, reference / name) for name in (run_files.LAST, run_files.BEST))
    epochs = [json.loads(line)["epoch"] for line in (run / run_files.METRICS).read_text().splitlines()]
    clean = epochs == list(range(1, EPOCHS + 1)) and not list(run.glob(".*.tmp*"))
    row = {"kills": kills, "same_weights": same, "clean": clean}
    print(f"trial {number}: {row}", flush=True)
    return row


def start_run(root: Path, run: Path, resume: bool) -> BaseProcess:
    # Forked, so that no time goes into importing torch again; with one thread, torch has nothing that a fork loses.
    process = multiprocessing.get_context("fork").Process(target=train_here, args=(root, run, resume))
    process.start()
    return process


def train_here(root: Path, run: Path, resume: bool) -> None:
    settings = {"data": str(root / "people")}
    train(make_config(load_toml(root / "settings.toml"), settings), run, resume=resume)


def finish(process: BaseProcess) -> int | None:
    process.join()
    return process.exitcode


def where(run: Path) -> str:
    """How far a killed run had come, by its saved state."""
    if not (run / run_files.STATE).exists():
        return "before the first state"
    state = torch.load(run / run_files.STATE, weights_only=True)["run"]
    return f"after epoch {state['epoch']} batch {state['step']}"


def equal(first: Path, second: Path) -> bool:
    a, b = (torch.load(path, weights_only=True)["state_dict"] for path in (first, second))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


if __name__ == "__main__":
    main()
