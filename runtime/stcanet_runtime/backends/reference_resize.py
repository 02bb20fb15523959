"""Boxes of a frame, cropped and resized one by one: what the kernels are held against, and what runs without them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.frame import Frame


def resize_boxes(
    frame: Frame,
    boxes: NDArray[np.int64],
    height: int,
    width: int,
    *,
    threads: int | None = None,  # noqa: ARG001  (Pillow has one)
) -> NDArray[np.uint8]:
    """Crop boxes out of a frame and resize them with `preprocess.resize`.

    Args:
        frame: The picture.
        boxes: ``[N, 4]`` of x1, y1, x2, y2; inside the frame, at least one pixel, the right and lower edge excluded.
        height: Rows of a crop.
        width: Columns of a crop.
        threads: Threads to use, where the backend has any; None leaves it to the environment.

    Returns:
        RGB crops ``[N, height, width, 3]``.
    """
    from stcanet_runtime.preprocess import resize  # Pillow, which searches do not need

    crops = np.empty((len(boxes), height, width, 3), np.uint8)
    for crop, box in zip(crops, boxes.tolist(), strict=True):
        crop[:] = resize(frame.crop(*box), height, width)
    return crops
