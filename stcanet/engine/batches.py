"""The batches of an epoch, ready for the network: read, normalised and augmented on the training device.

What is in a batch depends on (seed, epoch, step) and on nothing else: not on the number of workers, not on where a run was
interrupted, not on how many processes share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stcanet.config import TrainConfig
from stcanet.data.augment import Variation, draw_variation, vary
from stcanet.data.datasets import Sample
from stcanet.data.frames import FrameFiles
from stcanet.data.loader import BatchLoader, RawBatch, frame_paths, label_map
from stcanet.data.masks import MaskFolder
from stcanet.data.sampling import PKSampler
from stcanet.data.store import open_frames
from stcanet.engine.distributed import ALONE, World
from stcanet.model import Normalize
from stcanet_runtime.errors import OptionError
from stcanet_runtime.progress import Progress

_FEW = 0.7
"""A part of the images that is worth a note; data sets of this field have 0.9 and more in an epoch."""


class Batch(NamedTuple):
    """What one step trains on."""

    images: Tensor
    """Normalised and augmented ``[B, 3, H, W]``, or clips ``[B, T, 3, H, W]``; channels last in memory."""
    labels: Tensor
    """Class indices ``[B]``."""
    masks: Tensor | None = None
    """uint8 ``[B, H, W]``: 0 background, k for part k; None where there are none."""


class TrainBatches:
    """P×K batches of the training samples.

    Args:
        samples: What to train on.
        config: Batch size, augmentation, clips, masks, cache, workers, seed.
        device: Where the batches are wanted.
        world: The processes that share every batch; each takes some of its identities.
        progress: Called while images are decoded to be kept.

    Attributes:
        labels: Class index of every identity.
        where: Where images come from: memory, a file, or their own files.

    Raises:
        DataError: There are fewer identities than a batch takes; masks are missing; or the disk has no room for a cache.
        ImageError: An image cannot be read.
        OptionError: The identities of a batch cannot be shared evenly.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        config: TrainConfig,
        device: torch.device,
        world: World = ALONE,
        progress: Progress | None = None,
    ) -> None:
        if config.identities % world.size:
            raise OptionError("identities", config.identities, f"a multiple of the {world.size} processes that share a batch")
        self._config, self._device, self._world = config, device, world
        self.labels = label_map(samples)
        pids = [sample.pid for sample in samples]
        self._sampler = PKSampler(pids, config.identities, config.instances, config.seed)
        model = config.model_config
        self._size = (model.height, model.width)
        files = FrameFiles(frame_paths(samples), *self._size, MaskFolder(config.masks) if config.masks else None)
        frames = open_frames(files, config.cache, Path(config.cache_dir) if config.cache_dir else None, progress)
        self.where = frames.where
        self._loader = BatchLoader(
            samples,
            [self.labels[pid] for pid in pids],
            frames,
            clip_length=model.clip_length,
            clips=config.clips,
            seed=config.seed,
            workers=config.workers,
            pin=device.type == "cuda",
        )
        self._normalize = Normalize().to(device)

    def notes(self) -> list[str]:
        """A line if an epoch leaves out much of the data, which no figure would tell."""
        share = self._sampler.share()
        if share > _FEW:
            return []
        few = self._config.identities
        text = f"an epoch takes {100 * share:.0f} % of the images: it ends when fewer than {few} identities have any left"
        return [f"{text}; lower the identities of a batch"]

    def plan(self, epoch: int) -> list[list[int]]:
        """The sample indices of every joint batch of an epoch."""
        return list(self._sampler.batches(epoch))

    def read(self, plan: list[list[int]], epoch: int, skip: int = 0) -> Iterator[Batch]:
        """This process's shares of the batches of a plan.

        Args:
            plan: From :meth:`plan`.
            epoch: Of the same epoch.
            skip: Batches to leave out at the start; those that follow are the same as without.
        """
        generator = torch.Generator().manual_seed(epoch_seed(self._config.seed, epoch))
        for indices in plan[:skip]:
            draw_variation(len(indices), self._size, self._config.augment, generator)
        shares = [self._world.share(indices) for indices in plan[skip:]]
        for raw in self._loader.read(shares, epoch):
            drawn = draw_variation(len(raw.labels) * self._world.size, self._size, self._config.augment, generator)
            variation = Variation(*map(self._world.share, drawn))
            yield self._prepare(raw, variation, half_size=epoch <= self._config.half_size_epochs)

    def _prepare(self, raw: RawBatch, variation: Variation, half_size: bool) -> Batch:
        crops, labels = (tensor.to(self._device, non_blocking=True) for tensor in raw)
        images, masks = vary(crops, variation, self._normalize, self._config.augment.erase_masks)
        if half_size:
            images = F.avg_pool2d(images.flatten(0, -4), 2).unflatten(0, images.shape[:-3])
        return Batch(images, labels, masks)


def epoch_seed(seed: int, epoch: int) -> int:
    """Of the variation in an epoch; different for all runs and epochs, and within 64 bits for every seed that settings take."""
    return seed * 1_000_003 + epoch
