"""The list of images of a dataset: which person, which camera, which folder, which file name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from stcanet.data.synthetic.config import SynthConfig, SynthCounts
from stcanet_runtime.retrieval.evaluate import DISTRACTOR_PID, JUNK_PID


class Split(StrEnum):
    """The folders of the Market-1501 layout."""

    TRAIN = "bounding_box_train"
    QUERY = "query"
    GALLERY = "bounding_box_test"


@dataclass(frozen=True)
class Shot:
    """One image to draw."""

    split: Split
    pid: int
    """Identity: 1 or more, or 0 for a distractor, -1 for junk."""
    camera: int
    """Camera, 0 or more; the file name counts from 1."""
    index: int
    """Number of the image among those of its identity and camera."""
    subject: int
    """Whom a junk image shows badly; else the same as ``pid``."""

    @property
    def stem(self) -> str:
        """File name without suffix, ``0001_c1s1_000004_00``."""
        identity = str(self.pid) if self.pid < 0 else f"{self.pid:04d}"
        return f"{identity}_c{self.camera + 1}s1_{self.index + 1:06d}_00"


def list_shots(config: SynthConfig) -> list[Shot]:
    """All images of a dataset, in the order of folders, identities, cameras and frames."""
    train, query, gallery = [], [], []
    for pid in range(1, config.identities + 1):
        for camera in range(config.cameras):
            for index in range(config.images_per_camera):
                if pid <= config.train_identities:
                    train.append(Shot(Split.TRAIN, pid, camera, index, pid))
                elif index == 0:
                    query.append(Shot(Split.QUERY, pid, camera, index, pid))
                else:
                    gallery.append(Shot(Split.GALLERY, pid, camera, index, pid))
    return [*train, *query, *gallery, *_extras(config)]


def count(config: SynthConfig) -> SynthCounts:
    """What a dataset of this configuration holds."""
    per_person = config.cameras * config.images_per_camera
    queries = config.test_identities * config.cameras
    extras = config.distractors + config.junk
    train, gallery = config.train_identities * per_person, config.test_identities * per_person - queries + extras
    masks = train + queries + gallery if config.masks else 0
    return SynthCounts(
        train_identities=config.train_identities,
        train_images=train,
        test_identities=config.test_identities,
        query_images=queries,
        gallery_images=gallery,
        distractors=config.distractors,
        junk=config.junk,
        cameras=config.cameras,
        masks=masks,
    )


def _extras(config: SynthConfig) -> Iterator[Shot]:
    for number in range(config.distractors):
        index, camera = divmod(number, config.cameras)
        yield Shot(Split.GALLERY, DISTRACTOR_PID, camera, index, DISTRACTOR_PID)
    for number in range(config.junk):
        index, camera = divmod(number, config.cameras)
        subject = config.train_identities + 1 + number % config.test_identities
        yield Shot(Split.GALLERY, JUNK_PID, camera, index, subject)
