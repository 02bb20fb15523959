"""``stcanet evaluate``: a checkpoint with PyTorch, or a model package with the runtime alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stcanet_runtime.cli.rank import K1, K2, LAMBDA, RERANK

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stcanet.data.datasets import Sample

Progress = Callable[[int, int], None]

_EXAMPLES = """\b
Examples:
  stcanet evaluate runs/market/best.pt --data market1501/
  stcanet evaluate package/ --data market1501/ --provider openvino
  stcanet evaluate package/ --data market1501/ --rerank
  stcanet evaluate package/ --data crops.csv --json > result.json"""


def evaluate(
    model: Annotated[Path, typer.Argument(help="Checkpoint (.pt, needs torch), or model package (needs onnxruntime only).")],
    data: Annotated[Path, typer.Option(help="Folder in the Market-1501 layout, or a .csv manifest.")],
    device: Annotated[str, typer.Option(help="For checkpoints: auto, cpu, cuda or cuda:N.")] = "auto",
    provider: Annotated[str, typer.Option(help="For packages: auto, cpu, openvino, cuda or tensorrt.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 64,
    rerank: RERANK = False,
    k1: K1 = 20,
    k2: K2 = 6,
    lambda_value: LAMBDA = 0.3,
    out: Annotated[Path | None, typer.Option(help="Write the result here too (.json).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Measure retrieval: CMC, mAP and mINP of the query images against the gallery."""
    import json
    from dataclasses import asdict

    from stcanet.data.datasets import load_dataset
    from stcanet.data.scoring import score
    from stcanet_runtime.cli.progress import progress_bar
    from stcanet_runtime.errors import DataError
    from stcanet_runtime.files import write_json
    from stcanet_runtime.rerank import Reranking

    dataset = load_dataset(data)
    if not dataset.query or not dataset.gallery:
        raise DataError(f"{data} has {len(dataset.query)} query and {len(dataset.gallery)} gallery images; both are needed")
    samples = (*dataset.query, *dataset.gallery)
    with progress_bar("embedding") as progress:
        if model.is_dir() or model.suffix == ".onnx":
            how, embeddings = _embed_with_package(model, samples, provider, batch_size, progress)
        else:
            how, embeddings = _embed_with_checkpoint(model, samples, device, batch_size, progress)
    sides = (dataset.query, dataset.gallery, embeddings[: len(dataset.query)], embeddings[len(dataset.query) :])
    result = score(*sides)
    report = {"model": str(model), **how, "data": dataset.name, **result.to_dict()}
    lines = [result.summary()]
    if rerank:
        reranking = Reranking(k1, k2, lambda_value)
        reranked = score(*sides, reranking)
        report["reranked"] = {**asdict(reranking), **reranked.to_dict()}
        lines.append(f"{reranking}: {reranked.summary()}")
    if out:
        write_json(out, report)
    typer.echo(json.dumps(report) if as_json else "\n".join(lines))


evaluate.__doc__ = f"{evaluate.__doc__}\n\n{_EXAMPLES}"


def _embed_with_checkpoint(
    path: Path, samples: Sequence[Sample], device: str, batch_size: int, progress: Progress
) -> tuple[dict[str, Any], NDArray[np.float32]]:
    import torch

    from stcanet.engine.checkpoint import load_checkpoint
    from stcanet.engine.devices import resolve_device
    from stcanet.engine.validation import embed

    network = load_checkpoint(path).build().to(resolve_device(device))
    how = {"runs_on": f"torch {torch.__version__}, {next(network.parameters()).device}"}
    return how, embed(network, samples, batch_size, progress)


def _embed_with_package(
    path: Path, samples: Sequence[Sample], provider: str, batch_size: int, progress: Progress
) -> tuple[dict[str, Any], NDArray[np.float32]]:
    from stcanet_runtime import Encoder

    encoder = Encoder.load(path, provider)
    how = {"runs_on": f"onnxruntime, {encoder.session.provider}"}
    return how, encoder.encode([sample.path for sample in samples], batch_size=batch_size, progress=progress)
