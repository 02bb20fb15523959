"""Augmentation of batches."""

from __future__ import annotations

import pytest
import torch

from stcanet.config import AugmentConfig
from stcanet.data.augment import augment
from stcanet_runtime.errors import OptionError

NOTHING = {"flip": 0.0, "pad": 0, "erase": 0.0}


def run(images: torch.Tensor, seed: int = 0, **settings: object) -> torch.Tensor:
    return augment(images, AugmentConfig(**{**NOTHING, **settings}), torch.Generator().manual_seed(seed))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(64, 3, 32, 16, generator=torch.Generator().manual_seed(3)) + 1.0  # never 0


def test_nothing_changes_nothing(images: torch.Tensor) -> None:
    assert torch.equal(run(images), images)


def test_flip_mirrors_whole_images(images: torch.Tensor) -> None:
    assert torch.equal(run(images, flip=1.0), images.flip(3))
    mixed = run(images, flip=0.5)
    flipped = [torch.equal(new, old.flip(2)) for new, old in zip(mixed, images, strict=True)]
    kept = [torch.equal(new, old) for new, old in zip(mixed, images, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert 16 < sum(flipped) < 48


def test_pad_crop_shifts_by_at_most_the_padding(images: torch.Tensor) -> None:
    padded = torch.nn.functional.pad(images, (3, 3, 3, 3))
    offsets = set()
    for index, new in enumerate(run(images, pad=3)):
        places = [(y, x) for y in range(7) for x in range(7) if torch.equal(new, padded[index, :, y : y + 32, x : x + 16])]
        assert len(places) == 1
        offsets.add(places[0])
    assert {y for y, _ in offsets} == {x for _, x in offsets} == set(range(7))


def test_erasing_sets_one_rectangle_to_the_mean_in_all_channels(images: torch.Tensor) -> None:
    for new, old in zip(run(images, erase=1.0), images, strict=True):
        erased = new == 0
        assert torch.equal(new[~erased], old[~erased])
        assert torch.equal(erased[0], erased[1])
        rows, columns = erased[0].any(dim=1), erased[0].any(dim=0)
        assert torch.equal(erased[0], rows[:, None] & columns[None, :])
        assert 0.01 < erased[0].float().mean() < 0.45


def test_erasing_has_its_probability(images: torch.Tensor) -> None:
    touched = (run(images, erase=0.25) == 0).flatten(1).any(dim=1).sum()
    assert 4 < touched < 30


def test_the_generator_decides(images: torch.Tensor) -> None:
    config = {"flip": 0.5, "pad": 2, "erase": 0.5}
    assert torch.equal(run(images, 1, **config), run(images, 1, **config))
    assert not torch.equal(run(images, 1, **config), run(images, 2, **config))


@pytest.mark.parametrize(
    "settings", [{"flip": 1.5}, {"erase": -0.1}, {"pad": -1}, {"erase_area": (0.5, 0.2)}, {"erase_aspect": 0.0}]
)
def test_settings_out_of_range(settings: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=next(iter(settings))):
        AugmentConfig(**settings)
