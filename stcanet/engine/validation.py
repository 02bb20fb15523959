"""Embedding and evaluation in PyTorch, with the runtime's preprocessing, distance and metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from stcanet.data.crops import CropDataset
from stcanet.data.datasets import Sample
from stcanet.data.scoring import score
from stcanet.model import Embedder, STCANet
from stcanet_runtime import Evaluation


@torch.inference_mode()
def embed(
    model: STCANet,
    samples: Sequence[Sample],
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Unit embeddings ``[N, D]`` of image crops, in float32, in the order of `samples`.

    Args:
        model: Put into evaluation mode for the call, on whichever device it is.
        samples: Crops.
        batch_size: Images per forward pass.
        progress: Called after each batch with (images done, images in all).
    """
    was_training, device = model.training, next(model.parameters()).device
    embedder = Embedder(model).eval().to(device)
    crops = CropDataset(samples, [0] * len(samples), model.config.height, model.config.width)
    embeddings = np.empty((len(samples), model.feature_dim), np.float32)
    done = 0
    for images, _ in DataLoader(crops, batch_size=batch_size, generator=torch.Generator()):
        embeddings[done : done + len(images)] = embedder(images.to(device)).cpu().numpy()
        done += len(images)
        if progress:
            progress(done, len(samples))
    model.train(was_training)
    return embeddings


def evaluate_model(
    model: STCANet,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Embed both sides and evaluate."""
    embeddings = embed(model, [*query, *gallery], batch_size, progress)
    return score(query, gallery, embeddings[: len(query)], embeddings[len(query) :])


def split_validation(
    samples: Sequence[Sample], fraction: float, seed: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...], tuple[Sample, ...]]:
    """Hold back identities for choosing a checkpoint.

    Only identities seen by two cameras are held back, since the others have no match to find (where there are no
    camera numbers, those with two images). Of a held-back identity the first image of each camera becomes a query.

    Returns:
        What is left to train on, validation queries, validation gallery.
    """
    views: dict[int, set[int]] = {}
    for index, sample in enumerate(samples):
        views.setdefault(sample.pid, set()).add(sample.camid if sample.camid >= 0 else index)
    eligible = sorted(pid for pid, seen in views.items() if len(seen) >= 2)
    wanted = round(fraction * len(views))
    chosen = np.random.default_rng((seed, 0x7A11DA7E)).permutation(eligible)[:wanted]
    held_back = set(chosen.tolist())
    train, query, gallery, queried = [], [], [], set()
    for sample in samples:
        if sample.pid not in held_back:
            train.append(sample)
        elif (sample.pid, sample.camid) not in queried:
            queried.add((sample.pid, sample.camid))
            query.append(sample)
        else:
            gallery.append(sample)
    if all(sample.camid >= 0 for sample in samples):
        # So that an identity with one image per camera can be found too; the same-camera rule keeps a query from
        # finding itself.
        gallery += query
    return tuple(train), tuple(query), tuple(gallery)
