"""``stcanet evaluate``: a checkpoint with PyTorch, or a model package with the runtime alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from stcanet.data.datasets import Sample
    from stcanet_runtime import Evaluation

_EXAMPLES = """\b
Examples:
  stcanet evaluate runs/market/best.pt --data market1501/
  stcanet evaluate package/ --data market1501/ --provider openvino
  stcanet evaluate package/ --data crops.csv --json > result.json"""


def evaluate(
    model: Annotated[Path, typer.Argument(help="Checkpoint (.pt, needs torch), or model package (needs onnxruntime only).")],
    data: Annotated[Path, typer.Option(help="Folder in the Market-1501 layout, or a .csv manifest.")],
    device: Annotated[str, typer.Option(help="For checkpoints: auto, cpu, cuda or cuda:N.")] = "auto",
    provider: Annotated[str, typer.Option(help="For packages: auto, cpu, openvino, cuda or tensorrt.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 64,
    out: Annotated[Path | None, typer.Option(help="Write the result here too (.json).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Measure retrieval: CMC, mAP and mINP of the query images against the gallery."""
    import json

    from stcanet.data.datasets import load_dataset
    from stcanet_runtime.cli.progress import progress_bar
    from stcanet_runtime.errors import DataError
    from stcanet_runtime.files import write_json

    dataset = load_dataset(data)
    if not dataset.query or not dataset.gallery:
        raise DataError(f"{data} has {len(dataset.query)} query and {len(dataset.gallery)} gallery images; both are needed")
    with_package = model.is_dir() or model.suffix == ".onnx"
    with progress_bar("embedding") as progress:
        if with_package:
            how, result = _evaluate_package(model, dataset.query, dataset.gallery, provider, batch_size, progress)
        else:
            how, result = _evaluate_checkpoint(model, dataset.query, dataset.gallery, device, batch_size, progress)
    report = {"model": str(model), **how, "data": dataset.name, **result.to_dict()}
    if out:
        write_json(out, report)
    typer.echo(json.dumps(report) if as_json else result.summary())


evaluate.__doc__ = f"{evaluate.__doc__}\n\n{_EXAMPLES}"


def _evaluate_checkpoint(
    path: Path,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    device: str,
    batch_size: int,
    progress: Callable[[int, int], None],
) -> tuple[dict[str, Any], Evaluation]:
    import torch

    from stcanet.engine.checkpoint import load_checkpoint
    from stcanet.engine.trainer import resolve_device
    from stcanet.engine.validation import evaluate_model

    network = load_checkpoint(path).build().to(resolve_device(device))
    how = {"runs_on": f"torch {torch.__version__}, {next(network.parameters()).device}"}
    return how, evaluate_model(network, query, gallery, batch_size, progress)


def _evaluate_package(
    path: Path,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    provider: str,
    batch_size: int,
    progress: Callable[[int, int], None],
) -> tuple[dict[str, Any], Evaluation]:
    from stcanet.data.scoring import score
    from stcanet_runtime import Encoder

    encoder = Encoder.load(path, provider)
    paths = [sample.path for sample in (*query, *gallery)]
    embeddings = encoder.encode(paths, batch_size=batch_size, progress=progress)
    how = {"runs_on": f"onnxruntime, {encoder.session.provider}"}
    return how, score(query, gallery, embeddings[: len(query)], embeddings[len(query) :])
