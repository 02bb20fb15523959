"""`identify`: several videos with tracked boxes in, global identities out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_EXAMPLES = """\b
Examples:
  stcanet identify package/ door.mp4=door.txt yard.mp4=yard.txt -o who.jsonl
  stcanet identify package/ door.mp4=door.txt --threshold 0.3 --video seen/
  stcanet identify package/ a.mp4=a.txt b.mp4=b.txt --travel a,b=20 --gallery site.gallery"""


def identify(
    package: Annotated[Path, typer.Argument(help="Model package.")],
    videos: Annotated[
        list[str],
        typer.Argument(metavar="VIDEO=BOXES...", help="Videos that begin together, each with its boxes in MOT format."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON lines to write, one for each box.")] = Path(
        "identities.jsonl"
    ),
    threshold: Annotated[
        float | None, typer.Option(help="Mean distance up to which tracks are one person. Default: the gallery's, else 0.3.")
    ] = None,
    travel: Annotated[
        list[str] | None, typer.Option(metavar="A,B=SECONDS", help="Least time between two cameras; several times.")
    ] = None,
    gallery: Annotated[Path | None, typer.Option(help="Gallery of people who are known by name.")] = None,
    video: Annotated[Path | None, typer.Option(help="Folder for the videos with identities drawn into them.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Embed one frame of so many.")] = 5,
    provider: Annotated[
        str, typer.Option(help="Where the model runs: auto, cpu, openvino, openvino-bf16, cuda or tensorrt.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find out who is who in several videos."""
    import json
    from contextlib import nullcontext

    from stcanet_runtime import identification
    from stcanet_runtime.cli.progress import progress_bar
    from stcanet_runtime.encoder import Encoder
    from stcanet_runtime.gallery import Gallery
    from stcanet_runtime.identifier import Identifier, Travel

    sources = [identification.Source.load(*_pair(text)) for text in videos]
    times = Travel(dict(_time(text) for text in travel or []))
    encoder = Encoder.load(package, provider)
    with Gallery.open(gallery, encoder.model_sha256, read_only=True) if gallery else nullcontext() as known:
        limit = threshold if threshold is not None else (known.threshold if known else None)
        identifier = Identifier(0.3 if limit is None else limit, times, gallery=known)
        with progress_bar("embedding") as progress:
            found = identification.identify_sources(encoder, sources, identifier, every, progress)
        names = {identity: identifier.name(identity) for identity in identifier.identities}
    count = identification.write_lines(sources, found, names.get, output)
    for source in sources if video is not None else []:
        assert video is not None
        identification.annotate(source, found, names.get, video / f"{source.camera}.mp4")
    facts = {"videos": len(sources), "tracks": len(found), "identities": len(names), "boxes": count, "output": str(output)}
    text = f"{len(found)} tracks of {len(sources)} videos are {len(names)} identities; wrote {count} boxes to {output}"
    typer.echo(json.dumps(facts, indent=2) if as_json else text)


identify.__doc__ = f"{identify.__doc__}\n\n{_EXAMPLES}"


def _pair(text: str) -> tuple[Path, Path]:
    video, sign, boxes = text.rpartition("=")
    if not sign or not video or not boxes:
        raise typer.BadParameter(f"'{text}' must be VIDEO=BOXES", param_hint="'VIDEO=BOXES'")
    return Path(video), Path(boxes)


def _time(text: str) -> tuple[tuple[str, str], float]:
    pair, _, seconds = text.partition("=")
    cameras = pair.split(",")
    try:
        return (cameras[0], cameras[1]), float(seconds)
    except (ValueError, IndexError):
        raise typer.BadParameter(f"'{text}' must be A,B=SECONDS", param_hint="'--travel'") from None
