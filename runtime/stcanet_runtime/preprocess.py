"""The only decoding, the only resize and the only normalisation constants of the project.

Training, export, parity and deployment all call these functions. A second resize somewhere is a bug: Pillow's bicubic is
antialiased and others are not, and features differ by more than any quantisation would.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stcanet_runtime.arrays import UInt8Array
from stcanet_runtime.errors import ImageError, OptionError, ShapeError, StcanetError
from stcanet_runtime.wording import one_line

Color = Literal["rgb", "bgr"]
"""Channel order of an array. It cannot be seen in the values, so it is stated, never guessed."""

ImageSource = str | Path | Image.Image | UInt8Array
"""What :func:`load_image` takes."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of RGB in 0..1. Exported models carry it in the graph, or in their manifest."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of RGB in 0..1."""

MAX_PIXELS = 50_000_000
"""Larger files are refused before they are decoded: a crop of a person is never that large, a decompression bomb is."""

FORMATS = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm",),
}
"""Pillow formats that are opened, with their suffixes. A short list: some of Pillow's other readers start programs."""

_MODES_8_BIT = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})


def load_image(source: ImageSource, color: str | None = None) -> UInt8Array:
    """Decode one image.

    Grey, palette and CMYK images become RGB, an alpha channel is dropped, EXIF orientation is not applied (crops are
    stored upright; a data set must not depend on who wrote the tag).

    Args:
        source: A file, a PIL image, or an array ``[H, W, 3]`` of uint8.
        color: Channel order of an array, "rgb" or "bgr"; needed there. Files and PIL images know theirs, so only
            None and "rgb" are accepted with them.

    Returns:
        RGB, uint8, ``[H, W, 3]``, contiguous, the caller's own copy.

    Raises:
        ImageError: The file is missing, no image, truncated, too large, or not 8 bits per channel. Colours of 16 bits are no
            error: Pillow reduces them to 8 as it reads a PNG, TIFF or PPM. Grey of 16 bits it would clip.
        OptionError: `color` is missing for an array, unknown, or contradicts the source.
        ShapeError: The array is not ``[H, W, 3]`` of uint8 with at least one pixel.
    """
    if color not in (None, "rgb", "bgr"):
        raise OptionError("color", color, "'rgb' or 'bgr'")
    if isinstance(source, np.ndarray):
        return _from_array(source, color)
    if color == "bgr":
        raise OptionError("color", color, "left out for files and PIL images: their channel order is known")
    if isinstance(source, Image.Image):
        with _explained("given as a PIL image"):  # Pillow decodes when it has to
            return _to_rgb(source, "given as a PIL image")
    if isinstance(source, (str, Path)):
        with open_image(Path(source)) as image:
            return _to_rgb(image, source)
    raise ImageError(f"of type {type(source).__name__}", "expected a path, a PIL image or a uint8 array [H, W, 3]")


@contextmanager
def placed(place: str) -> Iterator[None]:
    """Errors of `load_image` about an array or a PIL image, which have no name, say which one of a list it was."""
    try:
        yield
    except ShapeError as error:
        raise ShapeError(f"{place}: {error}") from None
    except ImageError as error:
        if isinstance(error.source, Path):
            raise
        raise ImageError(f"{place}, {error.source}", error.reason) from error


def resize(image: UInt8Array, height: int, width: int) -> UInt8Array:
    """Resize with Pillow's antialiased bicubic filter; the aspect ratio is not kept.

    The passes down and across are made one by one, in the order of Pillow 13, with any Pillow: earlier versions went across
    first, and since each pass rounds to bytes, the order shows (by 20 of 255 on noise).

    Args:
        image: ``[H, W, 3]``, uint8.
        height: Rows of the result, at least 1.
        width: Columns of the result, at least 1.

    Returns:
        ``[height, width, 3]``, uint8, bit-identical to ``Image.resize((width, height), BICUBIC)`` of Pillow 13.
    """
    if height < 1 or width < 1:
        raise OptionError("size", (height, width), "at least 1 pixel high and wide")
    _check_array(image)
    lost_rows, lost_columns = image.shape[0] - height, image.shape[1] - width
    down_first = lost_rows > max(0, 2 * lost_columns)
    middle = (image.shape[1], height) if down_first else (width, image.shape[0])
    resized = Image.fromarray(np.ascontiguousarray(image)).resize(middle, Image.Resampling.BICUBIC)
    return np.array(resized.resize((width, height), Image.Resampling.BICUBIC))


def normalize(crops: UInt8Array, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """``(x / 255 − mean) / std`` with the channels first, for models that do not normalise in their graph.

    As one multiplication and one addition in float32, exactly as the graph of other models does it.

    Args:
        crops: RGB uint8 ``[…, H, W, 3]``.
        mean: Of each channel, in 0..1.
        std: Of each channel, in 0..1.

    Returns:
        ``[…, 3, H, W]`` float32, contiguous.
    """
    scale = np.float32(1) / (np.float32(255) * np.asarray(std, np.float32))
    shift = -np.asarray(mean, np.float32) / np.asarray(std, np.float32)
    return np.ascontiguousarray(np.moveaxis(crops.astype(np.float32) * scale + shift, -1, -3))


def _from_array(array: NDArray[Any], color: str | None) -> UInt8Array:
    _check_array(array)
    if color is None:
        raise OptionError("color", color, "'rgb' or 'bgr' for arrays (OpenCV gives 'bgr')")
    return np.array(array if color == "rgb" else array[:, :, ::-1], order="C")


def _check_array(array: NDArray[Any]) -> None:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ShapeError(f"an image array must be uint8 [H, W, 3], got {array.dtype} {list(array.shape)}")
    if array.size == 0:
        raise ShapeError(f"an image must have at least one pixel, got {list(array.shape)}")


@contextmanager
def open_image(path: Path, formats: Sequence[str] = tuple(FORMATS)) -> Iterator[Image.Image]:
    """A file as a PIL image; whatever its decoder raises in the block is an ImageError.

    Args:
        path: The file.
        formats: Pillow formats that are accepted.

    Raises:
        ImageError: The file is missing, none of `formats`, truncated, or has more than MAX_PIXELS.
    """
    with _explained(path, formats), Image.open(path, formats=list(formats)) as image:
        _check_pixels(image, path)
        yield image


@contextmanager
def _explained(source: object, formats: Sequence[str] = ()) -> Iterator[None]:
    """Turn what Pillow raises into ImageError."""
    try:
        yield
    except FileNotFoundError:
        raise ImageError(source, "no such file") from None
    except UnidentifiedImageError:
        raise ImageError(source, f"not an image of a known format ({', '.join(formats)})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(source, f"more than {MAX_PIXELS} pixels") from None
    except StcanetError:
        raise
    # Pillow's decoders raise nearly anything on a damaged file (SyntaxError for a bad PNG chunk, struct.error,
    # IndexError, …), and one damaged file must not end a service with a type that nobody catches.
    except Exception as error:
        raise ImageError(source, one_line(error)) from error


def _to_rgb(image: Image.Image, source: object) -> UInt8Array:
    _check_pixels(image, source)
    if image.mode not in _MODES_8_BIT:
        raise ImageError(source, f"mode {image.mode} is not 8 bits per channel; convert it first")
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # the same colours, without the warning that it should be this
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _check_pixels(image: Image.Image, source: object) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(source, f"{width}×{height} is more than {MAX_PIXELS} pixels")
    if width * height == 0:
        raise ImageError(source, "it has no pixels")
