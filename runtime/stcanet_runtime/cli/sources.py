"""What commands are given to work on: stored embeddings, and folders of crops with the model to embed them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from pathlib import Path

import typer

from stcanet_runtime.cli.progress import progress_bar
from stcanet_runtime.cli.text import printable
from stcanet_runtime.errors import DataError
from stcanet_runtime.gallery import Gallery
from stcanet_runtime.images.crops import list_images, list_others, parse_name
from stcanet_runtime.inference import crop_embeddings
from stcanet_runtime.inference.crop_embeddings import Crops
from stcanet_runtime.inference.encoder import Encoder
from stcanet_runtime.package.contents import package_sha256
from stcanet_runtime.progress import Progress
from stcanet_runtime.wording import counted

BATCH_SIZE = 32


def load_sources(
    sources: Sequence[Path],
    package: Path | None,
    skip_bad: bool = False,
    load: Callable[[Path], Crops] = crop_embeddings.load,
) -> Crops:
    """Embeddings of all sources, in order.

    Args:
        sources: ``.npz`` files as `infer` writes them, images, or folders of crops.
        package: Model package; needed for images only.
        skip_bad: Leave out unreadable images.
        load: What reads a ``.npz`` file.

    Raises:
        DataError: A folder without a package, embeddings of different models or dimensions, or files that are not as expected.
    """
    stored = [is_stored(source) for source in sources]
    if not all(stored) and package is None:
        raise DataError(f"{sources[stored.index(False)]}: to embed images a model is needed; add --package PACKAGE")
    encoder = None if package is None or all(stored) else Encoder.load(package)
    parts: list[Crops] = []
    for of_embeddings, group in groupby(sources, is_stored):
        if of_embeddings:
            parts += map(load, group)
        else:
            assert encoder is not None
            parts.append(embed(encoder, list(group), BATCH_SIZE, skip_bad))
    return crop_embeddings.join(parts)


def embed(encoder: Encoder, sources: Sequence[Path], batch_size: int, skip_bad: bool) -> Crops:
    """Embed images and folders, with a progress bar on stderr where that is a terminal; what is no image is counted there."""
    with _progress(sources) as progress:
        return crop_embeddings.embed(encoder, sources, batch_size, skip_bad, progress)


def embed_tracklets(encoder: Encoder, sources: Sequence[Path], batch_size: int) -> Crops:
    """`embed` for folders of frames, each of which is one row."""
    with _progress(sources) as progress:
        return crop_embeddings.embed_tracklets(encoder, sources, batch_size, progress)


def _progress(sources: Sequence[Path]) -> AbstractContextManager[Progress]:
    for source in sources:
        _say_others(source)
    more = f" and {len(sources) - 1:,} more" if len(sources) > 1 else ""
    return progress_bar(f"embedding {sources[0].name or sources[0]}{more}")


def _say_others(source: Path) -> None:
    """A line on stderr about files in a folder that are not looked at: pictures of a kind that is not read look like none."""
    if others := list_others(source):
        kinds = ", ".join(sorted({other.suffix.lower() or other.name for other in others})[:5])
        were = counted(len(others), "file was", "files were")
        typer.echo(printable(f"note: {source}: {were} not looked at, of kinds that are no images here: {kinds}"), err=True)


def check_names(sources: Sequence[Path], problem: str) -> None:
    """Raise now, before images are embedded, that a name does not tell who is on one; what is stored tells that itself.

    Raises:
        DataError: The `problem`; or a source is not there, or holds no image.
    """
    images = (image for source in sources if not is_stored(source) for image in list_images(source))
    if any(parse_name(image) is None for image in images):
        raise DataError(problem)


def check_gallery(
    path: Path, sources: Sequence[Path], package: Path | None, metric: str | None = None, *, read_only: bool = False
) -> None:
    """Raise now, before `sources` are embedded, what opening the gallery for them would after it.

    What embeddings that are stored are of is told by their files, when they are read.

    Raises:
        GalleryError: There is none, or it is of another model than `package`, which embeds them.
        OptionError: It uses another metric.
    """
    model = None if package is None or all(map(is_stored, sources)) else package_sha256(package)
    with Gallery.open(path, model, read_only) as gallery:
        if metric is not None:
            gallery.space.check(gallery.space.dim, metric)


def is_stored(source: Path) -> bool:
    """Whether it holds embeddings, rather than being images."""
    return source.suffix.lower() == ".npz"
