"""Augmentation of whole batches, on the device, from one generator: flip, pad-and-crop, random erasing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stcanet.config import AugmentConfig


class Variation(NamedTuple):
    """How the images of a batch are varied; drawn apart from the images, so that a batch can be skipped or shared out."""

    source: Tensor
    """``[B, H·W]``: which pixel goes to each place."""
    hidden: Tensor
    """``[B, H, W]`` boolean: places that become 0, outside of the image or erased."""


def augment(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Vary each image of a batch independently: :func:`draw_variation`, then :func:`vary`.

    Departs from the reference in two ways: it adds pad-and-crop, and it erases to the normalised mean (0), where the
    reference writes un-normalised constants into normalised images.

    Args:
        images: Normalised ``[B, 3, H, W]``.
        config: Strengths.
        generator: A CPU generator. Random numbers are drawn on the CPU, so that every device sees the same ones.

    Returns:
        ``[B, 3, H, W]``, a new tensor.
    """
    return vary(images, draw_variation(len(images), images.shape[2:], config, generator))


def draw_variation(count: int, size: Sequence[int], config: AugmentConfig, generator: torch.Generator) -> Variation:
    """Draw how `count` images of `size` (height, width) are varied; takes the same numbers from `generator` every time."""
    height, width = size

    def uniform(low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(count, generator=generator).mul(high - low).add(low)

    def offset(room: Tensor) -> Tensor:
        return (uniform() * (room + 1)).long().clamp(max=room)

    rows = torch.arange(height).expand(count, -1)
    columns = torch.arange(width).expand(count, -1)
    columns = torch.where(uniform()[:, None] < config.flip, columns.flip(1), columns)
    room = torch.full((count,), 2 * config.pad)
    rows = rows + (offset(room) - config.pad)[:, None]
    # A flipped row of columns shifts the other way, which is just as random.
    columns = columns + (offset(room) - config.pad)[:, None]
    hidden = ((rows < 0) | (rows >= height))[:, :, None] | ((columns < 0) | (columns >= width))[:, None, :]

    area = uniform(*config.erase_area) * (height * width)
    aspect = uniform(config.erase_aspect, 1.0 / config.erase_aspect)
    tall = (area * aspect).sqrt().round().long().clamp(1, height - 1)
    wide = (area / aspect).sqrt().round().long().clamp(1, width - 1)
    erased = _span(tall, offset(height - tall), height)[:, :, None] & _span(wide, offset(width - wide), width)[:, None, :]
    hidden = hidden | (erased & (uniform() < config.erase)[:, None, None])

    flat = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]  # [B, H, W]
    return Variation(flat.flatten(1), hidden)


def vary(images: Tensor, variation: Variation) -> Tensor:
    """Normalised images ``[B, 3, H, W]`` varied, on their device, as drawn."""
    source = variation.source[:, None].expand(-1, 3, -1).to(images.device)
    moved = images.flatten(2).gather(2, source).view(images.shape)
    return moved.masked_fill(variation.hidden[:, None].to(images.device), 0.0)


def _span(length: Tensor, start: Tensor, size: int) -> Tensor:
    """Boolean ``[B, size]``, true from `start` for `length` places."""
    places = torch.arange(size)
    return (places >= start[:, None]) & (places < (start + length)[:, None])
