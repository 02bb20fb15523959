"""Frames read by several processes, a batch ahead of whoever takes them."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import cycle

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from stcanet.data.frames import FrameFiles
from stcanet_runtime.arrays import UInt8Array
from stcanet_runtime.errors import DataError, StcanetError

_AHEAD = 2
"""Batches that each process reads before they are asked for."""


def take_in_processes(
    frames: FrameFiles, batches: Iterable[NDArray[np.int64]], largest: int, processes: int
) -> Iterator[UInt8Array]:
    """What `frames.take` gives for each of the batches, in their order.

    Args:
        frames: Read by the processes.
        batches: Frame numbers, of any shape.
        largest: Frames of the largest batch.
        processes: How many; they are forked when the first batch is asked for.

    Raises:
        ImageError: A frame cannot be read.
        DataError: A part map cannot; or one of the processes was killed.
    """
    slots = processes * _AHEAD + 1  # all that may be on their way, and the one that is copied
    shared = _SharedBatches(frames, slots, largest)
    waiting: deque[tuple[int, NDArray[np.int64]]] = deque()

    def placed() -> Iterator[tuple[int, NDArray[np.int64]]]:
        for item in zip(cycle(range(slots)), batches, strict=False):
            waiting.append(item)
            yield item

    done = DataLoader(
        shared,
        batch_size=None,
        sampler=placed(),
        num_workers=processes,
        prefetch_factor=_AHEAD,
        multiprocessing_context="fork",  # they have the memory of this process
        generator=torch.Generator(),  # draws a seed for them, who use none: the caller's random numbers are left alone
    )
    try:
        for read in done:
            slot, rows = waiting.popleft()
            # Errors arrive as another type: read again here, where they are raised as they are.
            yield shared.batch(slot, rows).copy() if read else frames.take(rows)
    except RuntimeError as error:
        raise DataError(
            f"a process that reads images was killed, maybe since memory ran out ({error}); resume the run, with fewer workers"
        ) from error


class _SharedBatches(Dataset[bool]):
    """Batches in memory that forked processes share; an item is whether it could be read into its slot.

    Tensors would come by /dev/shm, of which a container has 64 MiB, and where that is full a training would wait for ever.
    """

    def __init__(self, frames: FrameFiles, slots: int, largest: int) -> None:
        self._frames = frames
        shape = slots, largest, *frames.shape[1:]
        self._slots = np.frombuffer(mmap.mmap(-1, int(np.prod(shape, dtype=np.int64))), np.uint8).reshape(shape)

    def __getitem__(self, item: tuple[int, NDArray[np.int64]]) -> bool:
        slot, rows = item
        try:
            self.batch(slot, rows)[:] = self._frames.take(rows)
        except StcanetError:
            return False
        return True

    def batch(self, slot: int, rows: NDArray[np.int64]) -> UInt8Array:
        """The place in which a batch of such numbers is, ``[…, H, W, C]``."""
        return self._slots[slot, : rows.size].reshape(*rows.shape, *self._frames.shape[1:])
