"""What a checkpoint is chosen by: samples that are held back from training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stcanet.data.datasets import ReIDDataset, Sample, cameras_known
from stcanet_runtime.wording import counted


def choose_validation(
    dataset: ReIDDataset, fraction: float, seed: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...], tuple[Sample, ...]]:
    """Choose by the samples that the data set sets aside for it (MSMT17), or else by held-back identities.

    Returns:
        Training samples, validation queries, validation gallery; the last two are empty where `fraction` is 0.
    """
    if not dataset.val or fraction == 0.0:
        return split_validation(dataset.train, fraction, seed)
    _, query, gallery = split_validation(dataset.val, 1.0, seed)
    return dataset.train, query, gallery


def split_validation(
    samples: Sequence[Sample], fraction: float, seed: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...], tuple[Sample, ...]]:
    """Hold back identities for choosing a checkpoint.

    Only identities seen by two cameras are held back, since the others have no match to find (where there are no
    camera numbers, those with two images). Of a held-back identity the first image, or tracklet, of each camera
    becomes a query.

    Returns:
        What is left to train on, validation queries, validation gallery.
    """
    views: dict[int, set[int]] = {}
    for index, sample in enumerate(samples):
        views.setdefault(sample.pid, set()).add(sample.camid if sample.camid >= 0 else index)
    eligible = sorted(pid for pid, seen in views.items() if len(seen) >= 2)
    wanted = round(fraction * len(views))
    chosen = np.random.default_rng((seed, 0x7A11DA7E)).permutation(eligible)[:wanted]
    held_back = set(chosen.tolist())
    train, query, gallery, queried = [], [], [], set()
    for sample in samples:
        if sample.pid not in held_back:
            train.append(sample)
        elif (sample.pid, sample.camid) not in queried:
            queried.add((sample.pid, sample.camid))
            query.append(sample)
        else:
            gallery.append(sample)
    if cameras_known(samples):
        # So that an identity with one image per camera can be found too; the same-camera rule keeps a query from
        # finding itself.
        gallery += query
    return tuple(train), tuple(query), tuple(gallery)


def validation_notes(samples: Sequence[Sample], fraction: float) -> list[str]:
    """Why nothing of `samples` was held back, where something should have been."""
    if not fraction:
        return []
    count = len({sample.pid for sample in samples})
    if round(fraction * count) == 0:
        reason = f"val_fraction = {fraction:g} of {counted(count, 'identity', 'identities')} is none"
    else:
        seen = "two cameras see" if samples[0].camid >= 0 else "there are two images of"
        reason = f"there is no identity that {seen}"
    return [f"nothing is held back for validation, since {reason}; the last epoch is kept"]
