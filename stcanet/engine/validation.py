"""What a checkpoint is chosen by: samples that are held back from training."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stcanet.data.datasets import ReIDDataset, Sample, cameras_known
from stcanet_runtime.inference.tracklets import cut_clips
from stcanet_runtime.wording import counted

_LEAST = 4
"""Identities that can be found, of which half are held back: two, since one alone is found whatever the network has learnt."""


class Split(NamedTuple):
    """Who is trained on, and who chooses the checkpoint."""

    train: tuple[Sample, ...]
    query: tuple[Sample, ...]
    """Empty where nothing is held back."""
    gallery: tuple[Sample, ...]
    notes: tuple[str, ...] = ()
    """Why fewer are held back than was asked for."""


def choose_validation(dataset: ReIDDataset, fraction: float, seed: int) -> Split:
    """Choose by the samples that the data set sets aside for it (MSMT17), or else by held-back identities.

    Args:
        dataset: What there is.
        fraction: Share of the training identities to hold back; 0 chooses by nothing.
        seed: Of the draw.
    """
    if not dataset.val or fraction == 0.0:
        return split_validation(dataset.train, fraction, seed)
    eligible = _recognisable(dataset.val)
    if len(eligible) < 2:
        reason = f"of the images set aside for it, only those of {_identities(len(eligible))} can be found"
        return Split(dataset.train, (), (), (_kept_last(reason),))
    _, query, gallery, _ = _hold_back(dataset.val, set(eligible))
    return Split(dataset.train, query, gallery)


def split_validation(samples: Sequence[Sample], fraction: float, seed: int) -> Split:
    """Hold back identities for choosing a checkpoint.

    Only identities seen by two cameras are held back, since the others have no match to find (where there are no
    camera numbers, those with two images); and at most half of them, since training needs them too. Of a held-back
    identity the first image, or tracklet, of each camera becomes a query. One identity alone is not held back: it is found
    whatever the network has learnt.
    """
    everybody = len({sample.pid for sample in samples})
    eligible = _recognisable(samples)
    wanted = round(fraction * everybody)
    taken = min(wanted, len(eligible) // 2)
    share = f"val_fraction = {fraction:g} of {_identities(everybody)}"
    if taken < 2:
        too_small = f"{share} is {wanted}, and it takes two: one alone is always found"
        reason = too_small if wanted < 2 else _few(eligible, samples)
        return Split(tuple(samples), (), (), (_kept_last(reason),) if fraction else ())
    chosen = np.random.default_rng((seed, 0x7A11DA7E)).permutation(eligible)[:taken]
    held_back = _hold_back(samples, set(chosen.tolist()))
    if taken == wanted:
        return held_back
    cut = f"{share} is {wanted}, and {taken} are held back: half of the {len(eligible)} that {_seen(samples)}"
    return held_back._replace(notes=(cut,))


def validation_frames(split: Split, clip_length: int) -> list[Path]:
    """The images that a validation reads: those of one clip of each tracklet."""
    samples = dict.fromkeys((*split.query, *split.gallery))
    clips = ((sample.frames, cut_clips(len(sample.frames), clip_length, "quick").flat) for sample in samples)
    return [frames[index] for frames, indices in clips for index in sorted(set(indices))]


def _recognisable(samples: Sequence[Sample]) -> list[int]:
    """Identities that a query of theirs can find, in ascending order."""
    views: dict[int, set[int]] = {}
    for index, sample in enumerate(samples):
        views.setdefault(sample.pid, set()).add(sample.camid if sample.camid >= 0 else index)
    return sorted(pid for pid, seen in views.items() if len(seen) >= 2)


def _hold_back(samples: Sequence[Sample], identities: Collection[int]) -> Split:
    train, query, gallery, queried = [], [], [], set()
    for sample in samples:
        if sample.pid not in identities:
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
    return Split(tuple(train), tuple(query), tuple(gallery))


def _few(eligible: Sequence[int], samples: Sequence[Sample]) -> str:
    return f"the number of identities that {_seen(samples)} is {len(eligible)}, and it takes {_LEAST} or more"


def _seen(samples: Sequence[Sample]) -> str:
    return "two cameras see" if cameras_known(samples) else "have two images"


def _identities(count: int) -> str:
    return counted(count, "identity", "identities")


def _kept_last(reason: str) -> str:
    return f"nothing is held back for validation, since {reason}; the last epoch is kept"
