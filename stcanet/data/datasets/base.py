"""What every reader returns. No torch here: the runtime evaluates with these too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stcanet_runtime.retrieval.figures import count_distractors

ONE_CAMERA = "where there is one camera, leave camid empty in a .csv"
"""What to do about queries whose matches are all by their own camera."""


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
    """The folder, or the file that lists the images."""
    train: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
    tracklets: bool = False
    """Whether samples are tracklets (of one frame or more) and not single images."""
    val: tuple[Sample, ...] = ()
    """Samples that the data set itself sets aside for choosing a checkpoint (MSMT17); not in `train`."""
    counts_apart: bool = False
    """Whether training and test count their identities each for itself (MSMT17): the same number is not the same person."""
    protocol: Mapping[str, str] = field(default_factory=dict)
    """What every result on it must say besides the figures, such as which gallery convention it follows."""
    junk: int = 0
    """Gallery samples of pid −1 that were left out, since nobody is meant to find them."""
    notes: tuple[str, ...] = ()
    """What a user should know before trusting figures, such as counts that differ from the published ones."""

    @property
    def has_cameras(self) -> bool:
        """Whether the same-camera rule of the Market protocol can be applied."""
        return cameras_known((*self.query, *self.gallery))

    def unmatched(self) -> list[Sample]:
        """Queries without an image of their identity that they may find: from another camera, where there are cameras."""
        cameras, seen = self.has_cameras, dict[int, set[int]]()
        for sample in self.gallery:
            seen.setdefault(sample.pid, set()).add(sample.camid)
        return [sample for sample in self.query if not seen.get(sample.pid, set()) - ({sample.camid} if cameras else set())]

    def describe(self) -> dict[str, dict[str, int]]:
        """Samples, images, identities and cameras of each split; of the gallery distractors too, which are no identity."""
        splits = {"train": self.train, "val": self.val, "query": self.query, "gallery": self.gallery}
        counts = {split: count(samples) for split, samples in splits.items() if samples or split != "val"}
        distractors = count_distractors([sample.pid for sample in self.query], [sample.pid for sample in self.gallery])
        counts["gallery"] |= {"identities": counts["gallery"]["identities"] - bool(distractors), "distractors": distractors}
        return counts


def cameras_known(samples: Iterable[Sample]) -> bool:
    """Whether every sample says which camera it is of."""
    return all(sample.camid >= 0 for sample in samples)


def count(samples: Sequence[Sample]) -> dict[str, int]:
    """Samples, images, identities and cameras among `samples`; no cameras where they are not known."""
    return {
        "samples": len(samples),
        "images": sum(len(sample.frames) for sample in samples),
        "identities": len({sample.pid for sample in samples}),
        "cameras": len({sample.camid for sample in samples if sample.camid >= 0}),
    }
