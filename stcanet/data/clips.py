"""Which frames of a tracklet make a training clip. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stcanet.config import ClipConfig


def clip_frames(count: int, length: int, config: ClipConfig, seed: Sequence[int]) -> NDArray[np.int64]:
    """Draw the frames of one clip.

    * 'stride', as published: frames `stride` apart from a random start, where the tracklet has T·stride frames or more;
      a shorter one gives T distinct frames at random, in order.
    * 'random': T distinct frames at random, in order, however long the tracklet is.
    * A tracklet of fewer than T frames gives all of them, in order, again and again until T are reached: the padding of the
      evaluation. (Published is a draw with replacement, which may show one frame only.)

    Args:
        count: Frames L of the tracklet, at least 1.
        length: Frames T of a clip.
        config: Strategy and stride.
        seed: Decides.

    Returns:
        ``[T]`` indices in 0..L − 1.
    """
    if count <= length:
        return np.arange(length) % count
    rng = np.random.default_rng(seed)
    if config.sampling == "stride" and count >= length * config.stride:
        start = rng.integers(count - (length - 1) * config.stride)
        return start + config.stride * np.arange(length)
    return np.sort(rng.choice(count, length, replace=False))
