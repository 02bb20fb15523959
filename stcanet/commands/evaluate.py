"""``stcanet evaluate``: a checkpoint with PyTorch, or a model package with the runtime alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stcanet.commands.options import (
    AP,
    BATCH_SIZE,
    CLIP_LENGTH,
    DATA_HELP,
    DEVICE,
    FLIP,
    FRAMES,
    PROVIDER,
    check_place,
    make_settings,
    read_dataset,
)
from stcanet_runtime.cli.examples import examples
from stcanet_runtime.cli.options import JSON, K1, K2, LAMBDA, METRIC, RERANK, check_apart
from stcanet_runtime.retrieval.rerank import Reranking

if TYPE_CHECKING:
    from stcanet.evaluation import Embedded, Result


@examples("""
    stcanet evaluate runs/market/best.pt --data market1501/
    stcanet evaluate runs/market/best.pt --data msmt17/ --rerank --markdown
    stcanet evaluate package/ --data market1501/ --provider openvino
    stcanet evaluate package/ --data crops.csv --json > result.json
    stcanet evaluate runs/video/best.pt --data tracklets.csv --frames quick
    stcanet evaluate runs/video/best.pt --data mars/ --clip-length 8 --rerank
    stcanet evaluate runs/video/best.pt --data mars:torchreid=mars/
    stcanet evaluate package/ --data crops.csv --save-embeddings embedded/
""")
def evaluate(
    model: Annotated[Path, typer.Argument(help="Checkpoint (.pt, needs torch), or model package (needs onnxruntime only).")],
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    frames: FRAMES = "all",
    clip_length: CLIP_LENGTH = None,
    flip: FLIP = False,
    metric: METRIC = "cosine",
    ap: AP = "rectangle",
    rerank: RERANK = False,
    k1: K1 = Reranking.k1,
    k2: K2 = Reranking.k2,
    lambda_value: LAMBDA = Reranking.lambda_value,
    device: DEVICE = "auto",
    provider: PROVIDER = "auto",
    batch_size: BATCH_SIZE = 64,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the result here too (.json).")] = None,
    save_embeddings: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write query.npz and gallery.npz there, as infer -o does.")
    ] = None,
    as_json: JSON = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the result as a table to paste.")] = False,
) -> None:
    """Measure retrieval: CMC, mAP and mINP of the query images or tracklets against the gallery.

    Any model on any data set. The protocol belongs to the figures: those of different protocols must not be compared.

    What a checkpoint in its run folder gives is kept there too, as results.json, for `stcanet report`: the last evaluation.
    """
    from stcanet.evaluation import embed_dataset, judge, open_model
    from stcanet.evaluation.embedded import EMBEDDINGS
    from stcanet.evaluation.result import markdown_header
    from stcanet_runtime.cli.progress import progress_bar
    from stcanet_runtime.cli.text import say, say_written
    from stcanet_runtime.files import check_writable, write_json

    if as_json and as_markdown:
        raise typer.BadParameter("take one of --json and --markdown", param_hint="'--markdown'")
    settings = make_settings(frames, clip_length, flip, metric, ap, rerank, k1, k2, lambda_value, batch_size)
    check_place([model], device, provider)
    saved = [save_embeddings / name for name in EMBEDDINGS] if save_embeddings else []
    check_apart([model, data], ("--out", out), *(("--save-embeddings", file) for file in saved))
    for file in (out, *saved):
        if file:
            check_writable(file)
    dataset = read_dataset(data)
    opened = open_model(model, device, provider)
    with progress_bar("embedding") as progress:
        embedded = embed_dataset(opened, dataset, settings, progress)
    # Before they are judged, which may need more memory than there is.
    written, unsaved = _save(embedded, save_embeddings) if save_embeddings else ([], None)
    result = judge(opened, embedded, settings, progress_bar)
    lines = [*markdown_header(), *result.markdown_rows()] if as_markdown else result.lines()
    say(result.to_dict(), as_json, "\n".join(lines))
    # After the figures, which may have taken hours: a file that cannot be written must not take them along.
    keep_in_run(model, result)
    if out:
        write_json(out, result.to_dict())
    if unsaved:
        raise unsaved
    if not as_json and not as_markdown:
        say_written(out, *written)


def _save(embedded: Embedded, folder: Path) -> tuple[list[Path], OSError | None]:
    """The files that were written, and why they could not be, which can wait for the figures."""
    from stcanet.evaluation.embedded import save_embeddings_to

    try:
        return save_embeddings_to(embedded, folder), None
    except OSError as error:
        return [], error


def keep_in_run(model: Path, result: Result) -> None:
    """Write ``results.json`` into the run folder of a checkpoint; nobody asked for it, so a failure is a warning."""
    from stcanet_runtime.cli.text import printable
    from stcanet_runtime.files import write_json

    if file := _kept_results(model):
        lost = _replaced(file, result.to_dict())
        try:
            write_json(file, result.to_dict())
        except OSError as error:
            typer.echo(f"warning: {file} is not written, and 'stcanet report' will not know of this result: {error}", err=True)
        else:
            if lost:
                typer.echo(printable(f"note: {file} has these figures now, in the place of those on {lost}"), err=True)


def _replaced(file: Path, new: Mapping[str, Any]) -> str:
    """Data and protocol of the figures in a file that are not among the `new` ones; empty where none are lost."""
    from stcanet.evaluation.result import protocol_text, read_result
    from stcanet_runtime.errors import DataError

    try:
        old = read_result(file)
    except (OSError, DataError):  # none, or no result: nothing that the report shows
        return ""
    kinds = [(facts["data"], facts["protocol"]) for facts in (old, new)]
    reranked = [(facts.get("reranked") or {}).get("protocol") for facts in (old, new)]
    lost = kinds[0] != kinds[1] or reranked[0] not in (None, reranked[1])
    return f"{old['data']}: {protocol_text(old['protocol'])}" + "; re-ranked too" * bool(reranked[0]) if lost else ""


def _kept_results(model: Path) -> Path | None:
    """The file of results in the run folder that a checkpoint lies in; None for everything else."""
    from stcanet.engine import run_files
    from stcanet.evaluation.models import is_package

    run = model.parent
    return run / run_files.RESULTS if (run / run_files.METRICS).is_file() and not is_package(model) else None
