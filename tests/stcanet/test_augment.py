"""Augmentation of batches."""

from __future__ import annotations

import pytest
import torch

from stcanet.config import AugmentConfig
from stcanet.data.augment import Variation, draw_variation, vary
from stcanet_runtime.errors import OptionError

NOTHING = {"flip": 0.0, "pad": 0, "erase": 0.0}
ALL = {"flip": 0.5, "pad": 3, "erase": 0.5}


def channels_first(crops: torch.Tensor) -> torch.Tensor:
    """A stand-in for the normalisation, never 0."""
    return (crops.float() + 1.0).movedim(-1, -3)


def run(crops: torch.Tensor, seed: int = 0, erase_masks: bool = False, **settings: object) -> tuple[torch.Tensor, ...]:
    config = AugmentConfig(**{**NOTHING, **settings})
    variation = draw_variation(len(crops), crops.shape[-3:-1], config, torch.Generator().manual_seed(seed))
    images, masks = vary(crops, variation, channels_first, erase_masks)
    return (images,) if masks is None else (images, masks)


def random_crops(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def crops() -> torch.Tensor:
    return random_crops(64, 32, 16, 3)


@pytest.fixture
def masked() -> torch.Tensor:
    """Crops whose red channel, all of it, is their mask times 50."""
    crops = random_crops(64, 32, 16, 4)
    crops[..., 3] = crops[..., 3] % 4 + 1
    crops[..., 0] = crops[..., 3] * 50
    return crops


def test_nothing_changes_nothing(crops: torch.Tensor) -> None:
    (images,) = run(crops)
    assert torch.equal(images, channels_first(crops))
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_flip_mirrors_whole_images(crops: torch.Tensor) -> None:
    images = channels_first(crops)
    assert torch.equal(run(crops, flip=1.0)[0], images.flip(3))
    (mixed,) = run(crops, flip=0.5)
    flipped = [torch.equal(new, old.flip(2)) for new, old in zip(mixed, images, strict=True)]
    kept = [torch.equal(new, old) for new, old in zip(mixed, images, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert 16 < sum(flipped) < 48


def test_pad_crop_shifts_by_at_most_the_padding(crops: torch.Tensor) -> None:
    padded = torch.nn.functional.pad(channels_first(crops), (3, 3, 3, 3))
    offsets = set()
    for index, new in enumerate(run(crops, pad=3)[0]):
        places = [(y, x) for y in range(7) for x in range(7) if torch.equal(new, padded[index, :, y : y + 32, x : x + 16])]
        assert len(places) == 1
        offsets.add(places[0])
    assert {y for y, _ in offsets} == {x for _, x in offsets} == set(range(7))


def test_erasing_sets_one_rectangle_to_the_mean_in_all_channels(crops: torch.Tensor) -> None:
    for new, old in zip(run(crops, erase=1.0)[0], channels_first(crops), strict=True):
        erased = new == 0
        assert torch.equal(new[~erased], old[~erased])
        assert torch.equal(erased[0], erased[1])
        rows, columns = erased[0].any(dim=1), erased[0].any(dim=0)
        assert torch.equal(erased[0], rows[:, None] & columns[None, :])
        assert 0.01 < erased[0].float().mean() < 0.45


def test_a_rectangle_that_does_not_fit_is_drawn_again() -> None:
    config = AugmentConfig(erase=1.0, erase_area=(0.3, 0.4))
    drawn = draw_variation(2000, (32, 16), config, torch.Generator().manual_seed(0))
    tall, wide = drawn.tall, drawn.wide
    assert drawn.erased.all()
    assert ((tall < 32) & (wide < 16)).all()
    assert ((drawn.top >= 0) & (drawn.top + tall <= 32) & (drawn.left >= 0) & (drawn.left + wide <= 16)).all()
    # As asked for but for rounding to whole pixels; rectangles that were made to fit erased less.
    assert (((tall + 0.5) * (wide + 0.5)) >= 0.3 * 32 * 16).all()


def test_shapes_of_rectangles_are_drawn_evenly() -> None:
    """Between 0.3 and 1 / 0.3, not between their logarithms, and areas too; here every first try fits."""
    config = AugmentConfig(erase=1.0, erase_area=(0.1, 0.2))
    drawn = draw_variation(4000, (2560, 2560), config, torch.Generator().manual_seed(0))
    for values, low, high in ((drawn.tall / drawn.wide, 0.3, 1 / 0.3), (drawn.tall * drawn.wide / 2560**2, 0.1, 0.2)):
        places = (values - low) / (high - low)
        torch.testing.assert_close(places.quantile(torch.linspace(0, 1, 5)), torch.linspace(0, 1, 5), atol=0.03, rtol=0.0)


def test_where_no_rectangle_fits_nothing_is_erased(crops: torch.Tensor) -> None:
    settings = {"erase": 1.0, "erase_area": (0.9, 0.9), "erase_aspect": 1.0}  # a square in a portrait is too wide
    assert torch.equal(run(crops, **settings)[0], channels_first(crops))


def test_erasing_has_its_probability(crops: torch.Tensor) -> None:
    touched = (run(crops, erase=0.25)[0] == 0).flatten(1).any(dim=1).sum()
    assert 4 < touched < 30


def test_the_generator_decides(crops: torch.Tensor) -> None:
    assert torch.equal(run(crops, 1, **ALL)[0], run(crops, 1, **ALL)[0])
    assert not torch.equal(run(crops, 1, **ALL)[0], run(crops, 2, **ALL)[0])


def test_all_frames_of_a_clip_are_varied_alike() -> None:
    frame = random_crops(32, 1, 32, 16, 3)
    (clips,) = run(frame.expand(-1, 4, -1, -1, -1), **ALL)
    assert clips.shape == (32, 4, 3, 32, 16)
    assert torch.equal(clips, clips[:, :1].expand_as(clips))
    # As the first frames alone are varied, and clips not all in the same way.
    assert torch.equal(clips[:, 0], run(frame[:, 0], **ALL)[0])
    assert clips.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_frames_of_a_clip_stay_in_order() -> None:
    clips = random_crops(8, 4, 32, 16, 3)
    for frame in range(4):
        assert torch.equal(run(clips, **ALL)[0][:, frame], run(clips[:, frame], **ALL)[0])


def test_masks_move_with_the_image_and_stay_under_what_is_erased(masked: torch.Tensor) -> None:
    images, masks = run(masked, flip=0.5, pad=3)
    assert masks.dtype == torch.uint8
    assert torch.equal(images[:, 0], torch.where(masks > 0, masks * 50.0 + 1.0, 0.0))
    assert (masks == 0).any()  # background from outside of the image
    # Erasing comes last in the draws, so that the same seed moves the image in the same way.
    erased, kept = run(masked, flip=0.5, pad=3, erase=1.0)
    assert torch.equal(kept, masks)
    assert ((erased[:, 0] == 0) & (kept > 0)).flatten(1).any(dim=1).all()


def test_masks_can_be_erased_too(masked: torch.Tensor) -> None:
    images, masks = run(masked, erase_masks=True, **ALL)
    assert torch.equal(images[:, 0] == 0, masks == 0)


def test_a_part_of_a_batch_is_varied_as_within_it(crops: torch.Tensor) -> None:
    variation = draw_variation(64, (32, 16), AugmentConfig(**ALL), torch.Generator().manual_seed(7))
    whole, _ = vary(crops, variation, channels_first)
    part, _ = vary(crops[20:30], Variation(*(field[20:30] for field in variation)), channels_first)
    assert torch.equal(part, whole[20:30])


@pytest.mark.parametrize(
    "settings", [{"flip": 1.5}, {"erase": -0.1}, {"pad": -1}, {"erase_area": (0.5, 0.2)}, {"erase_aspect": 0.0}]
)
def test_settings_out_of_range(settings: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=next(iter(settings))):
        AugmentConfig(**settings)
