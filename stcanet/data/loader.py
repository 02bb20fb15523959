"""From sample indices to batches of crops or clips, one batch ahead of whoever trains on them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stcanet.config import ClipConfig
from stcanet.data.clips import clip_frames
from stcanet.data.datasets import Sample
from stcanet.data.frames import FrameFiles, Frames
from stcanet.data.processes import take_in_processes

T = TypeVar("T")

Plan = Sequence[Sequence[int]]
"""The sample indices of each batch."""


class RawBatch(NamedTuple):
    """What was read for one step, on the CPU."""

    crops: Tensor
    """uint8 crops ``[B, H, W, C]`` or clips ``[B, T, H, W, C]``: RGB, and part numbers as the fourth channel with masks."""
    labels: Tensor
    """``[B]`` class indices."""


class BatchLoader:
    """Reads the batches of a plan.

    The frames of a clip are drawn here, from (seed, epoch, sample), and not where they are read: a batch is the same
    whatever the number of workers, the batches before it, and the process that asks for it.

    Args:
        samples: Crops or tracklets.
        labels: Class index of each.
        frames: Their frames, all frames of the first sample first; see :func:`frame_paths`.
        clip_length: T; None takes one frame of each sample, and makes crops of them.
        clips: How the frames are drawn.
        seed: Of the run.
        workers: Processes that read, where frames come from files; 0 reads in a thread.
        pin: Put batches into page-locked memory, from which a GPU copies while it computes.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        labels: Sequence[int],
        frames: Frames,
        clip_length: int | None = None,
        clips: ClipConfig | None = None,
        seed: int = 0,
        workers: int = 0,
        pin: bool = False,
    ) -> None:
        assert len(samples) == len(labels)
        self._counts = [len(sample.frames) for sample in samples]
        self._first = list(accumulate(self._counts, initial=0))
        self._labels = torch.tensor(labels, dtype=torch.long)
        self._frames, self._clip_length, self._clips, self._seed = frames, clip_length, clips or ClipConfig(), seed
        self._workers = workers
        self._pin = pin

    def read(self, plan: Plan, epoch: int) -> Iterator[RawBatch]:
        """The batches of a plan, each read while the one before is in use.

        Raises:
            ImageError: A frame cannot be read.
            DataError: A part map cannot; or a worker was killed.
        """
        return ahead(self._batches(plan, epoch))

    def _batches(self, plan: Plan, epoch: int) -> Iterator[RawBatch]:
        rows = (self._rows(indices, epoch) for indices in plan)
        if self._workers and isinstance(self._frames, FrameFiles):
            largest = max(map(len, plan), default=1) * (self._clip_length or 1)
            taken = take_in_processes(self._frames, rows, largest, self._workers)
        else:
            taken = map(self._frames.take, rows)
        for indices, crops in zip(plan, taken, strict=True):
            batch = RawBatch(torch.from_numpy(crops), self._labels[list(indices)])
            yield RawBatch(*(tensor.pin_memory() for tensor in batch)) if self._pin else batch

    def _rows(self, indices: Sequence[int], epoch: int) -> NDArray[np.int64]:
        """Frame numbers ``[B]`` or ``[B, T]``."""
        # An identity with few samples has one of them several times in a batch: other frames each time.
        drawn = [self._draw(index, epoch, indices[:place].count(index)) for place, index in enumerate(indices)]
        rows = np.stack(drawn)
        return rows[:, 0] if self._clip_length is None else rows

    def _draw(self, index: int, epoch: int, repeat: int) -> NDArray[np.int64]:
        seed = (self._seed, epoch, index, repeat)
        return self._first[index] + clip_frames(self._counts[index], self._clip_length or 1, self._clips, seed)


def frame_paths(samples: Sequence[Sample]) -> list[Path]:
    """The frames of all samples, in order."""
    return [path for sample in samples for path in sample.frames]


def label_map(samples: Sequence[Sample]) -> dict[int, int]:
    """Class index of every identity: identities in ascending order, so that it is the same everywhere."""
    return {pid: label for label, pid in enumerate(sorted({sample.pid for sample in samples}))}


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, computed by a thread up to two before they are asked for; errors come where they belong."""
    end = object()
    with ThreadPoolExecutor(1, "stcanet-loader") as pool:
        waiting = deque(pool.submit(next, items, end) for _ in range(2))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc]
