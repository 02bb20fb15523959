"""What a fused channel attention, as a custom operator of ONNX Runtime, could save of a whole model at most.

    python benchmarks/bench_custom_op.py --packages /tmp/packages

Nothing is fused here. Two measurements bound what fusing could bring under the CPU provider: the model without the core of its
attention, ``softmax(G Gᵀ) G``, in turns with the model as it is; and the profile of the core's own nodes. Models that are not
in the folder are exported, with random weights settled as for `bench_precision`: the provider computes all products whatever
the weights are. ``--out benchmarks/results`` records it; two minutes on an idle machine once the models are there.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from bench_precision import settled
from numpy.typing import NDArray
from onnx.utils import Extractor
from provenance import add_out, environment, write_result
from turns import in_turns, wall_and_cpu

from stcanet.config.model import PRESETS, ModelConfig
from stcanet_export.onnx import export_onnx
from stcanet_runtime.inference.providers import import_onnxruntime

Feed = dict[str, NDArray[np.uint8]]

FRAMES = (1, 8)
"""Of a batch; at least one clip."""
THREADS = (1, 2)
CORE = re.compile(r"blocks\.\d\.channel/(MatMul_1|MatMul|ReduceMax|Sub|Max|Softmax)")
"""The nodes of the core, as packages name them; in a profile their names go on. The transposition is fused into the product."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True, help="folder of the models")
    parser.add_argument(
        "--presets", nargs="+", choices=list(PRESETS), default=["stcanet-tiny", "stcanet-image", "stcanet-video"]
    )
    parser.add_argument("--repeats", type=int, default=5)
    add_out(parser)
    options = parser.parse_args()
    paths = {preset: options.packages / f"{preset}.onnx" for preset in options.presets}
    for preset, path in paths.items():
        if not path.exists():
            export_onnx(settled(preset), path)
    facts = environment("onnxruntime")
    rows = [row for preset, path in paths.items() for row in measure(PRESETS[preset], onnx.load(path), options.repeats)]
    report = {"benchmark": "custom_op", "environment": facts, "repeats": options.repeats, "rows": rows}
    write_result(options.out, "custom_op", report)


def measure(config: ModelConfig, model: onnx.ModelProto, repeats: int) -> list[dict[str, Any]]:
    """One row for each batch and number of threads."""
    rows = []
    for threads in THREADS:
        models = {"as it is": model, "without core": without_core(model)}
        sessions = {name: open_session(graph, threads) for name, graph in models.items()}
        for frames in FRAMES:
            crops = noise(config, frames)
            feed = {model.graph.input[0].name: crops}
            row = {"preset": config.preset, "batch": len(crops), "threads": threads}
            row["milliseconds"] = milliseconds(sessions, feed, repeats)
            row["shares"] = profiled(model, threads, feed, repeats)
            rows.append(row)
            print(row)
    return rows


def without_core(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose channel attention mixes nothing: what reads the mixed rows reads G itself."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    rows = {node.output[0]: node.input[1] for node in cut.graph.node if re.fullmatch(r".*\.channel/MatMul_1", node.name)}
    for node in cut.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = rows.get(name, name)
    inputs, outputs = ([value.name for value in values] for values in (cut.graph.input, cut.graph.output))
    # ONNX Runtime runs nodes whose outputs nobody reads; the extractor leaves them out.
    shorter: onnx.ModelProto = Extractor(cut).extract_model(inputs, outputs)
    return shorter


def open_session(model: onnx.ModelProto, threads: int, profile: Path | None = None) -> Any:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def noise(config: ModelConfig, frames: int) -> NDArray[np.uint8]:
    """``[N, H, W, 3]``, or ``[B, T, H, W, 3]`` for a model of clips, with `frames` frames in all or one clip."""
    size = (config.height, config.width, 3)
    shape = (max(1, frames // config.clip_length), config.clip_length, *size) if config.clip_length else (frames, *size)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def milliseconds(sessions: dict[str, Any], feed: Feed, repeats: int) -> dict[str, dict[str, float]]:
    """Medians by session, "wall" and "cpu"; with two threads the latter holds the waiting of one for the other."""
    found = in_turns({name: partial(session.run, None, feed) for name, session in sessions.items()}, repeats + 1, wall_and_cpu)
    medians = {name: np.median(times[1:], axis=0) for name, times in found.items()}  # the first one is the warm-up
    return {name: {"wall": round(1000 * wall, 2), "cpu": round(1000 * cpu, 2)} for name, (wall, cpu) in medians.items()}


def profiled(model: onnx.ModelProto, threads: int, feed: Feed, repeats: int) -> dict[str, float]:
    """Shares of the core's nodes, by operator, in the time of all nodes, by ONNX Runtime's profiler.

    Of each node the shortest run: its clock goes on while another process has the processor.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(model, threads, Path(folder) / "profile")
        for _ in range(repeats + 1):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    durations: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            durations[event["name"]].append(event["dur"])
    shortest = {name: min(values) for name, values in durations.items()}
    shares: Counter[str] = Counter()
    for name, duration in shortest.items():
        if core := CORE.match(name):
            shares[core[1]] += duration / sum(shortest.values())
    return {name: round(share, 4) for name, share in shares.items()}


if __name__ == "__main__":
    main()
