"""`gallery`: files of named embeddings: create, enrol, search, expire, forget, export, stats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stcanet_runtime.cli import gallery_options
from stcanet_runtime.cli.examples import examples, with_examples
from stcanet_runtime.cli.options import JSON, K1, K2, LAMBDA, PACKAGE, RERANK, check_apart, check_threshold, check_value
from stcanet_runtime.cli.text import printable, say, say_written
from stcanet_runtime.retrieval.rerank import Reranking

app = typer.Typer(
    help=with_examples(
        "Keep people in a file, and find them again.",
        """
        stcanet gallery create site.gallery package/ --float16
        stcanet gallery enrol site.gallery people/ --package package/ --by-folder
        stcanet gallery enrol site.gallery crops.npz --camera door --meta zone=3
        stcanet gallery search site.gallery crop.jpg --package package/ --sheet a.png
        stcanet gallery search site.gallery query.npz --camera door --threshold 0.35
        stcanet gallery expire site.gallery --older-than 30d
        stcanet gallery forget site.gallery anna
        """,
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _check_time(text: str | None) -> str | None:
    return check_value(text, gallery_options.parse_time)


def _check_age(text: str | None) -> str | None:
    return check_value(text, gallery_options.age_limit)


def _check_pairs(pairs: list[str] | None) -> list[str] | None:
    return check_value(pairs, gallery_options.parse_pairs)


def _check_templates(text: str) -> str:
    return check_value(text, gallery_options.parse_templates)


GALLERY = Annotated[Path, typer.Argument(help="The gallery file.")]
SOURCES = Annotated[
    list[Path], typer.Argument(help="Embeddings written by infer or export (.npz), crops, or folders of crops.")
]
PAIRS = Annotated[
    list[str] | None,
    typer.Option("--meta", callback=_check_pairs, metavar="KEY=VALUE", help="Metadata; may be given several times."),
]
CAMERAS = Annotated[list[str] | None, typer.Option("--camera", help="Only entries of this camera; may be given several times.")]
IDENTITIES = Annotated[list[str] | None, typer.Option("--identity", help="Only this identity; may be given several times.")]
AFTER = Annotated[
    str | None, typer.Option(callback=_check_time, help="Only entries from this time on: 2026-11-25T13:00, or seconds.")
]
BEFORE = Annotated[str | None, typer.Option(callback=_check_time, help="Only entries before this time.")]


@app.command()
@examples("""
    stcanet gallery create site.gallery package/
    stcanet gallery create site.gallery package/ --float16
""")
def create(
    gallery: GALLERY,
    package: Annotated[Path, typer.Argument(help="Model package whose embeddings it will hold.")],
    float16: Annotated[bool, typer.Option("--float16", help="Half the file and memory.")] = False,
    as_json: JSON = False,
) -> None:
    """Make an empty gallery for the embeddings of one model."""
    from stcanet_runtime.gallery import Gallery
    from stcanet_runtime.package.contents import load_manifest, package_sha256

    output = load_manifest(package).output
    dtype = "float16" if float16 else "float32"
    with Gallery.create(gallery, output.dim, package_sha256(package), output.metric, dtype) as made:
        say({"created": str(gallery), **made.stats()}, as_json, f"created {gallery}: {output.dim} × {dtype}")


@app.command()
@examples("""
    stcanet gallery enrol site.gallery people/ --package package/ --by-folder
    stcanet gallery enrol site.gallery crops.npz --camera door --meta zone=3
""")
def enrol(
    gallery: GALLERY,
    sources: SOURCES,
    package: PACKAGE = None,
    identity: Annotated[
        str | None, typer.Option(help="Who all of them are. Default: by an export, or names like 0001_c1s1_….jpg.")
    ] = None,
    by_folder: Annotated[
        bool, typer.Option("--by-folder", help="The folder of each crop is the name: people/anna/1.jpg.")
    ] = False,
    camera: Annotated[str | None, typer.Option(help="The camera of all. Default: likewise, or unknown.")] = None,
    at: Annotated[
        str | None,
        typer.Option("--time", callback=_check_time, help="When: 2026-11-25T13:00, or seconds. Default: by an export, or now."),
    ] = None,
    meta: PAIRS = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out unreadable images; default: an error.")] = False,
    as_json: JSON = False,
) -> None:
    """Add people. All of them are on the disk when it says so, or none are in the gallery."""
    from stcanet_runtime.cli import gallery_entries, gallery_export
    from stcanet_runtime.gallery import Gallery
    from stcanet_runtime.wording import counted

    if identity is not None and by_folder:
        raise typer.BadParameter("give one of --identity and --by-folder", param_hint="'--by-folder'")
    moment, extra = gallery_options.parse_time(at), gallery_options.parse_pairs(meta)
    if "path" in extra:
        raise typer.BadParameter("'path' is where a crop lies, which is kept anyway; take another key", param_hint="'--meta'")
    named = identity is not None or by_folder
    unknown = None if named else gallery_entries.UNKNOWN
    given = gallery_entries.load(gallery, sources, package, skip_bad, unknown, gallery_export.load)
    crops = given if named else gallery_entries.people(given)
    nobody = len(given.paths) - len(crops.paths)
    names = gallery_entries.identities(crops, identity, by_folder, sources)
    with Gallery.open(gallery, crops.model) as made:
        ids = made.enrol(crops.embeddings, names, **gallery_entries.details(crops, camera, moment, extra))
        entries = made.stats()["entries"]
    facts = {
        "enrolled": len(ids),
        "identities": len(set(names)),
        "entries": entries,
        "skipped": crops.skipped,
        "nobody": nobody,
    }
    of, there = counted(len(set(names)), "identity", "identities"), counted(entries, "entry", "entries")
    out = counted(nobody, "that is junk or a distractor by its name", "that are junk or distractors by their names")
    text = f"enrolled {len(ids)} of {of}; {gallery} has {there}" + (f"; left out {out}" if nobody else "")
    say(facts, as_json, text)


@app.command()
@examples("""
    stcanet gallery search site.gallery crop.jpg --package package/ --sheet a.png
    stcanet gallery search site.gallery query.npz --camera door --threshold 0.35 --json
""")
def search(
    gallery: GALLERY,
    sources: SOURCES,
    package: PACKAGE = None,
    top_k: Annotated[int, typer.Option(min=1, help="Places per query.")] = 5,
    threshold: Annotated[
        float | None,
        typer.Option(callback=check_threshold, help="Distance up to which it is that person. Default: the calibrated."),
    ] = None,
    camera: CAMERAS = None,
    identity: IDENTITIES = None,
    after: AFTER = None,
    before: BEFORE = None,
    meta: PAIRS = None,
    other_cameras: Annotated[bool, typer.Option("--other-cameras", help="Leave out entries of a query's own camera.")] = False,
    templates: Annotated[
        str,
        typer.Option(callback=_check_templates, help="What stands for an identity: all, mean, or a number of its embeddings."),
    ] = "all",
    rerank: RERANK = False,
    k1: K1 = Reranking.k1,
    k2: K2 = Reranking.k2,
    lambda_value: LAMBDA = Reranking.lambda_value,
    sheet: Annotated[Path | None, typer.Option(help="Picture of the ranked lists to write (.png).")] = None,
    as_json: JSON = False,
) -> None:
    """Find who it is, or that nobody is near enough."""
    from stcanet_runtime.cli import gallery_entries, gallery_search
    from stcanet_runtime.files import check_picture
    from stcanet_runtime.gallery import Gallery

    check_apart([gallery, package, *sources], ("--sheet", sheet))
    if sheet is not None:
        check_picture(sheet)
    which = gallery_options.where(identity, camera, after, before, meta)
    crops = gallery_entries.load(gallery, sources, package, unknown=gallery_search.NO_CAMERAS if other_cameras else None)
    with Gallery.open(gallery, crops.model, read_only=True) as made:
        found = gallery_search.find(
            made,
            crops,
            top_k,
            threshold,
            which,
            other_cameras,
            gallery_options.parse_templates(templates),
            Reranking(k1, k2, lambda_value) if rerank else None,
        )
    if sheet is not None:
        gallery_search.draw(found, sheet)
    gallery_search.show(found, as_json)
    if not as_json:
        say_written(sheet)


@app.command()
@examples("""
    stcanet gallery expire site.gallery --older-than 30d
    stcanet gallery expire site.gallery --before 2026-11-25T13:00
""")
def expire(
    gallery: GALLERY,
    older_than: Annotated[str | None, typer.Option(callback=_check_age, help="An age: 30d, 12h, 90m or 45s.")] = None,
    before: Annotated[str | None, typer.Option(callback=_check_time, help="A time: 2026-11-25T13:00, or seconds.")] = None,
    as_json: JSON = False,
) -> None:
    """Delete what is old, and overwrite it."""
    from stcanet_runtime.gallery import Gallery
    from stcanet_runtime.wording import counted

    if (older_than is None) == (before is None):
        raise typer.BadParameter("give one of --older-than and --before", param_hint="'--older-than'")
    limit = gallery_options.age_limit(older_than) if older_than is not None else gallery_options.parse_time(before)
    assert limit is not None
    with Gallery.open(gallery) as made:
        count = made.expire(limit)
    say({"expired": count}, as_json, f"deleted {counted(count, 'entry', 'entries')} from {gallery}")


@app.command()
@examples("""
    stcanet gallery forget site.gallery anna
""")
def forget(gallery: GALLERY, identity: Annotated[str, typer.Argument(help="Whose entries go.")], as_json: JSON = False) -> None:
    """Delete an identity, and prove that no byte of its embeddings is left in the files."""
    from stcanet_runtime.gallery import Gallery
    from stcanet_runtime.wording import counted

    with Gallery.open(gallery) as made:
        count = made.forget(identity)
    gone = f"forgot {printable(identity)}: {counted(count, 'entry', 'entries')}, proved gone"
    text = gone if count else "the bytes of an earlier deletion are gone now"
    say({"forgotten": identity, "entries": count}, as_json, text)


@app.command()
@examples("""
    stcanet gallery export site.gallery -o door.npz --camera door
""")
def export(
    gallery: GALLERY,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write (.npz): embeddings, and what is known of each entry.")
    ],
    camera: CAMERAS = None,
    identity: IDENTITIES = None,
    after: AFTER = None,
    before: BEFORE = None,
    meta: PAIRS = None,
    as_json: JSON = False,
) -> None:
    """Write entries and embeddings to a file of plain arrays."""
    from stcanet_runtime.cli import gallery_export
    from stcanet_runtime.files import check_writable
    from stcanet_runtime.gallery import Gallery
    from stcanet_runtime.wording import counted

    check_apart([gallery], ("--out", out))
    check_writable(out)
    with Gallery.open(gallery, read_only=True) as made:
        count = gallery_export.export(made, out, gallery_options.where(identity, camera, after, before, meta))
    say({"exported": count, "out": str(out)}, as_json, f"wrote {counted(count, 'entry', 'entries')} to {out}")


@app.command()
@examples("""
    stcanet gallery stats site.gallery --check
""")
def stats(
    gallery: GALLERY,
    check: Annotated[bool, typer.Option("--check", help="Read everything; an error where something is damaged.")] = False,
    as_json: JSON = False,
) -> None:
    """Say who and what is in a gallery."""
    from stcanet_runtime.cli import gallery_entries
    from stcanet_runtime.gallery import Gallery

    with Gallery.open(gallery, read_only=True) as made:
        if check:
            made.store.check()
        facts = made.stats() | {"calibration": made.calibration}
    say(facts, as_json, gallery_entries.describe(facts))
