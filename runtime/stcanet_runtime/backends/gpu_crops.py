"""Crops of boxes on the GPU: a frame that is there stays there, and so do its crops. ``crops.cu`` does the work."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends import gpu_device
from stcanet_runtime.backends.frame import Frame
from stcanet_runtime.backends.gpu_arrays import as_given, put
from stcanet_runtime.backends.gpu_device import Array

_GROUP = 64  # boxes at a time: their weights and what lies between the passes are as many times the largest one's
_PIXELS = {"rgb": 0, "bgr": 1, "nv12": 2, "i420": 2}  # as in crops.cu


def resize_boxes(
    frame: Frame,
    boxes: NDArray[np.int64],
    height: int,
    width: int,
    *,
    threads: int | None = None,  # noqa: ARG001  (of the processor)
) -> NDArray[np.uint8]:
    """The bits of `reference.resize_boxes`; the device's where the planes of the frame are.

    Decoders have streams of their own, and threads of this program, too: all work on the device ends before the frame is read,
    and the crops are done when this returns.
    """
    device = gpu_device.device()
    with device.at(frame.planes[0]):
        device.finish()
        crops = device.xp.empty((len(boxes), height, width, 3), np.uint8)
        planes = [put(device, plane, np.uint8) for plane in frame.planes]
        picture = *(*planes, None, None)[:3], np.int32(frame.size[1]), np.int32(_PIXELS[frame.format])
        for start in range(0, len(boxes), _GROUP):
            group = slice(start, start + _GROUP)
            _resize(device, picture, boxes[group], crops[group])
        device.finish()
        result: NDArray[np.uint8] = as_given(device, frame.planes[0], crops)[0]
    return result


def _resize(device: gpu_device.Device, picture: tuple[Any, ...], boxes: NDArray[np.int64], crops: Array) -> None:
    xp, (count, height, width) = device.xp, crops.shape[:3]
    columns, rows = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    down_first = (rows > height) & (rows - height > 2 * (columns - width))  # the order of Pillow 13
    starts = np.concatenate([[0], np.cumsum(np.where(down_first, height * columns, rows * width))])
    edges = put(device, boxes, np.int32), np.int32(height), np.int32(width)
    stretch = max(1.0, rows.max() / height, columns.max() / width)
    room = 2 * math.ceil(2 * stretch) + 1
    outputs = count * (height + width)
    first, taps, values = (xp.empty(shape, np.int32) for shape in (outputs, outputs, (outputs, room)))
    device.launch("weigh_outputs", outputs, *edges, np.int32(room), first, taps, values)
    weights = first, taps, values, np.int32(room)
    order = put(device, down_first, np.uint8), put(device, starts, np.int64)
    passed = xp.empty((int(starts[-1]), 3), np.uint8)
    device.launch("first_pass", len(passed), *picture, *edges, *weights, *order, np.int32(count), passed)
    device.launch("second_pass", count * height * width, *edges, *weights, *order, passed, crops)
