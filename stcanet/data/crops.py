"""Crops as tensors: decoded and resized by the runtime's own code, so that training sees what deployment sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from stcanet.data.datasets import Sample
from stcanet_runtime.preprocess import load_image, resize


class CropDataset(Dataset[tuple[Tensor, int]]):
    """uint8 RGB crops ``[H, W, 3]`` with labels.

    There is no randomness in here: augmentation happens on whole batches (:mod:`stcanet.data.augment`), so the number
    of workers changes nothing, and a resized crop can be kept.

    Args:
        samples: What to read.
        labels: Class index of each sample.
        height: Pixels.
        width: Pixels.
        keep: Keep every crop in memory once it is read (24 KiB each at 128×64).
    """

    def __init__(self, samples: Sequence[Sample], labels: Sequence[int], height: int, width: int, keep: bool = False) -> None:
        assert len(samples) == len(labels)
        self._samples, self._labels, self._size = samples, labels, (height, width)
        self._kept: list[NDArray[np.uint8] | None] | None = [None] * len(samples) if keep else None

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.from_numpy(self._crop(index)), self._labels[index]

    def _crop(self, index: int) -> NDArray[np.uint8]:
        if self._kept is None:
            return self._read(index)
        crop = self._kept[index]
        if crop is None:
            crop = self._kept[index] = self._read(index)
        return crop

    def _read(self, index: int) -> NDArray[np.uint8]:
        return resize(load_image(self._samples[index].path), *self._size)


def label_map(samples: Sequence[Sample]) -> dict[int, int]:
    """Class index of every identity: identities in ascending order, so that it is the same everywhere."""
    return {pid: label for label, pid in enumerate(sorted({sample.pid for sample in samples}))}
