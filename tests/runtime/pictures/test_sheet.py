"""The ranked-list picture: looked at by its pixels, since it is for eyes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stcanet_runtime import ImageError, Match, ShapeError, SheetRow, ranked_sheet
from stcanet_runtime.pictures.sheet import _QUERY, _RIGHT, _UNKNOWN, _WRONG, _digits

MakeCrop = Callable[..., NDArray[np.uint8]]


def pixels(path: Path, color: tuple[int, int, int]) -> int:
    return int((np.asarray(Image.open(path)) == color).all(axis=2).sum())


def sheet(out: Path, crop: NDArray[np.uint8], *verdicts: bool | None) -> Path:
    matches = [Match(crop, 0.1 * i, verdict, f"id {i}") for i, verdict in enumerate(verdicts)]
    ranked_sheet([SheetRow(crop, matches, "id 1")], out)
    return out


def test_frames_say_right_wrong_and_unknown(tmp_path: Path) -> None:
    crop = np.full((20, 10, 3), 90, np.uint8)
    right = sheet(tmp_path / "right.png", crop, True, True, True)
    assert pixels(right, _QUERY) > 1000
    assert pixels(right, _RIGHT) > 3000
    assert pixels(right, _WRONG) < 200  # the legend only
    wrong = sheet(tmp_path / "wrong.png", crop, False, False, False)
    assert pixels(wrong, _WRONG) > 3000
    assert pixels(wrong, _RIGHT) < 200
    unknown = sheet(tmp_path / "unknown.png", crop, None, None)
    assert pixels(unknown, _UNKNOWN) > 2000
    assert pixels(unknown, _RIGHT) == pixels(unknown, _WRONG) == 0


def test_the_legend_has_every_colour_that_is_there(tmp_path: Path) -> None:
    crop = np.full((20, 10, 3), 90, np.uint8)
    for name, verdicts in (("known", (True, False)), ("mixed", (True, None))):
        sheet(tmp_path / f"{name}.png", crop, *verdicts)
        legend = np.asarray(Image.open(tmp_path / f"{name}.png"))[:60]
        assert (legend == _UNKNOWN).all(axis=2).any() == (None in verdicts)


def test_distances_are_told_apart() -> None:
    shown = {1.25: "1.250", 0.01: "0.010", 0.002341: "0.00234", 3.21e-7: "3.21e-07", 0.0: "0.000"}
    assert {distance: _digits(distance) for distance in shown} == shown


def test_the_crops_are_on_it(tmp_path: Path) -> None:
    red = np.zeros((20, 10, 3), np.uint8)
    red[:, :, 0] = 255
    assert pixels(sheet(tmp_path / "a.png", red, None), (255, 0, 0)) == 2 * 96 * 192


def test_lists_of_different_length_and_none(tmp_path: Path, make_crop: MakeCrop) -> None:
    crop = make_crop()
    rows = [SheetRow(crop, [Match(crop, 0.5)] * count, "x" * 200) for count in (3, 0, 1)]
    ranked_sheet(rows, tmp_path / "sheet.png", "A title", "and more")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width < 1000


def test_more_rows_make_it_higher_and_more_matches_wider(tmp_path: Path, make_crop: MakeCrop) -> None:
    def size(rows: int, matches: int) -> tuple[int, int]:
        crop = make_crop()
        ranked_sheet([SheetRow(crop, [Match(crop, 0.5)] * matches)] * rows, tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as image:
            return image.size

    assert size(2, 6)[1] > size(1, 6)[1]
    assert size(1, 10)[0] > size(1, 6)[0]


def test_errors_leave_no_file(tmp_path: Path, make_crop: MakeCrop) -> None:
    with pytest.raises(ShapeError, match="at least one row"):
        ranked_sheet([], tmp_path / "sheet.png")
    with pytest.raises(ImageError, match="no such file"):
        ranked_sheet([SheetRow(make_crop(), [Match(tmp_path / "gone.jpg", 0.5)])], tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())
