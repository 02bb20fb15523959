"""Augmentation of whole batches, on the training device, from one generator: flip, pad-and-crop, random erasing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stcanet.config import AugmentConfig

_ERASE_TRIES = 100


class Variation(NamedTuple):
    """How each image or clip of a batch is varied; drawn apart from them, so that a batch can be skipped or shared out.

    Each field is ``[B]``, on the CPU: so few numbers that moving them costs nothing.
    """

    flipped: Tensor
    """Whether left and right change places."""
    down: Tensor
    """Row r shows what was in row r + down."""
    right: Tensor
    """Column c shows what was in column c + right; of a flipped image, in its flipped column."""
    erased: Tensor
    """Whether a rectangle is erased: the next four."""
    top: Tensor
    left: Tensor
    tall: Tensor
    wide: Tensor


def draw_variation(count: int, size: Sequence[int], config: AugmentConfig, generator: torch.Generator) -> Variation:
    """Draw how `count` images or clips of `size` (height, width) are varied.

    Takes the same numbers from `generator` whatever the settings. It is a CPU generator, so that every device sees the same.

    A rectangle that is as tall or as wide as the image is drawn again, up to 100 times, after which nothing is erased (random
    erasing, Zhong et al., 2020). Making it fit instead would erase less, and often a whole row or column less one pixel.
    """
    height, width = size

    def uniform(low: float = 0.0, high: float = 1.0, tries: int = 1) -> Tensor:
        return torch.rand(tries, count, generator=generator).mul(high - low).add(low).squeeze(0)

    def offset(room: Tensor) -> Tensor:
        return (uniform() * (room + 1)).long().clamp(max=room)

    flipped = uniform() < config.flip
    room = torch.full((count,), 2 * config.pad)
    down, right = offset(room) - config.pad, offset(room) - config.pad
    # All tries at once, [100, B]: the first that fits is taken, and how many were needed moves no later number.
    area = uniform(*config.erase_area, tries=_ERASE_TRIES) * (height * width)
    aspect = uniform(config.erase_aspect, 1.0 / config.erase_aspect, tries=_ERASE_TRIES)
    tall = (area * aspect).sqrt().round().long().clamp(min=1)
    wide = (area / aspect).sqrt().round().long().clamp(min=1)
    fits = (tall < height) & (wide < width)
    first = fits.int().argmax(dim=0, keepdim=True)
    tall, wide = tall.gather(0, first)[0], wide.gather(0, first)[0]
    top, left = offset(height - tall), offset(width - wide)
    return Variation(flipped, down, right, (uniform() < config.erase) & fits.any(dim=0), top, left, tall, wide)


def vary(
    crops: Tensor, variation: Variation, normalize: Callable[[Tensor], Tensor], erase_masks: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Move the pixels of a batch as drawn, normalise, and erase. All frames of a clip are varied alike.

    Departs from the reference in two ways: it pads and crops, and it erases to the normalised mean (0), where the
    reference writes un-normalised constants into normalised images.

    Args:
        crops: uint8 ``[B, H, W, C]`` or ``[B, T, H, W, C]``: RGB, then part numbers if C is 4. The masks move with the images.
        variation: From :func:`draw_variation`, for B.
        normalize: From uint8 ``[…, H, W, 3]`` to float ``[…, 3, H, W]``.
        erase_masks: Whether masks become background where the image is erased. The reference keeps them, so that the network
            has to guess the parts that it does not see. Outside of the image there always is background.

    Returns:
        Images ``[B, (T,) 3, H, W]``, channels last in memory, and masks uint8 ``[B, (T,) H, W]``, None where there are none.
    """
    frames = crops.shape[1] if crops.dim() == 5 else 1
    fields = torch.stack([field.long() for field in variation]).repeat_interleave(frames, dim=1)
    each = Variation(*fields.to(crops.device, non_blocking=True))  # [B·T]
    height, width, channels = crops.shape[-3:]
    source, outside = _sources(each, height, width)
    moved = crops.reshape(-1, channels).index_select(0, source.flatten()).view(-1, height, width, channels)
    erased = _rectangles(each, height, width)
    images = normalize(moved[..., :3]).masked_fill_((outside | erased)[:, None], 0.0)
    masks = moved[..., 3].masked_fill(outside | erased if erase_masks else outside, 0) if channels > 3 else None
    return images.view(*crops.shape[:-3], 3, height, width), None if masks is None else masks.view(crops.shape[:-1])


def _sources(variation: Variation, height: int, width: int) -> tuple[Tensor, Tensor]:
    """``[N, H, W]``: number of the pixel, of all pixels of the batch, that goes to each place; and where there is none."""
    device = variation.down.device
    rows = torch.arange(height, device=device) + variation.down[:, None]
    columns = torch.arange(width, device=device).expand(len(rows), -1)
    # A flipped row of columns shifts the other way, which is just as random.
    columns = torch.where(variation.flipped[:, None] > 0, columns.flip(1), columns) + variation.right[:, None]
    outside = ((rows < 0) | (rows >= height))[:, :, None] | ((columns < 0) | (columns >= width))[:, None, :]
    lines = torch.arange(len(rows), device=device)[:, None] * height + rows.clamp(0, height - 1)
    return lines[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :], outside


def _rectangles(variation: Variation, height: int, width: int) -> Tensor:
    """Boolean ``[N, H, W]``, true where an image is erased."""
    down = _span(variation.top, variation.tall * variation.erased, height)
    across = _span(variation.left, variation.wide, width)
    return down[:, :, None] & across[:, None, :]


def _span(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Boolean ``[N, size]``, true from `start` for `length` places."""
    places = torch.arange(size, device=start.device)
    return (places >= start[:, None]) & (places < (start + length)[:, None])
