"""Images that are read while a model runs: which, when, and what becomes of errors."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stcanet_runtime import Encoder, ImageError
from stcanet_runtime.inference.reading import read_ahead

BATCHES = [{index: f"{index}.png" for index in range(first, first + 3)} for first in (0, 3, 6)]


def test_one_batch_is_read_while_another_is_in_use() -> None:
    begun: set[int] = set()
    three_at_a_time = threading.Barrier(3, timeout=20)

    def read(key: int, image: Any) -> np.ndarray:
        assert image == f"{key}.png"
        begun.add(key)
        three_at_a_time.wait()  # broken, and an error, where they are read one by one
        return np.full((1, 1, 3), key, np.uint8)

    for number, crops in enumerate(read_ahead(BATCHES, read)):
        assert [(key, crop.result()[0, 0, 0]) for key, crop in crops.items()] == [(key, key) for key in BATCHES[number]]
        assert max(begun) < 3 * (number + 2)


def test_after_an_error_the_rest_is_not_read() -> None:
    begun = []

    def read(key: int, image: Any) -> np.ndarray:
        begun.append(key)
        time.sleep(0.005)
        raise ImageError(image, "it is damaged")

    batches = read_ahead([dict.fromkeys(range(1000), "a.png")], read)
    with pytest.raises(ImageError, match="damaged"):
        next(batches)[0].result()
    batches.close()  # type: ignore[attr-defined]
    assert len(begun) < 1000


def test_files_are_read_by_several_threads_and_one_picture_by_one(
    package: Path, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, paths = Encoder.load(package, "cpu"), sorted(crops.iterdir())
    expected = np.concatenate([encoder.encode([path]) for path in paths])
    together = threading.Barrier(2, timeout=20)
    crop = encoder._crop
    monkeypatch.setattr(encoder, "_crop", lambda image, color: (together.wait(), crop(image, color))[1])
    np.testing.assert_array_equal(encoder.encode(paths, batch_size=2), expected)
    monkeypatch.undo()
    large = tmp_path / "large.png"  # so that it takes a while
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 600, 3), np.uint8)).save(large)
    with Image.open(large) as picture:
        rows = encoder.encode([picture] * 8)
    np.testing.assert_array_equal(rows, np.repeat(encoder.encode([large]), 8, axis=0))
