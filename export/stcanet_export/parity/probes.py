"""The crops that parity is checked on: image files, because that is what a deployment reads.

A single random tensor proves little: a graph that ignores its input, or one that mixes up its batch, passes it. These
are distinct, structured, of odd sizes, and some are hostile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from stcanet.data.synthetic import SynthConfig, list_shots, render
from stcanet_runtime.arrays import UInt8Array
from stcanet_runtime.errors import DataError
from stcanet_runtime.package.manifest import InputSpec
from stcanet_runtime.picking import pick_evenly
from stcanet_runtime.preprocess import load_image, resize

MAX_IMAGES = 16
"""Of the user's own images; more of them, evenly picked, only take longer."""
MIN_CROPS = 8
_FIGURES = 6
_SEED = 20_230


def procedural(height: int, width: int) -> dict[str, UInt8Array]:
    """Drawn crops by name, each RGB ``[any, any, 3]``; no real person is in them. Always the same ones.

    Args:
        height: Rows of the network's input.
        width: Columns of it. Patterns of one pixel have exactly that size, so that no resize takes them away.
    """
    rng = np.random.default_rng(_SEED)
    rows, columns = np.indices((height, width))
    grey = {
        "stripes": (columns % 2) * 255,
        "checkerboard": ((rows + columns) % 2) * 255,
        "gradient": rows * 255 // (height - 1),
    }
    crops = {
        "black": np.zeros((48, 24, 3), np.uint8),
        "white": np.full((90, 31, 3), 255, np.uint8),
        "noise": rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        "red-blue": np.stack([columns * 255 // (width - 1), rows * 0, rows * 255 // (height - 1)], -1).astype(np.uint8),
        "tall": rng.integers(0, 256, (300, 9, 3), dtype=np.uint8),
        "wide": rng.integers(0, 256, (5, 200, 3), dtype=np.uint8),
    }
    crops |= {name: np.repeat(pattern[:, :, None], 3, axis=2).astype(np.uint8) for name, pattern in grey.items()}
    return crops | _figures()


def _figures() -> dict[str, UInt8Array]:
    config = SynthConfig(identities=_FIGURES, test_identities=1, cameras=2, images_per_camera=2, seed=_SEED)
    # One each, by either camera in turn.
    shots = {shot.pid: shot for shot in list_shots(config) if shot.camera == shot.pid % 2}
    return {f"figure-{pid}": np.array(render(config, shot).image.convert("RGB")) for pid, shot in shots.items()}


def write_procedural(folder: Path, height: int, width: int) -> list[Path]:
    """The procedural crops as PNG files (lossless, so that the files are the crops).

    Returns:
        Their paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, crop in procedural(height, width).items():
        paths.append(folder / f"{name}.png")
        Image.fromarray(crop).save(paths[-1])
    return paths


def pick(images: Sequence[str | Path], limit: int = MAX_IMAGES) -> list[Path]:
    """At most `limit` of the images, evenly over the list."""
    return pick_evenly([Path(image) for image in images], limit)


def read_distinct(paths: Sequence[Path], height: int, width: int) -> tuple[list[Path], UInt8Array]:
    """Crops at the network's size; copies of one crop are left out, since they prove nothing twice.

    Returns:
        The paths that are kept, and their crops ``[N, height, width, 3]``.

    Raises:
        ImageError: A file is no image.
        DataError: Fewer than :data:`MIN_CROPS` distinct crops.
    """
    crops: dict[bytes, tuple[Path, UInt8Array]] = {}
    for path in paths:
        crop = resize(load_image(path), height, width)
        crops.setdefault(crop.tobytes(), (path, crop))
    if len(crops) < MIN_CROPS:
        raise DataError(f"parity needs at least {MIN_CROPS} distinct crops, got {len(crops)}")
    return [path for path, _ in crops.values()], np.stack([crop for _, crop in crops.values()])


def drawn_inputs(spec: InputSpec, images: Sequence[str | Path] = ()) -> UInt8Array:
    """The drawn crops, and at most :data:`MAX_IMAGES` image files, as :func:`as_inputs` gives them.

    Raises:
        ImageError: One of `images` is no image.
    """
    return as_inputs([*procedural(spec.height, spec.width).values(), *map(load_image, pick(images))], spec)


def as_inputs(crops: Iterable[UInt8Array], spec: InputSpec) -> UInt8Array:
    """Crops of any size as a network takes them: ``[N, H, W, 3]``, or clips of them ``[N, T, H, W, 3]``."""
    sized = np.stack([resize(crop, spec.height, spec.width) for crop in crops])
    return sized if spec.clip_length is None else make_clips(sized, spec.clip_length)


def make_clips(crops: UInt8Array, frames: int) -> UInt8Array:
    """Clips ``[N, T, H, W, 3]`` of `crops` ``[N, H, W, 3]``: clip i has the crops i, i + 1, … so that its frames differ."""
    index = (np.arange(len(crops))[:, None] + np.arange(frames)[None, :]) % len(crops)
    return np.asarray(crops[index])
