"""Reading folders of crops."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from stcanet_runtime import DataError, ImageError
from stcanet_runtime.images.crops import list_images, list_others, list_tracklets, parse_name
from stcanet_runtime.preprocess import load_image


def test_sorted_and_recursive_and_only_images(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "sub/c.jpeg", "sub/d.bmp", "note.txt", "Thumbs.db", "._a.png", ".cache/e.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)] == [
        "a.PNG",
        "b.jpg",
        "sub/c.jpeg",
        "sub/d.bmp",
    ]
    assert [path.name for path in list_others(tmp_path)] == ["Thumbs.db", "note.txt"]
    assert list_others(tmp_path / "note.txt") == []


def test_links_to_folders_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/1.jpg").touch()
    (tmp_path / "people").mkdir()
    for name in ("anna", "ben"):
        (tmp_path / "people" / name).symlink_to(tmp_path / "data")
    (tmp_path / "data/again").symlink_to(tmp_path / "people")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/2.jpg").touch()
    (tmp_path / "people/up").symlink_to("..")
    found = [path.relative_to(tmp_path / "people").as_posix() for path in list_images(tmp_path / "people")]
    assert found == ["anna/1.jpg", "ben/1.jpg"]


def test_a_link_to_itself_is_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for name in ("1.jpg", "folder"):
        (tmp_path / name).symlink_to(name)
    assert list_images(tmp_path) == [tmp_path / "1.jpg"]
    with pytest.raises(ImageError, match=r"1\.jpg: .*levels of symbolic links"):
        load_image(tmp_path / "1.jpg")


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "1.jpg").touch()
    original = os.scandir

    def scandir(path: Path) -> Any:
        if path.name == "locked":
            raise PermissionError(path)
        return original(path)

    monkeypatch.setattr("stcanet_runtime.images.crops.os.scandir", scandir)
    with pytest.raises(PermissionError):
        list_images(tmp_path)


def test_a_file_is_taken_whatever_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / "crop.dat"
    path.touch()
    assert list_images(str(path)) == [path]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images found"):
        list_images(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        list_images(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0001_c1s1_000004_00.jpg", (1, 0)),
        ("folder/1501_c6s4_001877_02.jpg", (1501, 5)),
        ("-1_c10s2_000004_00.png", (-1, 9)),
        ("0000_c123s1_000004_00.jpg", (0, 122)),
        ("0005_c2_f0046985.jpg", (5, 1)),
        ("7_c3.jpg", (7, 2)),
        ("0001_c0s1_000004_00.jpg", None),
        ("-2_c1s1_000004_00.jpg", None),
        ("0001_c1s1x_000004_00.jpg", None),
        ("0001c1.jpg", None),
        ("x0001_c1s1_0.jpg", None),
        ("١_c1.jpg", None),
        ("photo.jpg", None),
        ("20240101123045123456_c1.jpg", None),
    ],
)
def test_parse_name(name: str, expected: tuple[int, int] | None) -> None:
    assert parse_name(name) == expected
    assert parse_name(Path(name)) == expected


def test_a_tracklet_right_here_bears_the_name_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0001_c2" / "more").mkdir(parents=True)
    for name in ("a.png", "more/b.png"):
        (tmp_path / "0001_c2" / name).touch()
    monkeypatch.chdir(tmp_path / "0001_c2")
    here = Path.cwd()
    assert list_tracklets(".") == {here: [here / "a.png"], here / "more": [here / "more" / "b.png"]}
    monkeypatch.chdir("more")
    assert set(list_tracklets("..")) == {here, here / "more"}
