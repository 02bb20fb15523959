"""What every reader returns. No torch here: the runtime evaluates with these too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """A person as one camera saw them: one crop, or the crops of a tracklet."""

    frames: tuple[Path, ...]
    """Image files in the order of time; one for an image data set."""
    pid: int
    camid: int
    """0-based; −1 where the data set has no cameras."""

    @property
    def path(self) -> Path:
        """The crop, or the first one of a tracklet."""
        return self.frames[0]


@dataclass(frozen=True)
class ReIDDataset:
    """A data set with its three published splits, each in a reproducible order."""

    name: str
    root: Path
    train: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
    tracklets: bool = False
    """Whether samples are tracklets (of one frame or more) and not single images."""

    @property
    def has_cameras(self) -> bool:
        """Whether the same-camera rule of the Market protocol can be applied."""
        return all(sample.camid >= 0 for sample in (*self.query, *self.gallery))

    def describe(self) -> dict[str, dict[str, int]]:
        """Samples, images, identities and cameras of each split."""
        return {split: count(getattr(self, split)) for split in ("train", "query", "gallery")}


def count(samples: Sequence[Sample]) -> dict[str, int]:
    """Samples, images, identities and cameras among `samples`."""
    return {
        "samples": len(samples),
        "images": sum(len(sample.frames) for sample in samples),
        "identities": len({sample.pid for sample in samples}),
        "cameras": len({sample.camid for sample in samples}),
    }
