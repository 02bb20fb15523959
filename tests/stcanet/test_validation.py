"""The split that chooses a checkpoint."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import ANY

import pytest

from stcanet.data.datasets import ReIDDataset, Sample
from stcanet.engine.validation import Split, choose_validation, split_validation, validation_frames


def fake(pid: int, camid: int, number: int = 0) -> Sample:
    return Sample((Path(f"{pid}_{camid}_{number}"),), pid, camid)


def test_validation_identities_are_not_trained_on() -> None:
    samples = [fake(pid, camid, number) for pid in range(20) for camid in range(3) for number in range(2)]
    train_samples, query, gallery, notes = split_validation(samples, 0.2, seed=1)
    assert notes == ()
    held = {sample.pid for sample in query}
    assert len(held) == 4
    assert held.isdisjoint(sample.pid for sample in train_samples)
    assert {(sample.pid, sample.camid) for sample in query} == {(pid, camid) for pid in held for camid in range(3)}
    assert len(query) == 12
    assert len(train_samples) + len(gallery) == len(samples)
    assert split_validation(samples, 0.2, seed=1)[1] == query
    assert split_validation(samples, 0.2, seed=2)[1] != query


def test_only_identities_with_two_cameras_are_held_back() -> None:
    samples = [fake(pid, 0, number) for pid in range(10) for number in range(3)]
    samples += [fake(pid, camid) for pid in (96, 97, 98, 99) for camid in (0, 1)]
    train, query, gallery, notes = split_validation(samples, 0.3, seed=0)
    held = {sample.pid for sample in query}
    assert held < {96, 97, 98, 99}
    assert (len(held), len(gallery)) == (2, 4)  # half of them: training needs people whom two cameras see, too
    assert len({sample.pid for sample in train} & {96, 97, 98, 99}) == 2
    assert notes == ("val_fraction = 0.3 of 14 identities is 4, and 2 are held back: half of the 4 that two cameras see",)


def test_one_identity_alone_chooses_nothing() -> None:
    """Whatever the network has learnt, it is found: all images of the gallery are right."""
    few = [fake(pid, camid) for pid in range(12) for camid in range(2)]
    lonely = [fake(pid, 0) for pid in range(20)] + [fake(pid, 1) for pid in range(3)]
    assert split_validation(few, 0.1, seed=0) == Split(tuple(few), (), (), (ANY,))
    _, query, _, notes = split_validation(lonely, 0.1, seed=0)
    assert query == ()
    assert "the number of identities that two cameras see is 3, and it takes 4 or more" in notes[0]
    set_aside = ReIDDataset("x", Path("x"), tuple(few), (), (), val=tuple(fake(pid, 0) for pid in range(5)))
    train, query, _, notes = choose_validation(set_aside, 0.1, seed=0)
    assert (train, query) == (tuple(few), ())
    assert "of the images set aside for it, only those of 0 identities can be found" in notes[0]


def test_without_cameras_no_query_is_in_its_own_gallery() -> None:
    samples = [fake(pid, -1, number) for pid in range(10) for number in range(3)]
    train_samples, query, gallery, _ = split_validation(samples, 0.2, seed=0)
    assert len(query) == 2
    assert len(gallery) == 4
    assert set(query).isdisjoint(gallery)
    assert len(train_samples) == 24


TRACKLETS = [
    Sample(tuple(Path(f"{pid}_{camid}_{frame}") for frame in range(4)), pid, camid) for pid in range(4) for camid in (0, 1)
]


@pytest.mark.parametrize(("fraction", "held_back"), [(0.0, 0), (0.01, 0), (0.25, 0), (0.5, 2), (0.9, 2)])
def test_a_share_of_the_identities_is_held_back(fraction: float, held_back: int) -> None:
    train, query, gallery, _ = split_validation(TRACKLETS, fraction, seed=1)
    assert len({sample.pid for sample in query}) == held_back
    assert ((train, query, gallery) == (tuple(TRACKLETS), (), ())) == (held_back == 0)


def test_tracklets_of_held_back_identities_become_queries() -> None:
    train, query, gallery, _ = split_validation(TRACKLETS, 0.5, seed=1)
    assert len({sample.pid for sample in query}) == 2
    assert len(query) == 4
    assert set(query) == set(gallery)  # one tracklet per camera: the same-camera rule keeps it from finding itself
    assert len(train) == 4


def test_the_frames_that_a_validation_reads() -> None:
    tracklet = Sample(tuple(map(Path, "abcdefghijkl")), 1, 0)
    split = Split((), (tracklet,), (tracklet, fake(1, 1)))
    assert validation_frames(split, 2) == [Path("a"), Path("i"), *fake(1, 1).frames]  # at a stride of eight, once each
