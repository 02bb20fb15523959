"""`infer`: crops to embeddings, and queries against a gallery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stcanet_runtime.cli.examples import examples
from stcanet_runtime.cli.options import JSON, PROVIDER, RERANK, SAME_CAMERA, THREADS, check_apart

if TYPE_CHECKING:
    from stcanet_runtime.cli.ranked_lists import RankedLists
    from stcanet_runtime.inference.crop_embeddings import Crops
    from stcanet_runtime.inference.encoder import Encoder

_DEFAULT_OUTPUT = Path("embeddings.npz")


@examples("""
    stcanet infer package/ crops/ -o crops.npz
    stcanet infer package/ anna.jpg ben.jpg more/ -o people.npz
    stcanet infer package/ query.jpg --gallery gallery/ --sheet ranks.png
    stcanet infer package/ query/ --gallery gallery/ --rerank --json > ranks.json
    stcanet infer package/ tracks/ --tracklets -o tracks.npz   (each folder of frames is one)
    stcanet infer package/ door.mp4 --boxes door.txt -o tracks.npz
    stcanet infer package/ rtsp://camera/1 --detector person.onnx --max-frames 500 -o people.npz
""")
def infer(
    package: Annotated[Path, typer.Argument(help="Model package: a folder, one file (.zip, .stcanet), or model.onnx alone.")],
    images: Annotated[
        list[str],
        typer.Argument(
            help="Crops, or folders of crops (searched recursively); with --boxes or --detector a video, or a camera's URL."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where the embeddings go (.npz). Default: embeddings.npz, or nowhere with --gallery."),
    ] = None,
    tracklets: Annotated[
        bool, typer.Option("--tracklets", help="Each folder of frames, in order of their names, is one embedding.")
    ] = False,
    gallery: Annotated[Path | None, typer.Option(help="A crop or folder to rank for each image.")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Matches per image.")] = 10,
    rerank: RERANK = False,
    sheet: Annotated[Path | None, typer.Option(help="Picture of the ranked lists to write (.png).")] = None,
    sheet_rows: Annotated[int, typer.Option(min=1, help="Images on the sheet, evenly picked.")] = 8,
    same_camera: SAME_CAMERA = False,
    boxes: Annotated[Path | None, typer.Option(help="Boxes of the video in MOT format: an embedding for each track.")] = None,
    detector: Annotated[
        Path | None, typer.Option(help="Person detector (.onnx; the guide says what it must be): an embedding for each box.")
    ] = None,
    each_box: Annotated[bool, typer.Option("--each-box", help="An embedding for each of --boxes, not for each track.")] = False,
    every: Annotated[
        int, typer.Option(min=1, help="Of a track one crop of so many counts; of single boxes one frame of so many.")
    ] = 1,
    max_frames: Annotated[
        int | None, typer.Option(min=1, max=2**31 - 1, help="Stop a video after so many frames; --detector on a URL needs it.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out and list unreadable images; default: an error.")
    ] = False,
    provider: PROVIDER = "auto",
    threads: THREADS = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Crops held in memory at a time; the model runs on 32 of them at most.")
    ] = 32,
    as_json: JSON = False,
) -> None:
    """Embed crops of people, and find them again in a gallery."""
    from functools import partial

    from stcanet_runtime.cli import ranked_lists, sources, videos
    from stcanet_runtime.cli.progress import progress_bar
    from stcanet_runtime.errors import DataError
    from stcanet_runtime.files import check_picture
    from stcanet_runtime.images.crops import list_images
    from stcanet_runtime.inference import crop_embeddings
    from stcanet_runtime.inference.encoder import Encoder
    from stcanet_runtime.retrieval.rerank import Reranking

    video = boxes is not None or detector is not None
    _check_video(images, boxes, detector, each_box, max_frames)
    _check_ranking(gallery, rerank, sheet, video or tracklets)
    if tracklets:
        _check_tracklets(video, skip_bad)
    out = _DEFAULT_OUTPUT if out is None and gallery is None else out
    check_apart([package, *images, gallery, boxes, detector], ("--out", out), ("--sheet", sheet))
    if out is not None:
        crop_embeddings.check_output(out)
    if sheet is not None:
        check_picture(sheet)
    # A slip in the last name is told before hours of work on the first.
    for place in [] if video else images:
        list_images(place)
    if gallery is not None:
        list_images(gallery)
    encoder, lost = Encoder.load(package, provider, threads), None
    embed = sources.embed_tracklets if tracklets else partial(sources.embed, skip_bad=skip_bad)
    if video:
        source = videos.load_source(boxes, detector, provider, threads)
        queries, more, lost = videos.embed(encoder, images[0], source, every, each_box, max_frames)
    else:
        if not tracklets:
            _note_repeated(encoder)
        queries, more = embed(encoder, [Path(image) for image in images], batch_size), {}
    if out is not None:
        crop_embeddings.save(queries, out, more)
    found = None
    if gallery is not None:
        metric = encoder.manifest.output.metric
        others = embed(encoder, [gallery], batch_size)
        reranking = Reranking() if rerank else None
        with progress_bar("re-ranking" if rerank else "ranking") as progress:
            found = ranked_lists.rank(queries, others, top_k, same_camera, metric, reranking, progress)
        if sheet is not None:
            ranked_lists.draw(found, sheet, sheet_rows, metric, encoder.manifest.preset)
    what = "track" if "starts" in more else "box" if video else "tracklet" if tracklets else "image"
    _report(encoder, queries, (what, "boxes" if what == "box" else f"{what}s"), found, out, sheet, as_json)
    if lost is not None:
        raise DataError(f"{lost} are in {out}" if out is not None else f"{lost} were ranked")


def _check_video(
    images: Sequence[str], boxes: Path | None, detector: Path | None, each_box: bool, max_frames: int | None
) -> None:
    from stcanet_runtime.cameras.video import is_url, is_video

    if boxes is not None and detector is not None:
        raise typer.BadParameter("one of the two is enough", param_hint="'--boxes', '--detector'")
    if each_box and boxes is None:
        raise typer.BadParameter("needs --boxes", param_hint="'--each-box'")
    video = boxes is not None or detector is not None
    if any(map(is_video, images)) and not video:
        raise typer.BadParameter("a video or camera needs --boxes or --detector", param_hint="'IMAGES'")
    if video and len(images) > 1:
        raise typer.BadParameter("with --boxes or --detector one video or camera at a time", param_hint="'IMAGES'")
    if detector is not None and is_url(images[0]) and max_frames is None:
        raise typer.BadParameter("is needed with a URL: a camera has no end", param_hint="'--max-frames'")


def _check_tracklets(video: bool, skip_bad: bool) -> None:
    if video:
        raise typer.BadParameter(
            "are folders of frames; of a video --boxes says what its tracks are", param_hint="'--tracklets'"
        )
    if skip_bad:
        raise typer.BadParameter("leaves out images, and no frames of --tracklets", param_hint="'--skip-bad'")


def _note_repeated(encoder: Encoder) -> None:
    """A line on stderr where each image is a clip that repeats it: to whom has tracklets that is a surprise."""
    if (frames := encoder.manifest.input.clip_length or 1) > 1:
        typer.echo(
            f"note: the model takes clips of {frames} frames, and each image is one that repeats it; "
            "--tracklets embeds folders of frames",
            err=True,
        )


def _check_ranking(gallery: Path | None, rerank: bool, sheet: Path | None, people: bool) -> None:
    if rerank and gallery is None:
        raise typer.BadParameter("needs --gallery: without it there is nothing to rank", param_hint="'--rerank'")
    if sheet is not None and people:
        raise typer.BadParameter("draws image files, not tracklets or the people of a video", param_hint="'--sheet'")
    if sheet is not None and gallery is None:
        raise typer.BadParameter("needs --gallery: without it there are no matches to draw", param_hint="'--sheet'")


def _report(
    encoder: Encoder,
    queries: Crops,
    what: tuple[str, str],
    found: RankedLists | None,
    out: Path | None,
    sheet: Path | None,
    as_json: bool,
) -> None:
    from stcanet_runtime.cli import ranked_lists
    from stcanet_runtime.cli.text import print_json

    facts = {
        "model": encoder.manifest.preset,
        "provider": encoder.session.provider,
        "provider_why": encoder.session.explain(),
        "dim": encoder.dim,
        "images": len(queries.paths),
        "out": None if out is None else str(out),
        "sheet": None if sheet is None else str(sheet),
        "skipped": queries.skipped + (found.gallery.skipped if found else []),
    }
    if as_json:
        print_json(facts | (ranked_lists.to_dict(found) if found else {}))
    else:
        if found:
            ranked_lists.show(found)
        _show(facts, what)


def _show(facts: Mapping[str, Any], what: tuple[str, str]) -> None:
    """Print what was done to one or many of `what`."""
    from stcanet_runtime.cli.text import printable, say_written
    from stcanet_runtime.wording import counted

    for item in facts["skipped"]:
        typer.echo(printable(f"skipped {item['path']}: {item['reason']}"))
    done = f"{counted(facts['images'], *what)} → {facts['dim']} dimensions with {facts['model']} on {facts['provider']}"
    typer.echo(printable(done))
    say_written(facts["out"], facts["sheet"])
