"""Decoding and resizing: bit-identical to Pillow, and safe on files from strangers."""

from __future__ import annotations

import hashlib
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from stcanet_runtime import ImageError, OptionError, ShapeError, load_image, resize
from stcanet_runtime.preprocess import MAX_PIXELS

MakeCrop = Callable[..., NDArray[np.uint8]]


def pattern(height: int, width: int) -> NDArray[np.uint8]:
    """A picture from arithmetic alone: the same on every machine, whatever its random numbers are."""
    y, x = np.mgrid[:height, :width].astype(np.int64)
    return np.stack([(7 * x + 3 * y) % 256, (x * y) % 251, (x * x + 5 * y) % 241], axis=2).astype(np.uint8)


def test_png_comes_back_bit_for_bit(tmp_path: Path, make_crop: MakeCrop) -> None:
    crop = make_crop()
    Image.fromarray(crop).save(tmp_path / "crop.png")
    loaded = load_image(tmp_path / "crop.png")
    assert_array_equal(loaded, crop)
    assert loaded.flags.c_contiguous
    assert loaded.flags.writeable
    assert_array_equal(load_image(str(tmp_path / "crop.png")), crop)
    assert_array_equal(load_image(Image.fromarray(crop)), crop)


def test_bgr_is_reversed_and_rgb_is_not(make_crop: MakeCrop) -> None:
    crop = make_crop()
    assert_array_equal(load_image(crop, "rgb"), crop)
    assert_array_equal(load_image(crop[:, :, ::-1], "bgr"), crop)
    assert load_image(crop, "rgb") is not crop


def test_color_of_an_array_is_never_guessed(make_crop: MakeCrop) -> None:
    with pytest.raises(OptionError, match="color must be 'rgb' or 'bgr' for arrays"):
        load_image(make_crop())
    with pytest.raises(OptionError, match="'rgb' or 'bgr', got 'gbr'"):
        load_image(make_crop(), "gbr")


def test_bgr_contradicts_a_file_and_a_pil_image(tmp_path: Path, make_crop: MakeCrop) -> None:
    image = Image.fromarray(make_crop())
    image.save(tmp_path / "crop.png")
    for source in (tmp_path / "crop.png", image):
        with pytest.raises(OptionError, match="left out for files and PIL images"):
            load_image(source, "bgr")
        load_image(source, "rgb")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_other_modes_become_rgb(mode: str, make_crop: MakeCrop) -> None:
    image = Image.fromarray(make_crop()).convert(mode)
    assert_array_equal(load_image(image), np.asarray(image.convert("RGB")))


def test_a_palette_with_alpha_is_what_its_colours_are(tmp_path: Path, make_crop: MakeCrop) -> None:
    image = Image.fromarray(make_crop()).convert("P", palette=Image.Palette.ADAPTIVE)
    image.save(tmp_path / "crop.png", transparency=bytes(range(256)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_array_equal(load_image(tmp_path / "crop.png"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("maximum", [65535, 1023])
def test_colours_of_16_bits_are_reduced_and_grey_is_refused(tmp_path: Path, maximum: int) -> None:
    values = (np.arange(12) * (maximum // 11)).astype(">u2")
    for kind, shape in (("P6", "2 2"), ("P5", "4 3")):
        (tmp_path / f"{kind}.ppm").write_bytes(f"{kind} {shape} {maximum}\n".encode() + values.tobytes())
    assert_array_equal(load_image(tmp_path / "P6.ppm").ravel(), np.rint(values / maximum * 255))
    with pytest.raises(ImageError, match="not 8 bits per channel"):
        load_image(tmp_path / "P5.ppm")


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_modes_are_refused_because_pillow_would_clip_them(mode: str) -> None:
    with pytest.raises(ImageError, match="not 8 bits per channel"):
        load_image(Image.new(mode, (4, 4)))


def test_exif_orientation_is_not_applied(tmp_path: Path, make_crop: MakeCrop) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(make_crop()).save(tmp_path / "crop.png", exif=exif)
    assert load_image(tmp_path / "crop.png").shape == (40, 20, 3)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
def test_arrays_of_another_shape_or_type(array: NDArray[np.uint8]) -> None:
    with pytest.raises(ShapeError, match=r"uint8 \[H, W, 3\]|at least one pixel"):
        load_image(array, "rgb")


def test_truncated_jpeg(tmp_path: Path, make_crop: MakeCrop) -> None:
    path = tmp_path / "crop.jpg"
    Image.fromarray(make_crop(height=200, width=100)).save(path)
    whole = path.read_bytes()
    for share in (0.9, 0.5, 0.1):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ImageError, match=r"crop\.jpg") as caught:
            load_image(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(whole[: len(whole) // 2])
    with Image.open(path) as lazy, pytest.raises(ImageError, match=r"given as a PIL image: .*truncated"):
        load_image(lazy)


def test_text_named_jpg(tmp_path: Path) -> None:
    path = tmp_path / "crop.jpg"
    path.write_text("this is not a picture")
    with pytest.raises(ImageError, match=r"crop\.jpg: not an image of a known format") as caught:
        load_image(path)
    assert caught.value.source == path


def test_postscript_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "crop.jpg"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(ImageError, match="not an image of a known format"):
        load_image(path)


def test_empty_missing_and_folder(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    for name, reason in (("empty.png", "known format"), ("none.png", "no such file"), (".", "directory")):
        with pytest.raises(ImageError, match=reason):
            load_image(tmp_path / name)


def test_path_with_a_null_byte() -> None:
    with pytest.raises(ImageError, match="null"):
        load_image("a\0b.png")


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that promises any number of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("width", [MAX_PIXELS // 1000 + 1, 100_000, 1_000_000])
def test_decompression_bomb(tmp_path: Path, width: int) -> None:
    # Above our limit only; where Pillow warns; where Pillow refuses.
    (tmp_path / "bomb.png").write_bytes(bomb(width, 1000))
    with pytest.raises(ImageError, match=rf"{MAX_PIXELS} pixels"):
        load_image(tmp_path / "bomb.png")


def test_something_else_entirely() -> None:
    with pytest.raises(ImageError, match="expected a path"):
        load_image(3)  # type: ignore[arg-type]


@settings(max_examples=200)
@given(st.data())
def test_damaged_files_raise_image_errors_only(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = Path(os.fspath(tmp_path_factory.getbasetemp())) / "damaged"
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "BMP", "WEBP", "TIFF"]))
    Image.fromarray(pattern(24, 12)).save(path, kind)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        image = load_image(path)
    except ImageError as error:
        assert "\n" not in str(error)  # noqa: PT017  (the point is that nothing else comes out)
    else:
        assert image.dtype == np.uint8


@settings(max_examples=60)
@given(*(st.integers(1, 70) for _ in range(4)))
def test_resize_is_pillow_bicubic_bit_for_bit(height: int, width: int, new_height: int, new_width: int) -> None:
    crop = pattern(height, width)
    expected = np.asarray(Image.fromarray(crop).resize((new_width, new_height), Image.Resampling.BICUBIC))
    resized = resize(crop, new_height, new_width)
    assert_array_equal(resized, expected)
    assert resized.shape == (new_height, new_width, 3)


@pytest.mark.parametrize(
    ("size", "digest"),
    [((128, 64), "e1a94ff1106f213e"), ((256, 128), "09afd636b5b2f29d")],
)
def test_resize_golden(size: tuple[int, int], digest: str) -> None:
    """Pins the bytes: another Pillow, filter or order of axes that changes them changes every embedding."""
    assert hashlib.sha256(resize(pattern(161, 67), *size).tobytes()).hexdigest()[:16] == digest


def test_resize_antialiases() -> None:
    # A checkerboard of single pixels, four times smaller, is grey; filters that skip pixels give black and white.
    board = np.repeat((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    assert np.ptp(resize(board, 16, 16).astype(int)[2:-2, 2:-2]) <= 2


def test_resize_takes_views_and_refuses_nonsense(make_crop: MakeCrop) -> None:
    crop = make_crop()
    assert_array_equal(resize(crop[::2, ::-1], 8, 8), resize(crop[::2, ::-1].copy(), 8, 8))
    with pytest.raises(OptionError, match="size must be at least 1 pixel"):
        resize(crop, 0, 8)
    with pytest.raises(ShapeError):
        resize(crop.astype(np.float32), 8, 8)
