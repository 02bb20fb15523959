"""Random generators that depend on what is drawn, never on the order of drawing."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a generator is for; two streams never share random numbers."""

    PERSON = 1
    CAMERA = 2
    TRACK = 3
    IMAGE = 4
    STRANGER = 5


def generator(seed: int, stream: Stream, *keys: int) -> np.random.Generator:
    """A generator for one thing: ``generator(seed, Stream.IMAGE, pid, camera, index)``.

    Args:
        seed: Seed of the whole dataset, 0 or more.
        stream: What the numbers are for.
        keys: Which one of its kind; any 32-bit signed integers.

    Returns:
        A fresh generator, the same in every process, on every machine and in any order.
    """
    # SeedSequence takes no negative words, and junk images have the identity -1.
    words = tuple(key & 0xFFFFFFFF for key in keys)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(int(stream), *words))))
