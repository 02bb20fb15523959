"""Readers on real people. The images are research-only and never part of this repository."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stcanet.data.datasets import load_dataset
from stcanet.data.datasets.check import check_dataset
from stcanet.data.masks import MaskFolder
from stcanet.data.masks.grouping import load_grouping
from stcanet.data.masks.labels import read_label_map, read_names
from stcanet.data.masks.making import make_masks
from stcanet_runtime.preprocess import load_image, resize

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif("STCANET_REAL_DATA" not in os.environ, reason="STCANET_REAL_DATA names no folder with real images"),
]


@pytest.fixture
def cuhk03() -> Path:
    return Path(os.environ["STCANET_REAL_DATA"]) / "cuhk03"


def test_counts_and_two_digit_cameras(cuhk03: Path) -> None:
    splits = load_dataset(cuhk03).describe()
    assert splits["train"] == {"samples": 7375, "images": 7375, "identities": 767, "cameras": 10}
    assert splits["query"]["images"] == 1400
    assert splits["gallery"]["images"] == 5322
    assert splits["query"]["identities"] == splits["gallery"]["identities"] == 700


def test_real_crops_are_resized_as_pillow_does(cuhk03: Path) -> None:
    for sample in load_dataset(cuhk03).query[:50]:
        with Image.open(sample.path) as image:
            expected = image.convert("RGB").resize((64, 128), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(resize(load_image(sample.path), 128, 64), np.asarray(expected))


def test_tracklets_in_the_layout_of_mars() -> None:
    caviar = Path(os.environ["STCANET_REAL_DATA"]) / "caviar"
    official, torchreid = load_dataset(caviar), load_dataset(f"mars:torchreid={caviar}")
    samples = {split: numbers["samples"] for split, numbers in official.describe().items()}
    assert samples == {"train": 50, "query": 25, "gallery": 72}
    assert len(torchreid.gallery) == 72 - 25
    assert {sample.camid for sample in official.query} == {0}
    assert check_dataset(official)[0].level == "warning"  # one image is there twice; nothing worse


def test_part_masks_of_clothing_photographs(tmp_path: Path) -> None:
    ccp = Path(os.environ["STCANET_REAL_DATA"]) / "ccp"
    recipe = Path(__file__).parents[2] / "recipes" / "masks/ccp.toml"
    with recipe.open("rb") as file:
        assert tomllib.load(file)["labels"] == read_names(ccp / "label_list.mat")
    sources = sorted((ccp / "labels").glob("*.mat"))
    assert make_masks(sources, read_label_map, load_grouping(recipe), tmp_path) == 40
    photos = sorted((ccp / "photos").glob("*.jpg"))
    masks = MaskFolder(tmp_path)
    masks.check(photos)
    # Everybody in these photographs stands upright: heads are above clothes, and shoes below.
    for photo in photos:
        rows = [np.flatnonzero(masks.read(photo, 256, 128) == part) // 128 for part in (1, 2, 4)]
        heights = [row.mean() for row in rows if len(row)]
        assert heights == sorted(heights)
