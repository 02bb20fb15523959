"""Every precision under every target that this machine can run: agreement, loss on people, size and speed.

    python benchmarks/bench_precision.py --checkpoint best.pt --data cuhk03/ --packages /tmp/packages --prepare
    python benchmarks/bench_precision.py --preset stcanet-image --data cuhk03/ --packages /tmp/packages --targets cpu --prepare
    python benchmarks/bench_precision.py --checkpoint best.pt --preset stcanet-image --preset stcanet-video --data cuhk03/ \\
        --packages /tmp/packages --out benchmarks/results
    python benchmarks/bench_precision.py --checkpoint best.pt --data cuhk03/ --packages /tmp/packages --evaluate-only \\
        --out benchmarks/results

The first two export, which takes long. The third, for which openvino has to be installed, times what is there, each in turn
with all others, and evaluates; the last adds the evaluation to the file in that folder, and does not mind a machine that is
busy. A preset has random weights, its normalisation settled on drawn crops and attention gains of 0.2, so that everything acts;
its figures are of numerics and speed. Those of a checkpoint are of people, too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from provenance import add_out, commit, environment, write_result
from turns import in_turns, seconds

from stcanet.engine.checkpoint import load_checkpoint
from stcanet.model import Embedder, STCANet, build_model
from stcanet_export.native import NATIVE
from stcanet_export.package import export_package
from stcanet_export.parity.probes import drawn_inputs
from stcanet_export.parity.sides import PackageSide, TorchSide
from stcanet_export.variants.calibration import Calibration
from stcanet_export.variants.precision import Precision
from stcanet_export.variants.targets import find_target
from stcanet_export.variants.variant import Variant, measure_loss
from stcanet_runtime.errors import StcanetError
from stcanet_runtime.inference.providers import BFLOAT16, available_providers
from stcanet_runtime.package.contents import load_manifest
from stcanet_runtime.package.manifest import PRECISIONS

PLUGIN = available_providers()["openvino"]
PROVIDERS = ("cpu", *(name for name in ("openvino", BFLOAT16) if available_providers()[name] is None), NATIVE)
REPEATS = 7
BATCHES = (1, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--preset", action="append", default=[], help="with random weights; may be repeated")
    parser.add_argument(
        "--data", required=True, help="a labelled data set: calibration on its training images, figures on its test"
    )
    parser.add_argument("--crops", type=int, default=64, help="of the calibration")
    parser.add_argument("--packages", type=Path, required=True, help="folder of the packages")
    parser.add_argument("--targets", default="cpu,tensorrt", help="to prepare; cpu is for openvino too, tensorrt for jetson")
    parser.add_argument("--prepare", action="store_true", help="make the packages that are missing, and time nothing")
    parser.add_argument("--evaluate-only", action="store_true", help="add the evaluation to the results in --out")
    add_out(parser)
    options = parser.parse_args()
    models: dict[str, tuple[STCANet, bool]] = {}
    if options.checkpoint:
        model = load_checkpoint(options.checkpoint).build()
        models[f"{model.config.preset}, trained"] = (model, True)
    for preset in options.preset:
        models[f"{preset}, random weights"] = (settled(preset), False)
    if options.prepare:
        for name, (model, trained) in models.items():
            prepare(options, name, model, trained)
        return
    for name in models:
        if not (options.packages / slug(name) / "cpu-fp32").is_dir():
            parser.error(f"no packages of '{name}' in {options.packages}: run with --prepare first")
    if options.evaluate_only:
        if options.out is None:
            parser.error("--evaluate-only adds to the results in a folder: name it with --out")
        report = json.loads((options.out / "precision.json").read_text(encoding="utf-8"))
        evaluate_all(report, models, options)
        return
    report = {"benchmark": "precision", "environment": environment("onnxruntime", "openvino", "onnx")}
    report["setting"] = {"repeats": REPEATS, "batches": BATCHES, "plugin_missing": PLUGIN}
    report["models"] = {name: measure(options.packages / slug(name)) for name in models}
    write_result(options.out, "precision", report)  # evaluating takes long, and may be interrupted
    evaluate_all(report, models, options)


def evaluate_all(report: dict[str, Any], models: dict[str, tuple[STCANet, bool]], options: argparse.Namespace) -> None:
    """Add the figures of trained models to a report, and write it."""
    for name, (_, trained) in models.items():
        if trained:
            evaluate(report["models"][name], options.packages / slug(name), options.data)
    report["evaluated_at"] = commit()
    write_result(options.out, "precision", report)


def settled(preset: str) -> STCANet:
    """A preset with random weights in which everything acts."""
    torch.manual_seed(0)
    model = build_model(preset)
    for name, parameter in model.named_parameters():
        if name.endswith("out_norm.weight"):
            torch.nn.init.constant_(parameter, 0.2)
    for module in model.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            module.momentum = None  # the plain average over the passes
    with torch.no_grad():
        Embedder(model).train()(torch.from_numpy(drawn_inputs(TorchSide(model).spec)))
    return model.eval()


def slug(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-")


def prepare(options: argparse.Namespace, name: str, model: STCANet, trained: bool) -> None:
    """Export every combination of precision and target once; what fails leaves a file with the reason."""
    for target in options.targets.split(","):
        for precision in PRECISIONS:
            out = options.packages / slug(name) / f"{target}-{precision}"
            if out.exists() or out.with_suffix(".error").exists():
                continue
            calibration = Calibration(options.data, options.crops) if precision == "int8" else None
            place = find_target(target)
            variant = Variant(Precision(precision, calibration, place.scheme), place)
            start = time.perf_counter()
            try:
                export_package(model, out, variant=variant, origin={"trained": trained}, progress=print)
            except StcanetError as error:
                out.parent.mkdir(parents=True, exist_ok=True)
                out.with_suffix(".error").write_text(str(error))
            print(f"{out}: {time.perf_counter() - start:.0f} s")


def measure(folder: Path) -> dict[str, Any]:
    """Rows by package, with medians of runs that take turns."""
    rows: dict[str, Any] = {path.stem: {"error": path.read_text()} for path in sorted(folder.glob("*.error"))}
    sides: dict[tuple[str, str], PackageSide] = {}
    for path in sorted(item for item in folder.iterdir() if (item / "manifest.json").is_file()):
        rows[path.name] = facts(path)
        for provider in PROVIDERS if path.name.startswith("cpu-") else ():
            sides[path.name, provider] = PackageSide(path, provider)
    if sides:
        time_in_turns(rows, sides)
    return rows


def facts(package: Path) -> dict[str, Any]:
    manifest, parity = load_manifest(package), json.loads((package / "parity.json").read_text())
    search, conversion = manifest.conversion.get("search", {}), manifest.conversion
    cosines = [check["value"] for check in parity["checks"] if check["name"].endswith("min cosine")]
    return {
        "precision": manifest.precision,
        "opset": manifest.opset,
        "bytes": (package / "model.onnx").stat().st_size,
        "min_cosine": min(cosines),
        "kept": search.get("kept", []),
        "units": len(search.get("kept", [])) + len(search.get("lowered", [])),
        "runs": search.get("runs", 0),
        "calibration": conversion.get("calibration"),
        "checked": conversion["target"]["checked"],
        "milliseconds": {},
    }


def evaluate(rows: dict[str, Any], folder: Path, data: str) -> None:
    """mAP and rank-1 of the packages under the CPU provider, as `stcanet export --evaluate` states them."""
    names = [name for name, row in rows.items() if "error" not in row]
    names.sort(key=lambda name: name != "cpu-fp32")  # the first is what the others are compared with
    figures = measure_loss({name: folder / name for name in names}, data)
    for name in names:
        rows[name]["evaluation"] = {"data": figures["data"], "protocol": figures["protocol"], **figures[name]}


def time_in_turns(rows: dict[str, Any], sides: dict[tuple[str, str], PackageSide]) -> None:
    spec = next(iter(sides.values())).spec
    crops, reference = drawn_inputs(spec)[: max(BATCHES)], sides["cpu-fp32", "cpu"]
    expected = reference.embed(crops)[0].astype(np.float64)
    for (package, provider), side in sides.items():  # the first run is the warm-up
        actual = side.embed(crops)[0]
        rows[package].setdefault("agreement", {})[provider] = float(1 - ((actual - expected) ** 2).sum(axis=1).max() / 2)
    for batch in BATCHES:
        calls = {key: partial(side.embed, crops[:batch]) for key, side in sides.items()}
        for (package, provider), (_, *times) in in_turns(calls, REPEATS + 1, seconds).items():  # the first one is a warm-up
            medians = rows[package]["milliseconds"].setdefault(provider, {})
            medians[str(batch)] = round(1000 * statistics.median(times), 2)


if __name__ == "__main__":
    main()
