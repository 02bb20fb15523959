"""``stcanet cross``: every model on every data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    from stcanet.evaluation import EvaluationSettings, Matrix


@examples("""
    stcanet cross a/best.pt b/best.pt --data market1501/ --data msmt17/
    stcanet cross video.pt --data mars:official=mars/ --data mars:torchreid=mars/
    stcanet cross packages/*/ --data cuhk03/ --rerank --picture cross.png
    stcanet cross runs/*/best.pt --data market1501/ --out cross.json
""")
def cross(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL", help="Checkpoints and model packages: the rows.")],
    data: Annotated[list[str], typer.Option(help=f"{DATA_HELP} A column; repeatable.")],
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
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write all results here (.json), after each cell.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Write the matrix as a heat map (.png).")] = None,
    as_json: JSON = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print one row per cell, as evaluate does.")] = False,
) -> None:
    """Judge every model on every data set, without training: how well does each carry over?

    Each cell is mAP / rank-1 in percent. A cell that fails is reported and leaves the others alone; the status is then 1.
    """
    from contextlib import suppress
    from functools import partial

    from stcanet.evaluation import fill_matrix, open_model
    from stcanet.evaluation.heatmap import draw_heatmap
    from stcanet.evaluation.result import markdown_header
    from stcanet_runtime.cli.progress import progress_bar
    from stcanet_runtime.cli.text import print_json, say_written
    from stcanet_runtime.files import check_picture, check_writable, write_json

    if as_json and as_markdown:
        raise typer.BadParameter("take one of --json and --markdown", param_hint="'--markdown'")
    settings = make_settings(frames, clip_length, flip, metric, ap, rerank, k1, k2, lambda_value, batch_size)
    check_place(models, device, provider)
    check_apart([*models, *data], ("--out", out), ("--picture", picture))
    if out:
        check_writable(out)
    if picture:
        check_picture(picture)
    opener = partial(open_model, device=device, provider=provider)

    def keep(matrix: Matrix) -> None:
        if out:
            with suppress(OSError):  # the disk may be full for a while; the last write, after the figures, tells
                write_json(out, matrix.to_dict())
        if error := matrix.cells[-1].error:
            typer.echo(f"error: {matrix.cells[-1].model} on {matrix.cells[-1].data}: {' '.join(error.split())}", err=True)

    matrix = fill_matrix(models, data, opener, read_dataset, settings, progress_bar, keep)
    if as_json:
        print_json(matrix.to_dict())
    elif as_markdown:
        rows = [row for cell in matrix.cells if cell.result for row in cell.result.markdown_rows()]
        typer.echo("\n".join([*markdown_header(), *rows]))
    else:
        _show(matrix, settings)
    if out:
        write_json(out, matrix.to_dict())
    if picture:
        draw_heatmap(matrix, picture, str(settings))
    if not as_json and not as_markdown:
        say_written(out, picture)
    if matrix.failed:
        raise typer.Exit(1)


def _show(matrix: Matrix, settings: EvaluationSettings) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    from stcanet_runtime.cli.text import printable, table_console

    console = table_console()
    table = Table(Column("", overflow="fold"), box=None, header_style="bold", pad_edge=False)
    for name in matrix.datasets:
        table.add_column(Text(name))
    for model, cells in matrix.rows():
        table.add_row(Text(printable(model)), *(Text("\n".join(cell.texts()), "" if cell.result else "red") for cell in cells))
    console.print(table)
    second = ", re-ranked in the second line" if settings.reranking else ""
    console.print(f"mAP / rank-1 in percent{second}; {settings}", markup=False, soft_wrap=True)
