"""Readers on real people. The images are research-only and never part of this repository."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stcanet.data.datasets import load_dataset
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
    assert splits["train"] == {"images": 7375, "identities": 767, "cameras": 10}
    assert splits["query"]["images"] == 1400
    assert splits["gallery"]["images"] == 5322
    assert splits["query"]["identities"] == splits["gallery"]["identities"] == 700


def test_real_crops_are_resized_as_pillow_does(cuhk03: Path) -> None:
    for sample in load_dataset(cuhk03).query[:50]:
        with Image.open(sample.path) as image:
            expected = image.convert("RGB").resize((64, 128), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(resize(load_image(sample.path), 128, 64), np.asarray(expected))
