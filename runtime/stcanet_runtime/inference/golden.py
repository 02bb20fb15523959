"""Golden vectors: does this machine compute what the exporting machine did?

A package holds drawn crops and the embeddings that PyTorch gave for them. Running them again takes seconds, needs no PyTorch,
and sees a broken provider, driver or build on the target box. It also holds a JPEG with its pixels: another libjpeg may decode
other ones, from which the same network gives other embeddings.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.errors import ImageError, PackageError, ParityError
from stcanet_runtime.inference.encoder import Encoder
from stcanet_runtime.inference.providers import precision_under
from stcanet_runtime.npz import read_npz
from stcanet_runtime.package.archive import GOLDEN_NAME, LIMITS, opened
from stcanet_runtime.package.contents import verify_whole
from stcanet_runtime.package.manifest import NORMS
from stcanet_runtime.preprocess import load_image
from stcanet_runtime.wording import counted

EMBEDDINGS = "embeddings"
JPEG, PIXELS = "jpeg", "jpeg_pixels"
MAX_PIXEL_ERROR = 1.0
"""Largest mean difference of pixels, of 255. Measured on noise: 0.4 where decoders round otherwise, 15 where one repeats the
halved colours instead of interpolating them, as FFmpeg does and libjpeg-turbo does not."""
MIN_COSINE = {"fp32": 0.99999, "fp16": 0.9995, "bf16": 0.995, "int8": 0.99}
"""Least cosine of an embedding with its reference, by precision: here and in the parity gate."""


def unit_cosines(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """1 − ‖a − b‖² / 2 of each row ``[N]``: for unit vectors the cosine; it falls with a wrong length, too."""
    cosines: NDArray[np.float64] = 1 - ((a - b).astype(np.float64) ** 2).sum(axis=1) / 2
    return cosines


@dataclass(frozen=True)
class Verification:
    """What running the golden vectors gave."""

    provider: str
    """Where they ran."""
    crops: int
    min_cosine: float
    bound: float
    length_error: float
    """Largest relative error of a feature's length, by which clips are averaged; 0 where the package gives none."""
    pixel_error: float
    """Mean difference of the pixels of a decoded JPEG, of 255."""

    @property
    def passed(self) -> bool:
        """Whether the worst embedding and length, and the pixels, are near enough; NaN never is."""
        # Unit vectors of that cosine are δ apart; rounding changes a feature as much along itself as across.
        computes = self.min_cosine >= self.bound and self.length_error <= 1.5 * math.sqrt(2 - 2 * self.bound)
        return bool(computes and self.pixel_error <= MAX_PIXEL_ERROR)

    def raise_if_failed(self) -> None:
        """Do nothing if it passed.

        Raises:
            ParityError: It failed.
        """
        if not self.pixel_error <= MAX_PIXEL_ERROR:
            raise ParityError(
                f"this machine decodes JPEG files otherwise than the exporting one: pixels are off by {self.pixel_error:.2f} "
                f"of 255 on average, must be <= {MAX_PIXEL_ERROR}; install Pillow as a wheel, with its own libjpeg-turbo"
            )
        if not self.passed:
            raise ParityError(
                f"provider '{self.provider}' does not compute what the package was verified with: min cosine of {self.crops} "
                f"golden embeddings is {self.min_cosine:.6f}, must be >= {self.bound}, feature lengths are off by "
                f"{self.length_error:.2g} of themselves; do not use it on this machine"
            )


def verify_package(
    package: str | Path, providers: str | Sequence[str] = "auto", public_key: str | Path | None = None
) -> Verification:
    """Check the hashes of a package, decode its JPEG, and run its golden vectors again.

    They run one by one, in one batch where that is not too large, and in the largest batch that the runtime makes, of crops or
    of clips.

    Args:
        package: The folder or archive.
        providers: Where to run; see :func:`stcanet_runtime.inference.session.open_session`.
        public_key: Demand a signature by this key; see :func:`stcanet_runtime.package.signature.verify_signature`.

    Returns:
        The worst agreement. That it `passed` is for the caller to look at, or to demand by `raise_if_failed()`.

    Raises:
        PackageError: The package is incomplete or altered, or holds no golden vectors that fit it.
        SignatureError: It is not signed by the demanded key.
        ProviderError: A provider that was named cannot run here.
        ImageError: JPEG files cannot be decoded here.
    """
    with opened(package) as folder:
        encoder = Encoder.load(folder, providers, public_key=public_key)
        inputs, expected, lengths, pixel_error = _read(folder / GOLDEN_NAME, encoder)
        verify_whole(folder, encoder.manifest)
    cosines, errors = [], [0.0]
    most = encoder.batch_sizes[-1]
    for size in sorted({1, min(len(inputs), most), most}):  # no engine is built anew for more
        again = np.arange(max(size, len(inputs))) % len(inputs)
        for run in np.split(again, range(size, len(again), size)):
            rows, norms = encoder.embed_batch(inputs[run])
            cosines += unit_cosines(rows, expected[run]).tolist()
            if norms is not None:
                errors += np.abs(norms / lengths[run] - 1.0).tolist()
    provider = encoder.session.provider
    bound = MIN_COSINE[precision_under(provider, encoder.manifest.precision)]
    return Verification(provider, len(inputs), float(np.min(cosines)), bound, float(np.max(errors)), pixel_error)


def _read(path: Path, encoder: Encoder) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32], float]:
    """Inputs, their embeddings, the lengths of their features, and how far the pixels of the JPEG are off here."""
    names = (encoder.manifest.input.name, EMBEDDINGS, NORMS, JPEG, PIXELS)
    try:
        arrays = read_npz(path, names, LIMITS[GOLDEN_NAME])
        if missing := [name for name in names if name not in arrays]:
            raise ValueError(f"it has no array '{missing[0]}'")
    except (FileNotFoundError, NotADirectoryError):  # the latter: model.onnx alone was given
        raise PackageError(f"{path.parent} has no {GOLDEN_NAME}: only a whole package can be verified") from None
    except (ValueError, OSError) as error:
        raise PackageError(f"{path} holds no golden vectors of this package: {error}") from None
    inputs, expected, lengths, file, pixels = (arrays[name] for name in names)
    rows = inputs.shape[0] if inputs.shape else 0
    of = counted(rows, "input", "inputs")
    if rows == 0 or expected.shape != (rows, encoder.dim) or expected.dtype != np.float32:
        raise PackageError(f"{path}: {expected.dtype} {list(expected.shape)} are not the embeddings of {of}")
    if lengths.shape != (rows,) or lengths.dtype != np.float32 or not (lengths > 0).all():
        raise PackageError(f"{path}: {lengths.dtype} {list(lengths.shape)} are not the feature lengths of {of}")
    here = _decode(file, path)
    if pixels.shape != here.shape or pixels.dtype != np.uint8:
        raise PackageError(f"{path}: {pixels.dtype} {list(pixels.shape)} are not the pixels of {list(here.shape)}")
    return inputs, expected, lengths, float(np.abs(here.astype(np.int16) - pixels).mean())


def _decode(file: NDArray[Any], source: Path) -> NDArray[np.uint8]:
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "golden.jpg"
        image.write_bytes(file.tobytes())
        try:
            return load_image(image)
        except ImageError as error:
            raise ImageError(f"'{JPEG}' in {source}", error.reason) from None
