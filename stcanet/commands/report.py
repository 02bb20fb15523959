"""``stcanet report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stcanet.commands.options import DATA_HELP, device_option
from stcanet_runtime.cli.examples import examples


@examples("""
    stcanet report runs/market
    stcanet report runs/market --data market1501/
    stcanet report runs/market --data market1501/ --masks market1501/masks --device cuda
""")
def report(
    run: Annotated[Path, typer.Argument(help="Run folder of 'stcanet train', finished or not.")],
    data: Annotated[
        str | None,
        typer.Option(
            help=f"{DATA_HELP} Evaluate on its test set and write results.json.", show_default="validation identities"
        ),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Part masks to show beside the part maps.", show_default="those of the run")
    ] = None,
    device: Annotated[str, device_option()] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the path and results as one JSON object.")] = False,
) -> None:
    """Write RUN/report.html: curves, figures, settings, hardest mistakes and part maps on one page that opens offline."""
    from stcanet.report.write import write_report
    from stcanet_runtime.cli.progress import progress_bar
    from stcanet_runtime.cli.text import print_json

    with progress_bar("embedding") as progress:
        page = write_report(run, data, device, masks, progress)
    if as_json:
        from stcanet.engine import run_files
        from stcanet_runtime.files import read_json

        results = run / run_files.RESULTS
        found = read_json(results) if results.is_file() else None
        print_json({"report": str(page), "results": found})
    else:
        typer.echo(str(page))
