"""The crops that int8 ranges are taken from, and what a package says about them: never the crops themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stcanet.data.datasets import load_dataset
from stcanet_export.parity.probes import pick
from stcanet_runtime.errors import DataError, LayoutError, OptionError, quote_choices
from stcanet_runtime.files import sha256_file
from stcanet_runtime.images.crops import list_images
from stcanet_runtime.wording import counted

METHODS = ("percentile", "entropy")
"""How a tensor's range is chosen: to hold a share of its values, or for the least divergence of the rounded ones."""
MIN_CROPS = 16
DEFAULT_CROPS = 128


@dataclass(frozen=True)
class Calibration:
    """Real crops to calibrate with."""

    source: str
    """A folder of crops, or a data set (as for training), whose training images are taken."""
    crops: int = DEFAULT_CROPS
    """How many at most, evenly picked."""
    method: str = "percentile"

    def __post_init__(self) -> None:
        if self.crops < MIN_CROPS:
            raise OptionError("calibration crops", self.crops, f"at least {MIN_CROPS}")
        if self.method not in METHODS:
            raise OptionError("calibration method", self.method, quote_choices(METHODS))

    def files(self) -> list[Path]:
        """The image files.

        Raises:
            DataError: Fewer than :data:`MIN_CROPS`, or no such folder or data set.
        """
        files = pick(self._all(), self.crops)
        if len(files) < MIN_CROPS:
            raise DataError(
                f"{self.source}: {counted(len(files), 'image', 'images')}; calibration needs at least {MIN_CROPS} real crops"
            )
        return files

    def _all(self) -> list[Path]:
        try:
            train = load_dataset(self.source).train
        except LayoutError:  # a plain folder; a data set that is damaged must not lend its test images
            return list_images(self.source)
        return [path for sample in train for path in sample.frames]

    def describe(self, files: Sequence[Path]) -> dict[str, Any]:
        """Where ranges come from: JSON values, without names, paths or images of people."""
        digests = "\n".join(sorted(sha256_file(path) for path in files))
        checksum = hashlib.sha256(digests.encode()).hexdigest()
        return {"method": self.method, "crops": len(files), "files_sha256": checksum}
