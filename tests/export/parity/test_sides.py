"""Models of clips where single images are compared."""

from __future__ import annotations

import numpy as np
import pytest

from stcanet_export.parity.sides import as_images
from stcanet_runtime.arrays import Float32Array, UInt8Array
from stcanet_runtime.package.manifest import CLIPS, IMAGES, InputSpec


class Brightness:
    """A side whose embedding is the mean of the pixels of all frames, and whose part maps are those of each frame."""

    dim = 1

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec

    def embed(self, batch: UInt8Array) -> tuple[Float32Array, None]:
        return batch.mean(axis=tuple(range(1, batch.ndim)), dtype=np.float32)[:, None], None

    def part_maps(self, batch: UInt8Array) -> tuple[Float32Array, ...]:
        return (np.moveaxis(batch, -1, -3).astype(np.float32),)


@pytest.mark.parametrize(("frames", "dynamic"), [(1, False), (4, True)])
def test_clips_of_one_frame_are_images(frames: int, dynamic: bool) -> None:
    side = as_images(Brightness(InputSpec(CLIPS, 2, 4, clip_length=frames, dynamic_time=dynamic)))
    assert side.spec == InputSpec(IMAGES, 2, 4)
    batch = np.arange(3 * 2 * 4 * 3, dtype=np.uint8).reshape(3, 2, 4, 3)
    assert np.array_equal(side.embed(batch)[0][:, 0], batch.mean(axis=(1, 2, 3)))
    (maps,) = side.part_maps(batch)
    assert np.array_equal(maps, batch.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("spec", [InputSpec(IMAGES, 2, 4), InputSpec(CLIPS, 2, 4, clip_length=4)])
def test_other_sides_stay(spec: InputSpec) -> None:
    side = Brightness(spec)
    assert as_images(side) is side
