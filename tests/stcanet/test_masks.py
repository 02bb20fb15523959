"""Part masks on disk: both layouts give the same map, and each kind of damage its own message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stcanet.config import PARTS
from stcanet.data.masks import MaskFolder, save_indexed
from stcanet_runtime.errors import DataError, ImageError, OptionError, ShapeError

NAME = "0002_c1s1_000451_03"


def save_reference(parts: np.ndarray, folder: Path) -> None:
    """Write parts [H, W] in the layout of the reference: a PNG of 0 and 255 for each part, and one for all of them."""
    folder.mkdir(parents=True)
    for name, mask in {**{name: parts == i for i, name in enumerate(PARTS, 1)}, "foreground": parts > 0}.items():
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{name}.png")


@pytest.fixture
def parts() -> np.ndarray:
    """[64, 32] with every value, in blocks of odd sizes."""
    parts = np.zeros((64, 32), np.uint8)
    parts[3:14, 9:22], parts[14:33, 5:27], parts[33:55, 8:24], parts[55:61, 7:25] = 1, 2, 3, 4
    return parts


@pytest.fixture(params=["indexed", "reference"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, parts: np.ndarray) -> Path:
    """A mask folder of one image, in each layout."""
    root = tmp_path / "masks"
    if request.param == "indexed":
        root.mkdir()
        save_indexed(parts, root / f"{NAME}.png")
    else:
        save_reference(parts, root / NAME)
    return root


@pytest.mark.parametrize("image", [f"bounding_box_train/{NAME}.jpg", f"{NAME}.png", Path("elsewhere") / NAME])
def test_what_was_written_is_read(folder: Path, parts: np.ndarray, image: str | Path) -> None:
    masks = MaskFolder(folder)
    assert masks.indexed == (folder / f"{NAME}.png").exists()
    masks.check([image])
    read = masks.read(image, 64, 32)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, parts)


@pytest.mark.parametrize("size", [(1, 1), (128, 64), (37, 19), (256, 128), (16, 8)])
def test_resizing_takes_the_nearest_pixel(folder: Path, parts: np.ndarray, size: tuple[int, int]) -> None:
    height, width = size
    rows = ((np.arange(height) + 0.5) * 64 / height).astype(int)
    columns = ((np.arange(width) + 0.5) * 32 / width).astype(int)
    np.testing.assert_array_equal(MaskFolder(folder).read(NAME, height, width), parts[rows][:, columns])


def test_no_size_is_an_error(folder: Path) -> None:
    with pytest.raises(OptionError, match="size"):
        MaskFolder(folder).read(NAME, 0, 32)


def test_where_grey_masks_overlap_the_stronger_one_wins(tmp_path: Path, parts: np.ndarray) -> None:
    save_reference(parts, tmp_path / NAME)
    grey = np.zeros((64, 32), np.uint8)
    grey[20, :] = 255  # as strong as the upper clothes: the upper part stays
    grey[14, :] = 200
    grey[0, :], grey[1, :] = 127, 128
    Image.fromarray(grey).save(tmp_path / NAME / "shoes.png")
    read = MaskFolder(tmp_path).read(NAME, 64, 32)
    assert (read[20, 5:27] == 2).all()
    assert (read[20, :5] == 4).all()
    assert (read[14, 5:27] == 2).all()
    assert (read[0] == 0).all()
    assert (read[1] == 4).all()


def test_an_image_without_a_mask_is_named_with_the_place(folder: Path) -> None:
    masks = MaskFolder(folder)
    with pytest.raises(DataError, match=r"0009\.jpg: there is no .*0009.*stcanet masks"):
        masks.read("train/0009.jpg", 64, 32)
    with pytest.raises(DataError, match=r"of 3 images, 2 have no part mask, first 0007\.jpg"):
        masks.check([f"{NAME}.jpg", "0007.jpg", "0009.jpg"])


def test_images_of_the_same_name_cannot_share_a_mask(folder: Path) -> None:
    masks = MaskFolder(folder)
    masks.check([f"a/{NAME}.jpg", f"a/{NAME}.jpg"])  # one image, twice in the list
    with pytest.raises(DataError, match=rf"a.{NAME}\.jpg and b.{NAME}\.jpg would share one part mask"):
        masks.check([f"a/{NAME}.jpg", f"b/{NAME}.jpg"])


@pytest.mark.parametrize("layout", ["indexed", "reference"])
def test_masks_without_any_part_teach_nothing(tmp_path: Path, parts: np.ndarray, layout: str) -> None:
    def save(stem: str, content: np.ndarray) -> None:
        save_indexed(content, tmp_path / f"{stem}.png") if layout == "indexed" else save_reference(content, tmp_path / stem)

    for stem in ("0001", "0002"):
        save(stem, np.zeros_like(parts))
    images = ["0001.jpg", "0002.jpg"]
    with pytest.raises(DataError, match=r"hold no parts: of 2 that were looked at all are background, first .*0001"):
        MaskFolder(tmp_path).check(images)
    save("0003", parts)
    MaskFolder(tmp_path).check([*images, "0003.jpg"])


@pytest.mark.parametrize("name", [*PARTS, "foreground"])
def test_all_five_files_of_the_reference_must_exist(tmp_path: Path, parts: np.ndarray, name: str) -> None:
    for stem in ("0001", "0002"):
        save_reference(parts, tmp_path / stem)
    (tmp_path / "0002" / f"{name}.png").unlink()
    masks = MaskFolder(tmp_path)
    masks.read("0001.jpg", 64, 32)
    with pytest.raises(DataError, match=rf"0002.{name}\.png"):
        masks.read("0002.jpg", 64, 32)
    with pytest.raises(DataError, match="of 2 images, 1 has no part mask"):
        masks.check(["0001.jpg", "0002.jpg"])


def test_a_map_of_other_labels_is_refused(tmp_path: Path, parts: np.ndarray) -> None:
    labels = parts.copy()
    labels[0, 0] = 18
    with pytest.raises(ShapeError, match="got 18"):
        save_indexed(labels, tmp_path / f"{NAME}.png")
    Image.fromarray(labels).save(tmp_path / f"{NAME}.png")
    with pytest.raises(DataError, match=r"holds the value 18.*0 \(background\) to 4"):
        MaskFolder(tmp_path).read(NAME, 64, 32)


def test_five_files_of_different_sizes_are_refused(tmp_path: Path, parts: np.ndarray) -> None:
    save_reference(parts, tmp_path / NAME)
    Image.new("L", (16, 64)).save(tmp_path / NAME / "shoes.png")
    with pytest.raises(DataError, match="64×16 and 64×32"):
        MaskFolder(tmp_path).read(NAME, 64, 32)


def test_masks_of_ones_in_the_reference_layout_are_refused(tmp_path: Path, parts: np.ndarray) -> None:
    save_reference(parts, tmp_path / NAME)
    for path in (tmp_path / NAME).iterdir():
        Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8)).save(path)
    with pytest.raises(DataError, match="nearly black"):
        MaskFolder(tmp_path).read(NAME, 64, 32)


@pytest.mark.parametrize("mode", ["RGB", "1", "I;16", "RGBA"])
def test_coloured_pictures_of_masks_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (32, 64)).save(tmp_path / f"{NAME}.png")
    with pytest.raises(ImageError, match="palette"):
        MaskFolder(tmp_path).read(NAME, 64, 32)


def test_a_damaged_or_disguised_file_is_an_image_error(tmp_path: Path, parts: np.ndarray) -> None:
    path = tmp_path / f"{NAME}.png"
    save_indexed(parts, path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ImageError, match=NAME):
        MaskFolder(tmp_path).read(NAME, 64, 32)
    Image.fromarray(parts).save(path, format="BMP")
    with pytest.raises(ImageError, match="PNG"):
        MaskFolder(tmp_path).read(NAME, 64, 32)


def test_a_folder_of_neither_or_both_layouts_is_refused(tmp_path: Path, parts: np.ndarray) -> None:
    with pytest.raises(DataError, match="no folder"):
        MaskFolder(tmp_path / "absent")
    (tmp_path / ".hidden.png").touch()
    (tmp_path / "notes").mkdir()
    with pytest.raises(DataError, match=r"no part masks: expected '<image stem>\.png'.*head\.png"):
        MaskFolder(tmp_path)
    save_indexed(parts, tmp_path / "0001.png")
    save_reference(parts, tmp_path / "0002")
    with pytest.raises(DataError, match="both layouts"):
        MaskFolder(tmp_path)
