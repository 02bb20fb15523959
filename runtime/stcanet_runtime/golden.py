"""Golden vectors: does this machine compute what the exporting machine did?

A package holds drawn crops and the embeddings that PyTorch gave for them. Running them again takes seconds, needs no PyTorch,
and sees a broken provider, driver or build on the target box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.archive import GOLDEN_NAME, LIMITS, opened
from stcanet_runtime.encoder import Encoder
from stcanet_runtime.errors import PackageError, ParityError
from stcanet_runtime.manifest import verify_whole
from stcanet_runtime.npz import read_npz
from stcanet_runtime.providers import BFLOAT16

EMBEDDINGS = "embeddings"
MIN_COSINE = {"fp32": 0.99999, "fp16": 0.9995, "bf16": 0.995, "int8": 0.99}
"""Least cosine of an embedding with its reference, by precision: here and in the parity gate."""


def precision_under(provider: str, precision: str) -> str:
    """The lowest precision that is at work when a package of a precision runs under a provider."""
    return min(precision, "bf16", key=MIN_COSINE.__getitem__) if provider == BFLOAT16 else precision


@dataclass(frozen=True)
class Verification:
    """What running the golden vectors gave."""

    provider: str
    """Where they ran."""
    crops: int
    min_cosine: float
    bound: float

    @property
    def passed(self) -> bool:
        """Whether the worst embedding is near enough; NaN never is."""
        return bool(self.min_cosine >= self.bound)

    def raise_if_failed(self) -> None:
        """Do nothing if it passed.

        Raises:
            ParityError: It failed.
        """
        if not self.passed:
            raise ParityError(
                f"provider '{self.provider}' does not compute what the package was verified with: min cosine of {self.crops} "
                f"golden embeddings is {self.min_cosine:.6f}, must be >= {self.bound}; do not use it on this machine"
            )


def verify_package(
    package: str | Path, providers: str | Sequence[str] = "auto", public_key: str | Path | None = None
) -> Verification:
    """Check the hashes of a package, and run its golden vectors again, one by one and in one batch.

    Args:
        package: The folder or archive.
        providers: Where to run; see :func:`stcanet_runtime.session.open_session`.
        public_key: Demand a signature by this key; see :func:`stcanet_runtime.signature.verify_signature`.

    Returns:
        The worst agreement. That it `passed` is for the caller to look at, or to demand by `raise_if_failed()`.

    Raises:
        PackageError: The package is incomplete or altered, or holds no golden vectors that fit it.
        SignatureError: It is not signed by the demanded key.
        ProviderError: A provider that was named cannot run here.
    """
    with opened(package) as folder:
        encoder = Encoder.load(folder, providers, public_key=public_key)
        inputs, expected = _read(folder / GOLDEN_NAME, encoder)
        verify_whole(folder, encoder.manifest)
    runs = [np.concatenate([encoder.embed_batch(inputs[i : i + 1])[0] for i in range(len(inputs))])]
    runs.append(encoder.embed_batch(inputs)[0])
    # For unit vectors 1 − ‖a − b‖² / 2 is the cosine; it falls with a wrong length, too.
    cosines = [1 - ((run - expected).astype(np.float64) ** 2).sum(axis=1) / 2 for run in runs]
    provider = encoder.session.provider
    bound = MIN_COSINE[precision_under(provider, encoder.manifest.precision)]
    return Verification(provider, len(inputs), float(np.min(cosines)), bound)


def _read(path: Path, encoder: Encoder) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    try:
        name = encoder.manifest.input.name
        arrays = read_npz(path, (name, EMBEDDINGS), LIMITS[GOLDEN_NAME])
        inputs, expected = arrays[name], arrays[EMBEDDINGS]
    except FileNotFoundError:
        raise PackageError(f"{path.parent} has no {GOLDEN_NAME}: only a whole package can be verified") from None
    except (ValueError, KeyError, OSError) as error:
        raise PackageError(f"{path} holds no golden vectors of this package: {error}") from None
    rows = inputs.shape[0] if inputs.shape else 0
    if rows == 0 or expected.shape != (rows, encoder.dim) or expected.dtype != np.float32:
        raise PackageError(f"{path}: {expected.dtype} {list(expected.shape)} are not the embeddings of {rows} inputs")
    return inputs, expected
