"""``stcanet masks``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stcanet_runtime.cli.examples import examples
from stcanet_runtime.cli.options import JSON, provider_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stcanet.data.masks.grouping import Grouping
    from stcanet.data.masks.making import ReadLabels


@examples("""
    stcanet masks labels/ --out market1501/masks
    stcanet masks labels/ --out masks/ --grouping recipes/masks/ccp.toml --images photos/ --sheet look.png
    stcanet masks --parser schp.onnx --images market1501/bounding_box_train --out market1501/masks --provider cuda
""")
def masks(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Mask folder: one indexed PNG per image; what is there already is kept.")
    ],
    labels: Annotated[
        Path | None, typer.Argument(help="Folder of human-parsing label maps (PNG or .mat), named as the images.")
    ] = None,
    grouping: Annotated[
        Path | None, typer.Option(help="Which labels are which part (.toml).", show_default="the 20 labels of LIP")
    ] = None,
    parser: Annotated[Path | None, typer.Option(help="Human-parsing model (.onnx), run over --images.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of images, for --parser and --sheet.")] = None,
    provider: Annotated[str, provider_option("For --parser")] = "auto",
    sheet: Annotated[Path | None, typer.Option(help="Draw a few --images with their parts in colour (.png).")] = None,
    as_json: JSON = False,
) -> None:
    """Make part masks (head, upper body, lower body, shoes) from human-parsing labels, or with a parsing model.

    Start it again after an interruption: it goes on with what is missing.
    """
    from stcanet.data.masks.grouping import LIP, load_grouping
    from stcanet.data.masks.making import draw_masks, make_masks
    from stcanet_runtime.cli.progress import progress_bar
    from stcanet_runtime.cli.text import print_json, say_written
    from stcanet_runtime.files import check_picture
    from stcanet_runtime.wording import counted

    if (labels is None) == (parser is None):
        raise typer.BadParameter("give a folder of label maps, or --parser with --images", param_hint="'LABELS'")
    if images is None and (parser or sheet):
        raise typer.BadParameter("--parser and --sheet need the images", param_hint="'--images'")
    if images and not (parser or sheet):
        raise typer.BadParameter("are for --parser and --sheet; label maps are read without them", param_hint="'--images'")
    if sheet:
        check_picture(sheet)
    for place in (labels, images):
        if place and out.resolve().is_relative_to(place.resolve()):
            raise typer.BadParameter(
                f"lies in {place}, whose files would be taken for masks, and masks for them", param_hint="'--out'"
            )
    if labels and provider != "auto":
        raise typer.BadParameter("says where --parser runs; label maps are only read", param_hint="'--provider'")
    groups = load_grouping(grouping or LIP)
    sources, read = _model_source(parser, images, groups, provider) if parser and images else _label_source(labels)
    with progress_bar("masks") as progress:
        written = make_masks(sources, read, groups, out, progress)
    if sheet and images:
        draw_masks(images, out, sheet)
    if as_json:
        print_json({"out": str(out), "masks": len(sources), "written": written, "sheet": str(sheet) if sheet else None})
    else:
        before = counted(len(sources) - written, "was there", "were there")
        typer.echo(f"{out}: {counted(written, 'mask', 'masks')} written, {before}")
        say_written(sheet)


def _label_source(labels: Path | None) -> tuple[Sequence[Path], ReadLabels]:
    from stcanet.data.masks.labels import SUFFIXES, read_label_map
    from stcanet_runtime.errors import DataError

    assert labels is not None
    found = sorted(path for path in labels.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    if not found:
        raise DataError(f"no label maps in {labels} (looked for {', '.join(SUFFIXES)})")
    return found, read_label_map


def _model_source(parser: Path, images: Path, groups: Grouping, provider: str) -> tuple[Sequence[Path], ReadLabels]:
    from stcanet.data.masks.parser import HumanParser
    from stcanet_runtime.images.crops import list_images

    return list_images(images), HumanParser(parser, groups.parser, provider)
