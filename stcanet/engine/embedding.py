"""Embedding and evaluation in PyTorch, with the runtime's preprocessing, distance and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from stcanet.data.datasets import Sample
from stcanet.data.scoring import embed_sides, score
from stcanet.model import Embedder, STCANet
from stcanet_runtime import Evaluation
from stcanet_runtime.arrays import UInt8Array
from stcanet_runtime.inference.tracklets import Sampling, embed_tracklets
from stcanet_runtime.preprocess import ImageSource, load_image, resize
from stcanet_runtime.progress import Progress

QUICK = Sampling("quick")
"""Of the validation during training: one clip of each tracklet."""


@torch.inference_mode()
def embed(
    model: STCANet,
    samples: Sequence[Sample],
    batch_size: int = 64,
    progress: Progress | None = None,
    sampling: Sampling = QUICK,
) -> NDArray[np.float32]:
    """Unit embeddings ``[N, D]`` of crops or tracklets, in float32, in the order of `samples`.

    A model of clips sees a crop as a tracklet of one frame, its clip being the frame repeated; a model of single images
    averages the embeddings of the frames. A row does not depend on the other samples, so several processes may each embed a
    slice.

    Args:
        model: Put into evaluation mode for the call, on whichever device it is.
        samples: Crops or tracklets.
        batch_size: Images or frames per forward pass, of one tracklet or several; at least one clip.
        progress: Called after each batch with (clips done, clips in all); a crop is one clip.
        sampling: Which frames of a tracklet, how long a clip is, and whether mirror images count too.

    Raises:
        OptionError: The model takes single images, and `sampling` says a clip length.
        ImageError: An image cannot be read.
    """
    config, device, was_training = model.config, next(model.parameters()).device, model.training
    embedder = Embedder(model).eval().to(device)

    def read(image: ImageSource) -> UInt8Array:
        return resize(load_image(image), config.height, config.width)

    def run(clips: UInt8Array) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        embeddings, norms = embedder(torch.from_numpy(np.ascontiguousarray(clips)).to(device))
        # A package of images does not tell the lengths, and gives the same figures as its checkpoint.
        return embeddings.cpu().numpy(), None if config.clip_length is None else norms.cpu().numpy()

    tracklets = [sample.frames for sample in samples]
    resolved = replace(sampling, clip_length=sampling.length(config.clip_length))
    try:
        return embed_tracklets(tracklets, read, run, model.feature_dim, resolved, batch_size, progress)
    finally:
        model.train(was_training)


def evaluate_model(
    model: STCANet,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    batch_size: int = 64,
    progress: Progress | None = None,
    sampling: Sampling = QUICK,
) -> Evaluation:
    """Embed both sides and evaluate; of tracklets one clip each, unless `sampling` says otherwise."""
    sides = embed_sides(lambda samples: embed(model, samples, batch_size, progress, sampling), query, gallery)
    return score(query, gallery, *sides)
