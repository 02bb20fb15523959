"""The same training with the attention blocks and without, several seeds: what is attention worth on this data, on this budget?

    python benchmarks/attention_ablation.py cuhk03/ --runs /tmp/ablation --name cuhk03_attention \\
        --recipe recipes/tiny-scratch.toml --epochs 8 --set half_size_epochs=7 --out benchmarks/results

mAP and rank-1 of every run, mean and spread; ``--out FOLDER`` records them as NAME.json. Runs that are finished are not
repeated, interrupted ones go on. The budget is a number of epochs, so other work on the machine changes the minutes and not
the figures.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from provenance import add_out, environment, write_result
from train_and_deploy import figures, training

from stcanet.data.datasets import load_dataset
from stcanet.engine import run_files
from stcanet.engine.checkpoint import load_checkpoint
from stcanet.engine.embedding import evaluate_model

ARMS = {"attention": [], "plain": ["--blocks", "none"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the run folders")
    parser.add_argument("--name", required=True, help="of the result file")
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", dest="settings", action="append", default=[], help="a setting of all runs, as for train")
    add_out(parser)
    options = parser.parse_args()
    dataset = load_dataset(options.data)
    report: dict[str, Any] = {"environment": environment("torch"), "benchmark": "ablation", "data": dataset.name}
    report["arms"] = {arm: [] for arm in ARMS}
    for seed in range(1, options.seeds + 1):
        for arm, arguments in ARMS.items():
            run = options.runs / f"{arm}-{seed}"
            if not (run / run_files.BEST).is_file() or not finished(run, options.epochs):
                fit(options, run, seed, arguments)
            checkpoint = load_checkpoint(run / run_files.BEST)
            row = figures(evaluate_model(checkpoint.build(), dataset.query, dataset.gallery))
            report["arms"][arm].append({"seed": seed, "epoch": checkpoint.epoch, **row, "minutes": training(run)["minutes"]})
            print(arm, seed, f"mAP {row['mAP']:.4f}, rank-1 {row['rank1']:.4f}", flush=True)
    report["settings"] = training(options.runs / "attention-1")["settings"]
    write_result(options.out, options.name, report)


def finished(run: Path, epochs: int) -> bool:
    return len((run / run_files.METRICS).read_text(encoding="utf-8").splitlines()) >= epochs


def fit(options: argparse.Namespace, run: Path, seed: int, arguments: list[str]) -> None:
    """Train, or go on where an earlier call of this script was interrupted."""
    if (run / run_files.CONFIG).is_file():
        subprocess.run([sys.executable, "-m", "stcanet", "train", "--resume", str(run)], check=True)
        return
    command = [sys.executable, "-m", "stcanet", "train", "--config", str(options.recipe), "--data", str(options.data)]
    command += ["--out", str(run), "--seed", str(seed), "--epochs", str(options.epochs), *arguments]
    command += [part for setting in options.settings for part in ("--set", setting)]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
