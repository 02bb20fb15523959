"""`rank`: embeddings from files against each other, with re-ranking where it is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stcanet_runtime.cli.examples import examples
from stcanet_runtime.cli.options import JSON, K1, K2, LAMBDA, METRIC, RERANK, SAME_CAMERA, check_apart
from stcanet_runtime.retrieval.rerank import Reranking


@examples("""
    stcanet rank query.npz gallery.npz
    stcanet rank query.npz gallery.npz --rerank --sheet ranks.png
    stcanet rank query.npz gallery.npz --rerank --k1 20 --k2 6 --lambda 0.3 --top-k 50 --json > ranks.json
""")
def rank(
    query: Annotated[Path, typer.Argument(help="Embeddings of the queries, written by infer (.npz).")],
    gallery: Annotated[Path, typer.Argument(help="Embeddings of the gallery (.npz).")],
    top_k: Annotated[int, typer.Option(min=1, help="Matches per query.")] = 10,
    metric: METRIC = "cosine",
    rerank: RERANK = False,
    k1: K1 = Reranking.k1,
    k2: K2 = Reranking.k2,
    lambda_value: LAMBDA = Reranking.lambda_value,
    sheet: Annotated[Path | None, typer.Option(help="Picture of the ranked lists to write (.png); needs the crops.")] = None,
    sheet_rows: Annotated[int, typer.Option(min=1, help="Queries on the sheet, evenly picked.")] = 8,
    same_camera: SAME_CAMERA = False,
    as_json: JSON = False,
) -> None:
    """Rank a gallery for each query, from stored embeddings."""
    from stcanet_runtime.cli import ranked_lists
    from stcanet_runtime.cli.progress import progress_bar
    from stcanet_runtime.cli.text import print_json, say_written
    from stcanet_runtime.files import check_picture
    from stcanet_runtime.inference.crop_embeddings import load

    check_apart([query, gallery], ("--sheet", sheet))
    if sheet is not None:
        check_picture(sheet)
    reranking = Reranking(k1, k2, lambda_value) if rerank else None
    queries, others = load(query), load(gallery)
    with progress_bar("re-ranking" if rerank else "ranking") as progress:
        found = ranked_lists.rank(queries, others, top_k, same_camera, metric, reranking, progress)
    if sheet is not None:
        ranked_lists.draw(found, sheet, sheet_rows, metric)
    if as_json:
        print_json(ranked_lists.to_dict(found))
    else:
        ranked_lists.show(found)
        say_written(sheet)
