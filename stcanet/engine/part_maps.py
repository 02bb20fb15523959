"""The part maps that a network draws over a few crops, kept from before training so that a report can show what changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stcanet.config.model import STAGES
from stcanet.data.datasets import Sample
from stcanet.model import Normalize, STCANet
from stcanet_runtime.errors import DataError
from stcanet_runtime.files import atomic_path
from stcanet_runtime.npz import read_npz
from stcanet_runtime.picking import pick_evenly
from stcanet_runtime.preprocess import load_image, resize

CROPS = 4
"""Crops whose maps are kept."""
_MOST_BYTES = 256 << 20
"""Of an array in a file: four parts of four crops of a megapixel have two of these MiB."""


@dataclass(frozen=True)
class PartMaps:
    """Part probabilities over n crops."""

    images: tuple[Path, ...]
    blocks: tuple[NDArray[np.float32], ...]
    """``[n, N, h, w]`` in 0..1 for each attention block: N parts."""

    def save(self, path: Path) -> None:
        """Write a ``.npz`` of plain arrays, atomically."""
        arrays: dict[str, Any] = {f"block{index}": maps.astype(np.float16) for index, maps in enumerate(self.blocks)}
        arrays["images"] = np.array([str(image) for image in self.images])
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **arrays)

    @classmethod
    def load(cls, path: Path) -> PartMaps:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: It is something else.
        """
        try:
            names = [f"block{index}" for index in range(len(STAGES))]
            arrays = read_npz(path, ("images", *names), _MOST_BYTES)
            images = tuple(Path(str(name)) for name in arrays["images"])
            found = names[: len(arrays) - 1]  # of a gap, one is a KeyError
            blocks = tuple(arrays[name].astype(np.float32) for name in found)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path} holds no part maps: {error}") from error
        if any(maps.ndim != 4 or len(maps) != len(images) for maps in blocks):
            raise DataError(f"{path} holds no part maps: they must be [crops, parts, h, w]")
        return cls(images, blocks)


@torch.inference_mode()
def part_maps(model: STCANet, images: Sequence[Path]) -> PartMaps:
    """The maps of a network over crops.

    Args:
        model: Of images or clips (each crop is then a clip of one frame); put into evaluation mode for the call.
        images: Files.
    """
    was_training, device = model.training, next(model.parameters()).device
    crops = np.stack([resize(load_image(image), model.config.height, model.config.width) for image in images])
    output = model.eval()(Normalize().to(device)(torch.from_numpy(crops).to(device)))
    model.train(was_training)
    return PartMaps(tuple(images), tuple(logits[:, 0].float().sigmoid().cpu().numpy() for logits in output.part_logits))


def record_part_maps(model: STCANet, samples: Sequence[Sample], path: Path) -> None:
    """Keep the maps over a few of the samples, once: the file of a run that goes on after an interruption stays."""
    if model.config.blocks and not path.exists():
        part_maps(model, pick_crops(samples)).save(path)


def pick_crops(samples: Sequence[Sample], count: int = CROPS) -> list[Path]:
    """Crops of `count` people, evenly picked; fewer where there are fewer samples."""
    return [sample.path for sample in pick_evenly(samples, count)]
