"""`calibrate`: the threshold for a rate of false accepts, from labelled embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stcanet_runtime.cli.examples import examples
from stcanet_runtime.cli.options import JSON, METRIC, PACKAGE, check_apart, check_choice, check_value

if TYPE_CHECKING:
    from stcanet_runtime.inference.crop_embeddings import Crops


_UNKNOWN = "the identities are not known: file names must be like 0001_c1s1_000004_00.jpg, or the .npz hold pids"


def _check_kind(name: str) -> str:
    from stcanet_runtime.retrieval.calibration import KINDS

    return check_choice(name, KINDS)


def _check_far(rate: float) -> float:
    from stcanet_runtime.retrieval.calibration import check_far

    return check_value(rate, check_far)


@examples("""
    stcanet calibrate crops.npz --far 0.01 --picture curves.png
    stcanet calibrate crops/ --package package/ --far 0.001 --gallery site.gallery
    stcanet calibrate query.npz gallery.npz --kind pairs --far 1e-4 --out threshold.json
""")
def calibrate(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Embeddings written by infer (.npz), or folders of crops with names like 0001_c1s1_….jpg."),
    ],
    far: Annotated[
        float, typer.Option(callback=_check_far, help="False accept rate that can be borne, such as 0.001.")
    ] = 0.001,
    kind: Annotated[
        str,
        typer.Option(
            callback=_check_kind,
            help="What FAR counts. search: queries of people who are not enrolled that find somebody; what a gallery decides "
            "by, and it grows with the gallery. pairs: pairs of different people taken for one.",
        ),
    ] = "search",
    package: PACKAGE = None,
    gallery: Annotated[Path | None, typer.Option(help="Gallery to keep the threshold in.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="JSON file to write.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Curves to draw (.png).")] = None,
    metric: METRIC = "cosine",
    same_camera: Annotated[bool, typer.Option(help="Also compare images of the same camera.")] = False,
    as_json: JSON = False,
) -> None:
    """Find the distance up to which people count as the same, for a false accept rate on labelled images."""
    import numpy as np

    from stcanet_runtime.cli.sources import check_gallery, check_names, load_sources
    from stcanet_runtime.cli.text import say, say_written
    from stcanet_runtime.files import check_picture, check_writable, write_json
    from stcanet_runtime.gallery import Gallery
    from stcanet_runtime.pictures.curves import draw_calibration
    from stcanet_runtime.retrieval.calibration import calibrate as find

    check_apart([*sources, package, gallery], ("--out", out), ("--picture", picture))
    if picture is not None:
        check_picture(picture)
    if out is not None:
        check_writable(out)
    if gallery is not None:
        check_gallery(gallery, sources, package, metric)
    check_names(sources, _UNKNOWN)
    crops = _labelled(load_sources(sources, package))
    found, scores = find(
        crops.embeddings,
        np.asarray(crops.pids),
        crops.camids,
        far,
        kind=kind,
        metric=metric,
        cross_camera=not same_camera,
        model=crops.model,
    )
    say(found.to_dict(), as_json, found.summary())
    if picture is not None:
        draw_calibration(found, scores, picture)
    if out is not None:
        write_json(out, found.to_dict())
    if gallery is not None:
        with Gallery.open(gallery, crops.model) as opened:
            opened.space.check(crops.embeddings.shape[1], metric)
            opened.calibration = found.to_dict()
    if not as_json:
        say_written(picture, out, gallery)


def _labelled(crops: Crops) -> Crops:
    """Those of people; an error where it is not known who they are of."""
    from stcanet_runtime.errors import DataError

    if crops.pids is None:
        raise DataError(_UNKNOWN)
    return crops.people()
