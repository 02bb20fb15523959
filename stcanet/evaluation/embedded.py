"""A data set as a model sees it: embeddings of query and gallery, with what they were made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet.data.datasets import ReIDDataset
from stcanet.data.datasets.base import ONE_CAMERA
from stcanet.data.scoring import embed_sides, identities
from stcanet.evaluation.models import RetrievalModel
from stcanet.evaluation.settings import EvaluationSettings
from stcanet_runtime.errors import DataError
from stcanet_runtime.inference.tracklets import Sampling
from stcanet_runtime.progress import Progress
from stcanet_runtime.wording import counted

EMBEDDINGS = ("query.npz", "gallery.npz")
"""What :func:`save_embeddings_to` writes."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """A data set's query and gallery as one model sees them."""

    dataset: ReIDDataset
    query: NDArray[np.float32]
    """``[Q, D]``"""
    gallery: NDArray[np.float32]
    """``[G, D]``"""
    how: dict[str, Any]
    """What was embedded, as JSON values."""
    model_sha256: str | None
    """Whose embeddings they are; None of a model that is in no file."""


def embed_dataset(
    model: RetrievalModel, dataset: ReIDDataset, settings: EvaluationSettings, progress: Progress | None = None
) -> Embedded:
    """Embed query and gallery; a sample that is in both once.

    Raises:
        DataError: The data set has no query or no gallery; or queries in the gallery that no camera rule keeps from finding
            themselves; or no query with a true match. All of this is told before the work.
        OptionError: The model does not take clips of that length.
        ImageError: An image cannot be read.
    """
    within = check_sides(dataset)
    how = {"data": dict(dataset.protocol), "queries_in_gallery": within, **_how(model, dataset, settings.sampling)}
    sides = embed_sides(
        lambda samples: model.embed(samples, settings.sampling, settings.batch_size, progress), dataset.query, dataset.gallery
    )
    return Embedded(dataset, *sides, how, model.sha256)


def check_sides(dataset: ReIDDataset) -> int:
    """The number of queries in the gallery. Raises DataError for a data set of which no embeddings would make figures."""
    within = len({*dataset.query} & {*dataset.gallery})
    if not dataset.query or not dataset.gallery:
        raise DataError(
            f"{dataset.root} has {len(dataset.query)} query and {len(dataset.gallery)} gallery samples; both are needed"
        )
    if within and not dataset.has_cameras:
        raise DataError(
            f"{counted(within, 'query is', 'queries are')} in the gallery of {dataset.name} too, and would find themselves, "
            "since the camera of each is not known; leave them out of the gallery"
        )
    if len(dataset.unmatched()) == len(dataset.query):
        camera = f" by another camera; {ONE_CAMERA}" if dataset.has_cameras else ""
        raise DataError(
            f"none of {counted(len(dataset.query), 'query', 'queries')} has a true match in the gallery of {dataset.name}: a "
            f"sample of the same identity{camera}"
        )
    return within


def _how(model: RetrievalModel, dataset: ReIDDataset, sampling: Sampling) -> dict[str, Any]:
    length = model.clip_length(sampling)
    averaged = "features of clips" if model.takes_clips else "unit embeddings of frames"
    return {
        "frames": sampling.frames if dataset.tracklets else "single image",
        "clip_length": length if model.takes_clips else None,
        "averaged": averaged if dataset.tracklets and sampling.frames == "all" else None,
        "flip": sampling.flip,
    }


def save_embeddings_to(embedded: Embedded, folder: Path) -> list[Path]:
    """Write :data:`EMBEDDINGS` into a folder as `stcanet infer -o` does, for `stcanet rank`; a tracklet by its first frame."""
    from stcanet_runtime.inference.crop_embeddings import Crops, save

    dataset, written = embedded.dataset, []
    sides = ((dataset.query, embedded.query), (dataset.gallery, embedded.gallery))
    for name, (samples, rows) in zip(EMBEDDINGS, sides, strict=True):
        paths, whose = [sample.path for sample in samples], identities(samples, dataset.has_cameras)
        crops = Crops(paths, rows, *whose, skipped=[], model=embedded.model_sha256)
        written.append(folder / name)
        save(crops, written[-1])
    return written
