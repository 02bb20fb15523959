"""Train on a data set, evaluate, export, and evaluate the package again: the figures of the README.

    python benchmarks/train_and_deploy.py market1501/ --run runs/market --recipe recipes/tiny-scratch.toml --name market_tiny \\
        --out benchmarks/results
    python benchmarks/train_and_deploy.py market1501/ --run runs/market --name market_tiny    # trained already

Retrieval figures of PyTorch and of the package under each provider that can run here, training time, sizes, hardware, versions
and commit; ``--out FOLDER`` records them as NAME.json. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from provenance import add_out, environment, write_result

from stcanet.commands.training_progress import TrainingProgress
from stcanet.config import load_toml, make_config
from stcanet.data.datasets import load_dataset
from stcanet.data.scoring import score
from stcanet.engine import run_files
from stcanet.engine.checkpoint import load_checkpoint
from stcanet.engine.embedding import evaluate_model
from stcanet.engine.trainer import train
from stcanet_export import export_package
from stcanet_runtime import Encoder, Evaluation, available_providers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--run", type=Path, required=True, help="run folder: to make with --recipe, or else of a finished run")
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--name", required=True, help="of the result file")
    add_out(parser)
    options = parser.parse_args()
    facts = environment("torch", "onnxruntime", "onnxruntime-ep-openvino")
    report: dict[str, Any] = {"benchmark": "deployed", "environment": facts}
    if options.recipe:
        config = make_config(load_toml(options.recipe), {"data": str(options.data)})
        with TrainingProgress(config.epochs) as progress:
            train(config, options.run, progress)
    report["training"] = training(options.run)
    dataset = load_dataset(options.data)
    report["data"] = {"name": dataset.name, **dataset.describe()}
    checkpoint = load_checkpoint(options.run / run_files.BEST)
    report["validation"] = {"epoch": checkpoint.epoch, **checkpoint.metrics}
    report["results"] = {"torch": figures(evaluate_model(checkpoint.build(), dataset.query, dataset.gallery))}
    package = export_package(options.run / run_files.BEST, options.run / "package", force=True)
    report["package_bytes"] = (package.path / "model.onnx").stat().st_size
    report["parity_min_cosine"] = package.report.min_cosine
    paths = [sample.path for sample in (*dataset.query, *dataset.gallery)]
    for provider in [name for name, problem in available_providers().items() if problem is None]:
        encoder = Encoder.load(package.path, provider)
        start = time.perf_counter()
        embeddings = encoder.encode(paths, batch_size=64)
        seconds = time.perf_counter() - start
        count = len(dataset.query)
        scored = score(dataset.query, dataset.gallery, embeddings[:count], embeddings[count:])
        report["results"][provider] = {**figures(scored), "images_per_second": len(paths) / seconds}
    for name, row in report["results"].items():
        print(name, row)
    write_result(options.out, options.name, report)


def training(run: Path) -> dict[str, Any]:
    """Settings and time of a run, from its folder."""
    settings = load_toml(run / run_files.CONFIG)
    del settings["data"]  # a path of this machine
    epochs = [json.loads(line) for line in (run / run_files.METRICS).read_text().splitlines()]
    # From the first thing written to the last: with validation and checkpoints, without the start of the process.
    wall = (run / run_files.LAST).stat().st_mtime - (run / run_files.CONFIG).stat().st_mtime
    return {"minutes": wall / 60, "epoch_seconds": [round(epoch["seconds"], 1) for epoch in epochs], "settings": settings}


def figures(result: Evaluation) -> dict[str, Any]:
    plain = result.to_dict()
    return {
        "mAP": result.mAP,
        "rank1": result.rank(1),
        "rank5": result.rank(5),
        "mINP": result.mINP,
        "protocol": plain["protocol"],
    }


if __name__ == "__main__":
    main()
