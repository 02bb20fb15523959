"""The crops that parity looks at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stcanet_export.parity import probes
from stcanet_runtime.errors import DataError, ImageError
from stcanet_runtime.preprocess import load_image


def test_procedural_crops_are_distinct_and_stay_the_same(tmp_path: Path) -> None:
    paths = probes.write_procedural(tmp_path, 64, 32)
    kept, crops = probes.read_distinct(paths, 64, 32)
    assert kept == paths
    assert len(paths) >= 12
    again = probes.procedural(64, 32)
    assert len({crop.shape for crop in again.values()}) >= 5
    assert all(np.array_equal(load_image(path), again[path.stem]) for path in paths)
    stripes = crops[[path.stem for path in paths].index("stripes")]
    assert stripes[0, :4, 0].tolist() == [0, 255, 0, 255]
    ramp, both = again["gradient"][:, 0, 0], again["red-blue"]
    assert (ramp == np.arange(64) * 255 // 63).all()
    assert (both[:, :, 0] == np.arange(32) * 255 // 31).all()
    assert (both[:, :, 2] == ramp[:, None]).all()
    assert sum(name.startswith("figure-") for name in again) == 6


def test_copies_prove_nothing(tmp_path: Path) -> None:
    for index in range(20):
        Image.new("RGB", (10, 20), (index % 7, 0, 0)).save(tmp_path / f"{index}.png")
    with pytest.raises(DataError, match="at least 8 distinct crops, got 7"):
        probes.read_distinct(sorted(tmp_path.iterdir()), 64, 32)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("text")
    with pytest.raises(ImageError, match=r"a\.jpg"):
        probes.read_distinct([tmp_path / "a.jpg"], 64, 32)


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 1), (16, 16), (17, 16), (1000, 16)])
def test_pick(count: int, expected: int) -> None:
    picked = probes.pick([f"{index:04d}.png" for index in range(count)])
    assert len(set(picked)) == len(picked) == expected
    if count:
        assert (picked[0].name, picked[-1].name) == ("0000.png", f"{count - 1:04d}.png")


def test_clips_have_different_frames() -> None:
    crops = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    clips = probes.make_clips(crops, 3)
    assert clips[:, :, 0, 0, 0].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 0], [4, 0, 1]]
