"""Evaluation on a GPU: how many gallery rows come before each threshold.

Thresholds of a query ascend, so what is counted is a step: a gallery row adds one to the first threshold that it comes before,
and sums of steps are the counts. Where the float16 screen of `gpu_search` cannot tell the step, the pair is measured.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends import gpu_search
from stcanet_runtime.backends.gpu_arrays import put
from stcanet_runtime.backends.gpu_device import Array, Device
from stcanet_runtime.backends.matches import Thresholds, Truth
from stcanet_runtime.backends.neighbours import DEFAULT_SCRATCH
from stcanet_runtime.progress import Progress

_VALUE_BYTES = 24  # scratch for a distance: itself as it came, as float64, and whether it is NaN


class _Steps:
    """Thresholds on the device, and what was counted."""

    def __init__(self, device: Device, start: NDArray[np.int64], distances: NDArray[Any], places: NDArray[np.int64]) -> None:
        self._device, self._host_start = device, start
        self.start = put(device, start, np.int64)
        self.distances, self.places = put(device, distances, distances.dtype), put(device, places, np.int64)
        # Those of query i begin at start[i] + i: one more than thresholds, for what comes before none.
        self.steps = device.xp.zeros(len(distances) + len(start) - 1, np.int32)

    @property
    def arguments(self) -> tuple[object, ...]:
        """Of the kernels that compare with thresholds."""
        return self.start, self.distances, self.places, self.steps

    def counts(self) -> NDArray[np.int64]:
        """Rows before each threshold [M]."""
        start = self._host_start
        total = np.concatenate([[0], np.cumsum(self._device.get(self.steps), dtype=np.int64)])
        rows = np.repeat(np.arange(len(start) - 1), np.diff(start))
        counts: NDArray[np.int64] = total[np.arange(len(rows)) + rows + 1] - total[start[rows] + rows]
        return counts


def count_closer(
    joint: gpu_search.JointRows, thresholds: Thresholds, progress: Progress | None, scratch_bytes: int
) -> NDArray[np.int64]:
    """Rows before each threshold; see `reference.count_closer`."""
    device, total = joint.device, joint.num_query
    steps = _Steps(device, thresholds.start, thresholds.distances, thresholds.places)
    screen = gpu_search.make_screen(joint, itself=False)
    limits = _keys_of(joint, screen, thresholds)
    for first, products in screen.blocks(scratch_bytes) if joint.num_gallery else ():
        if progress is not None:
            progress(first, total)
        keys = gpu_search.Keys(products, 0, joint.num_gallery, screen.offset, None, None)

        def of_rows(rows: slice, first: int = first) -> tuple[object, ...]:
            return np.int64(first + rows.start), steps.start, limits, np.float64(screen.window), steps.steps

        for part, _, rows, cols in gpu_search.pairs(device, "count_sure", keys, of_rows, scratch_bytes):
            values = joint.measure(rows, cols, first + part.start, joint.num_query)
            device.launch("count_measured", len(rows), rows, cols, values, np.int64(first + part.start), *steps.arguments)
    if progress is not None:
        progress(total, total)
    return steps.counts()


def _keys_of(joint: gpu_search.JointRows, screen: gpu_search.HalfScreen, thresholds: Thresholds) -> Array:
    """The exact key [M] float64 at which a row is as far as a threshold."""
    distances = thresholds.distances.astype(np.float64)
    squared = 2.0 * distances if joint.metric == "cosine" else distances**2
    rows = np.repeat(np.arange(joint.num_query), np.diff(thresholds.start))
    return put(joint.device, screen.unit**2 * squared - joint.device.get(screen.own)[rows], np.float64)


def ranks(device: Device, distances: NDArray[Any], truth: Truth) -> NDArray[np.int64] | None:
    """Places of the true matches; see `reference.ranks`."""
    xp, (num_query, columns) = device.xp, distances.shape
    rows = np.repeat(np.arange(num_query), np.diff(truth.match_start))
    limits = distances[rows, truth.matches].astype(np.float64)
    order = np.lexsort((truth.matches, limits, rows))
    steps = _Steps(device, truth.match_start, limits[order], truth.matches[order])
    junk = np.zeros(columns, np.uint8)
    junk[truth.junk] = 1
    hidden = put(device, junk, np.uint8), put(device, truth.hidden_start, np.int64), put(device, truth.hidden, np.int64)
    step = max(1, DEFAULT_SCRATCH // (_VALUE_BYTES * max(1, columns)))
    for first in range(0, num_query, step):
        block = put(device, distances[first : first + step], np.float64)
        if bool(xp.isnan(block).any()):
            return None
        where = np.int64(columns), np.int64(first)
        device.launch("count_before", block.size, block, *where, *hidden, *steps.arguments)
    return steps.counts() + 1
