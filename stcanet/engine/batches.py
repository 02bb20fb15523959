"""The batches of an epoch, ready for the network: read, normalised and augmented on the training device.

What is in a batch depends on (seed, epoch, step) and on nothing else: not on the number of workers, not on where a run was
interrupted, not on how many processes share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from stcanet.config import TrainConfig
from stcanet.data.augment import Variation, draw_variation, vary
from stcanet.data.crops import CropDataset, label_map
from stcanet.data.datasets import Sample
from stcanet.data.sampling import PKSampler
from stcanet.engine.distributed import ALONE, World
from stcanet.model import Normalize
from stcanet_runtime.errors import OptionError


class Batch(NamedTuple):
    """What one step trains on."""

    images: Tensor
    """Normalised and augmented ``[B, 3, H, W]``."""
    labels: Tensor
    """Class indices ``[B]``."""


class TrainBatches:
    """P×K batches of the training samples.

    Args:
        samples: What to train on.
        config: Batch size, augmentation, workers, seed.
        device: Where the batches are wanted.
        world: The processes that share every batch; each takes some of its identities.

    Raises:
        DataError: There are fewer identities than a batch takes.
        OptionError: The identities of a batch cannot be shared evenly.
    """

    def __init__(self, samples: Sequence[Sample], config: TrainConfig, device: torch.device, world: World = ALONE) -> None:
        if config.identities % world.size:
            raise OptionError("identities", config.identities, f"a multiple of the {world.size} processes that share a batch")
        self._config, self._device, self._world = config, device, world
        self.labels = label_map(samples)
        pids = [sample.pid for sample in samples]
        self._sampler = PKSampler(pids, config.identities, config.instances, config.seed)
        classes = [self.labels[pid] for pid in pids]
        self._size = (config.model_config.height, config.model_config.width)
        self._crops = CropDataset(samples, classes, *self._size, keep=config.workers == 0)
        self._normalize = Normalize().to(device)

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
        generator = torch.Generator().manual_seed(self._config.seed * 1_000_003 + epoch)
        for indices in plan[:skip]:
            draw_variation(len(indices), self._size, self._config.augment, generator)
        for crops, labels in self._load([self._world.share(indices) for indices in plan[skip:]]):
            drawn = draw_variation(len(labels) * self._world.size, self._size, self._config.augment, generator)
            variation = Variation(*map(self._world.share, drawn))
            images = vary(self._normalize(crops.to(self._device)), variation)
            if epoch <= self._config.half_size_epochs:
                images = F.avg_pool2d(images, 2)
            yield Batch(images, labels.to(self._device))

    def _load(self, plan: list[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        # Nothing is random in the workers, so their number does not change the result. The loader draws a seed for them
        # all the same: from a generator of its own, to leave the caller's alone.
        return iter(DataLoader(self._crops, batch_sampler=plan, num_workers=self._config.workers, generator=torch.Generator()))
