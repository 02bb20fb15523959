"""The split that chooses a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from stcanet.data.datasets import Sample
from stcanet.engine.validation import split_validation


def fake(pid: int, camid: int, number: int = 0) -> Sample:
    return Sample((Path(f"{pid}_{camid}_{number}"),), pid, camid)


def test_validation_identities_are_not_trained_on() -> None:
    samples = [fake(pid, camid, number) for pid in range(20) for camid in range(3) for number in range(2)]
    train_samples, query, gallery = split_validation(samples, 0.2, seed=1)
    held = {sample.pid for sample in query}
    assert len(held) == 4
    assert held.isdisjoint(sample.pid for sample in train_samples)
    assert {(sample.pid, sample.camid) for sample in query} == {(pid, camid) for pid in held for camid in range(3)}
    assert len(query) == 12
    assert len(train_samples) + len(gallery) == len(samples)
    assert split_validation(samples, 0.2, seed=1)[1] == query
    assert split_validation(samples, 0.2, seed=2)[1] != query


def test_only_identities_with_two_cameras_are_held_back() -> None:
    samples = [fake(pid, 0, number) for pid in range(10) for number in range(3)] + [fake(99, 0), fake(99, 1)]
    _, query, gallery = split_validation(samples, 0.3, seed=0)
    assert {sample.pid for sample in query} == {99}
    assert len(gallery) == 2


def test_without_cameras_no_query_is_in_its_own_gallery() -> None:
    samples = [fake(pid, -1, number) for pid in range(10) for number in range(3)]
    train_samples, query, gallery = split_validation(samples, 0.2, seed=0)
    assert len(query) == 2
    assert len(gallery) == 4
    assert set(query).isdisjoint(gallery)
    assert len(train_samples) == 24


TRACKLETS = [
    Sample(tuple(Path(f"{pid}_{camid}_{frame}") for frame in range(4)), pid, camid) for pid in (1, 2, 3) for camid in (0, 1)
]


@pytest.mark.parametrize(("fraction", "held_back"), [(0.0, 0), (0.01, 0), (0.5, 2), (1.0, 3)])
def test_a_share_of_the_identities_is_held_back(fraction: float, held_back: int) -> None:
    train, query, gallery = split_validation(TRACKLETS, fraction, seed=1)
    assert len({sample.pid for sample in query}) == held_back
    assert ((train, query, gallery) == (tuple(TRACKLETS), (), ())) == (held_back == 0)


def test_tracklets_of_held_back_identities_become_queries() -> None:
    train, query, gallery = split_validation(TRACKLETS, 0.34, seed=1)
    assert len({sample.pid for sample in query}) == 1
    assert len(query) == 2
    assert set(query) == set(gallery)  # one tracklet per camera: the same-camera rule keeps it from finding itself
    assert len(train) == 4
