"""`identify`: several videos with tracked boxes in, global identities out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stcanet_runtime.cli.examples import examples
from stcanet_runtime.cli.options import JSON, PROVIDER, THREADS, check_apart, check_threshold

if TYPE_CHECKING:
    from stcanet_runtime.cameras.identities import Travel


@examples("""
    stcanet identify package/ door.mp4=door.txt yard.mp4=yard.txt -o who.jsonl
    stcanet identify package/ door.mp4=door.txt --threshold 0.3 --video seen/
    stcanet identify package/ a.mp4=a.txt b.mp4=b.txt --travel a,b=20 --gallery site.gallery
""")
def identify(
    package: Annotated[Path, typer.Argument(help="Model package.")],
    videos: Annotated[
        list[str],
        typer.Argument(metavar="VIDEO=BOXES...", help="Videos that begin together, each with its boxes in MOT format."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="JSON lines to write, one for each box.")] = Path("identities.jsonl"),
    threshold: Annotated[
        float | None,
        typer.Option(
            callback=check_threshold, help="Mean distance up to which tracks are one person. Default: the gallery's, else 0.3."
        ),
    ] = None,
    same_camera_margin: Annotated[
        float | None,
        typer.Option(
            callback=check_threshold, help="How much nearer tracks of one camera must be. Default: the gallery's, else 0."
        ),
    ] = None,
    travel: Annotated[
        list[str] | None, typer.Option(metavar="A,B=SECONDS", help="Least time between two cameras; several times.")
    ] = None,
    gallery: Annotated[Path | None, typer.Option(help="Gallery of people who are known by name.")] = None,
    video: Annotated[Path | None, typer.Option(help="Folder for the videos with identities drawn into them.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Embed one frame of so many.")] = 5,
    provider: PROVIDER = "auto",
    threads: THREADS = None,
    as_json: JSON = False,
) -> None:
    """Find out who is who in several videos."""
    from contextlib import nullcontext

    from stcanet_runtime.cameras import recordings
    from stcanet_runtime.cameras.identifier import Identifier
    from stcanet_runtime.cli.progress import progress_bar
    from stcanet_runtime.cli.text import say
    from stcanet_runtime.files import check_writable
    from stcanet_runtime.gallery import Gallery
    from stcanet_runtime.inference.encoder import Encoder
    from stcanet_runtime.wording import counted

    pairs = [_pair(text) for text in videos]
    pictures = [video / f"{source.stem}.mp4" for source, _ in pairs] if video is not None else []
    if video is not None and (pipe := next((source for source, _ in pairs if source.exists() and not source.is_file()), None)):
        raise typer.BadParameter(f"{pipe} is no file, and would be read twice", param_hint="'--video'")
    drawn = [("--video", picture) for picture in pictures]
    check_apart([package, gallery, *(path for pair in pairs for path in pair)], ("--out", out), *drawn)
    for file in (out, *pictures):
        check_writable(file)
    sources = [recordings.Recording.load(*pair) for pair in pairs]
    times = _travel(travel or [], [source.camera for source in sources])
    encoder = Encoder.load(package, provider, threads)
    with Gallery.open(gallery, encoder.model_sha256, read_only=True) if gallery else nullcontext() as known:
        limit = threshold if threshold is not None else (known.threshold if known else None)
        margin = same_camera_margin if same_camera_margin is not None else (known.same_camera_margin if known else 0.0)
        identifier = Identifier(0.3 if limit is None else limit, times, gallery=known, same_camera_margin=margin)
        with progress_bar("embedding") as progress:
            found = recordings.identify_recordings(encoder, sources, identifier, every, progress)
        names = {identity: identifier.name(identity) for identity in identifier.identities}
    count = recordings.write_lines(sources, found, names.get, out)
    for source, picture in zip(sources, pictures, strict=False):  # none without --video
        recordings.annotate(source, found, names.get, picture)
    facts = {"videos": len(sources), "tracks": len(found), "identities": len(names), "boxes": count, "out": str(out)}
    tracks = f"{counted(len(found), 'track', 'tracks')} of {counted(len(sources), 'video', 'videos')}"
    people = counted(len(names), "identity", "identities")
    text = f"{tracks} {'is' if len(found) == 1 else 'are'} {people}; wrote {counted(count, 'box', 'boxes')} to {out}"
    say(facts, as_json, text)


def _pair(text: str) -> tuple[Path, Path]:
    from stcanet_runtime.cameras.video import without_login

    video, sign, boxes = text.rpartition("=")
    if not sign or not video or not boxes:
        raise typer.BadParameter(f"'{without_login(text)}' must be VIDEO=BOXES", param_hint="'VIDEO=BOXES'")
    return Path(video), Path(boxes)


def _travel(texts: Sequence[str], cameras: Sequence[str]) -> Travel:
    from stcanet_runtime.cameras.identities import Travel
    from stcanet_runtime.errors import OptionError, quote_choices

    times: dict[tuple[str, str], float] = {}
    for text in texts:
        pair, seconds = _time(text)
        if unknown := [camera for camera in pair if camera not in cameras]:
            raise _wrong(f"'{text}': there is no camera '{unknown[0]}'; there are {quote_choices(cameras)}")
        if pair[0] == pair[1]:
            raise _wrong(f"'{text}': a time between two cameras needs two of them")
        if pair in times:
            raise _wrong(f"'{text}': the two have a time already")
        times[pair] = seconds
    try:
        return Travel(times)
    except OptionError as error:
        raise _wrong(str(error)) from None


def _time(text: str) -> tuple[tuple[str, str], float]:
    pair, _, seconds = text.partition("=")
    try:
        one, other = pair.split(",")
        return (one, other), float(seconds)
    except ValueError:
        raise _wrong(f"'{text}' must be A,B=SECONDS") from None


def _wrong(travel: str) -> typer.BadParameter:
    return typer.BadParameter(travel, param_hint="'--travel'")
