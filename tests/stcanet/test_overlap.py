"""Intersection over union of part maps, against cases counted by hand."""

from __future__ import annotations

import math

import torch

from stcanet.engine.overlap import best_overlap, part_iou, part_overlap


def _logits(maps: torch.Tensor) -> torch.Tensor:
    """[B, T, N, h, w] booleans as logits."""
    return torch.where(maps, 4.0, -4.0)


def test_perfect_maps_have_iou_one_and_absent_parts_none() -> None:
    masks = torch.zeros(2, 8, 4, dtype=torch.uint8)
    masks[:, :2], masks[:, 2:5], masks[1, 5:] = 1, 2, 3
    maps = torch.stack([masks == part for part in (1, 2, 3, 4)], dim=1)[:, None]
    iou = part_iou(part_overlap([_logits(maps)], masks))
    assert iou.shape == (1, 4)
    assert iou[0, :3].tolist() == [1, 1, 1]
    assert math.isnan(iou[0, 3])
    assert torch.nanmean(iou) == 1


def test_counts_of_a_half_covered_part() -> None:
    masks = torch.zeros(1, 4, 2, dtype=torch.uint8)
    masks[0, :2] = 1  # four pixels
    maps = torch.zeros(1, 1, 2, 4, 2, dtype=torch.bool)
    maps[0, 0, 0, 1:3] = True  # four pixels, two of them right
    maps[0, 0, 1, 3, 0] = True  # a part that is not there
    overlap = part_overlap([_logits(maps)], masks)
    assert overlap.tolist() == [[[2, 6], [0, 1]]]
    torch.testing.assert_close(part_iou(overlap), torch.tensor([[1 / 3, 0.0]]))


def test_counts_add_up_over_batches_frames_and_blocks() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 5, (3, 2, 16, 8), generator=generator, dtype=torch.uint8)  # [B, T, H, W]
    blocks = [torch.randn(3, 2, 4, h, w, generator=generator) for h, w in ((8, 4), (16, 8))]
    whole = part_overlap(blocks, masks)
    assert whole.shape == (2, 4, 2)
    pieces = sum(part_overlap([block[i : i + 1] for block in blocks], masks[i : i + 1]) for i in range(3))
    torch.testing.assert_close(whole, pieces)
    # At full size nothing is resized, so that block can be counted plainly.
    inside, truth = blocks[1][:, :, 2] > 0, masks == 3
    assert whole[1, 2].tolist() == [int((inside & truth).sum()), int((inside | truth).sum())]


def test_small_maps_are_judged_at_the_size_of_the_mask() -> None:
    masks = torch.zeros(1, 8, 4, dtype=torch.uint8)
    masks[0, :4] = 1
    maps = torch.tensor([[True, True], [False, False]])[None, None, None]
    assert part_iou(part_overlap([_logits(maps)], masks)).tolist() == [[1.0]]


def test_maps_as_the_loss_wants_them_lie_where_the_masks_are() -> None:
    """Judged with other corners than the loss has, what is at an edge would be half a cell off: 0.75 here."""
    masks = torch.zeros(1, 64, 32, dtype=torch.uint8)
    masks[:, :3], masks[:, 61:] = 1, 2
    assert part_iou(best_overlap([(16, 8)], 2, masks)).tolist() == [[1.0, 1.0]]


def test_small_maps_cannot_show_small_parts() -> None:
    masks = torch.zeros(1, 64, 32, dtype=torch.uint8)
    masks[:, 20:30, 4:28], masks[:, 57:60, 9:12] = 1, 2
    large, small = part_iou(best_overlap([(64, 32), (4, 2)], 2, masks))
    assert large.tolist() == [1.0, 1.0]
    assert small[0] < 0.7
    assert small[1] == 0
