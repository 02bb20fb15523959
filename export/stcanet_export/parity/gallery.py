"""Ranking agreement on a gallery of the user's: a data set, or a folder of crops that are searched among each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stcanet.data.datasets import load_dataset
from stcanet_export.parity.agreement import agreement, cosines
from stcanet_export.parity.report import Check, Ranking
from stcanet_export.parity.sides import Side
from stcanet_export.parity.tolerance import Tolerance
from stcanet_runtime.errors import DataError, LayoutError
from stcanet_runtime.images.crops import list_images
from stcanet_runtime.picking import pick_evenly
from stcanet_runtime.wording import counted

MAX_QUERIES, MAX_GALLERY = 100, 1000
"""Evenly picked: pairs grow with the square of a gallery, and PyTorch on a CPU embeds some ten crops a second."""
_MIN_GALLERY = 3

Group = tuple[Path, ...]


@dataclass(frozen=True)
class Gallery:
    """Crops or tracklets: each a group of image files."""

    queries: tuple[Group, ...]
    gallery: tuple[Group, ...]


def read_gallery(source: str) -> Gallery:
    """A data set's query and gallery, or the images of a folder as both.

    Raises:
        DataError: There are no images, or too few.
    """
    try:
        dataset = load_dataset(source)
        sides = [tuple(sample.frames for sample in samples) for samples in (dataset.query, dataset.gallery)]
    except LayoutError:
        sides = [tuple((image,) for image in list_images(Path(source)))] * 2
    found = Gallery(tuple(pick_evenly(sides[0], MAX_QUERIES)), tuple(pick_evenly(sides[1], MAX_GALLERY)))
    if not found.queries or len(found.gallery) < _MIN_GALLERY:
        queries = counted(len(found.queries), "query", "queries")
        raise DataError(f"{source}: {queries} and {len(found.gallery)} in the gallery are too few to rank")
    return found


def gallery_checks(reference: Side, candidate: Side, gallery: Gallery, tolerance: Tolerance) -> tuple[Ranking, list[Check]]:
    """Embeddings of all, and how each query ranks the gallery; what is a query itself is not in its own ranking.

    Returns:
        What :func:`~stcanet_export.parity.agreement.agreement` does, the least cosine first among the checks.
    """
    groups = list(dict.fromkeys((*gallery.queries, *gallery.gallery)))
    place = {group: index for index, group in enumerate(groups)}
    ours, theirs = (side.embed_files(groups).astype(np.float64) for side in (candidate, reference))
    cosine = cosines(ours, theirs)
    worst = int(np.argmin(cosine))
    least = Check.at_least("gallery: min cosine", float(cosine[worst]), tolerance.min_cosine, groups[worst][0].name)
    q, g = ([place[group] for group in side] for side in (gallery.queries, gallery.gallery))
    same = np.equal.outer(q, g)
    distances = [np.where(same, np.inf, 1 - values[q] @ values[g].T) for values in (ours, theirs)]
    ranking, checks = agreement(
        f"gallery of {len(g)}, {counted(len(q), 'query', 'queries')}", distances[0], distances[1], tolerance
    )
    return ranking, [least, *checks]
