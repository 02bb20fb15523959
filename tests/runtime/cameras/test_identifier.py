"""Tracks of several cameras: who is who, what is impossible, and what is put right later."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stcanet_runtime import Gallery, OptionError, ShapeError
from stcanet_runtime.cameras.identifier import Identifier
from stcanet_runtime.cameras.identities import Track, Travel

A, B = np.eye(2, 8)


def between(weight: float) -> NDArray[np.float64]:
    """An embedding between two people: 0 is A, 1 is B."""
    return (1 - weight) * A + weight * B


def test_the_same_person_in_two_cameras() -> None:
    identifier = Identifier(0.3)
    assert identifier.update(Track("door", "1", 0, 5), A).identity == 1
    assert identifier.update(Track("door", "2", 0, 5), B).identity == 2
    assert identifier.update(Track("yard", "1", 30, 35), between(0.1)).identity == 1
    assert identifier.update(Track("yard", "2", 31, 36), between(0.9)).identity == 2
    assert {i: [track.key for track in tracks] for i, tracks in identifier.identities.items()} == {
        1: [("door", "1"), ("yard", "1")],
        2: [("door", "2"), ("yard", "2")],
    }


def test_nobody_is_twice_in_one_camera_at_once() -> None:
    identifier = Identifier(0.3)
    assert identifier.update(Track("door", "1", 0, 5), A).identity == 1
    assert identifier.update(Track("door", "2", 5, 9), A).identity == 2  # the frame in which one ends and the other begins
    assert identifier.update(Track("door", "3", 6, 8), A).identity == 1


@pytest.mark.parametrize(
    ("travel", "start", "expected"),
    [
        (Travel({("door", "yard"): 20.0}), 24.9, 2),
        (Travel({("door", "yard"): 20.0}), 25.0, 1),
        (Travel({("yard", "door"): 20.0}), 24.9, 2),
        (Travel({("yard", "door"): 99.0, ("door", "yard"): 1.0}), 24.9, 1),
        (Travel(default=0.0), 4.0, 2),
        (Travel(default=0.0), 5.0, 1),
        (Travel(), 2.0, 1),
    ],
)
def test_nobody_is_faster_than_that(travel: Travel, start: float, expected: int) -> None:
    identifier = Identifier(0.3, travel)
    identifier.update(Track("door", "1", 0, 5), A)
    assert identifier.update(Track("yard", "7", start, 99), A).identity == expected


def test_the_next_nearest_is_taken_where_the_nearest_is_impossible() -> None:
    identifier = Identifier(0.3)
    identifier.update(Track("door", "1", 0, 5), between(0.05))
    identifier.update(Track("door", "2", 0, 5), between(0.35))
    assert identifier.update(Track("door", "3", 4, 8), between(0.04)).identity == 3
    assert identifier.update(Track("yard", "1", 4, 8), between(0.3)).identity == 2


def test_one_camera_makes_people_alike() -> None:
    """What lies 0.08 from A is A in another camera, and somebody else in the same one."""
    near, farther = between(0.3), between(0.4)  # 0.08 and 0.17 from A
    for camera, expected in (("yard", 1), ("door", 2)):
        identifier = Identifier(0.3, hysteresis=0.05, same_camera_margin=0.25)
        identifier.update(Track("door", "1", 0, 5), A)
        assert identifier.update(Track(camera, "2", 6, 9), near).identity == expected
    identifier = Identifier(0.3, hysteresis=0.05, same_camera_margin=0.25)
    for embedding, expected in ((A, 1), (near, 1), (farther, 2)):  # near: only within the hysteresis
        identifier.update(Track("door", "1", 0, 5), A)
        assert identifier.update(Track("door", "2", 6, 9), embedding).identity == expected
    with pytest.raises(OptionError, match="same_camera_margin"):
        Identifier(0.3, same_camera_margin=-0.1)


def test_a_margin_that_could_not_be_measured_is_none() -> None:
    identifier = Identifier(0.3, same_camera_margin=None)
    assert [identifier.update(Track("door", name, at, at), A).identity for at, name in enumerate("12")] == [1, 1]


@pytest.mark.parametrize("frames", [1e-200, 1e200])
def test_weights_say_only_which_is_more(frames: float) -> None:
    identifier = Identifier(0.3, same_camera_margin=0.1)
    assert [identifier.update(Track("door", name, at, at), A, frames).identity for at, name in enumerate("12")] == [1, 1]


def test_an_age_of_float32_is_as_exact() -> None:
    """Between two of its neighbours lie 128 s, at seconds since 1970."""
    age: Any = np.float32(10)
    for gap, people in ((9, 2), (11, 1)):
        for now in range(1_700_000_000, 1_700_000_128, 16):
            identifier = Identifier(0.3, max_age=age)
            identifier.update(Track("door", "1", now, now), A)
            identifier.update(Track("yard", "1", now + gap, now + gap), B)
            assert len(identifier.identities) == people


def test_a_split_as_evidence_grows() -> None:
    identifier = Identifier(0.3, hysteresis=0.05)
    identifier.update(Track("door", "1", 0, 5), A)
    assert identifier.update(Track("yard", "1", 9, 10), between(0.3)).identity == 1
    changed = identifier.update(Track("yard", "1", 9, 20), between(0.9), frames=50)
    assert (changed.identity, changed.previous) == (2, 1)
    assert [len(tracks) for tracks in identifier.identities.values()] == [1, 1]


def test_a_track_does_not_flutter() -> None:
    x = np.array([0.68, np.sqrt(1 - 0.68**2)]) @ np.stack([A, B])  # distance 0.32: beyond the threshold, within hysteresis
    stays, fresh = Identifier(0.3, hysteresis=0.05), Identifier(0.3)
    for identifier in (stays, fresh):
        identifier.update(Track("door", "1", 0, 5), A)
    stays.update(Track("yard", "1", 9, 10), A)
    assert stays.update(Track("yard", "1", 9, 11), x).identity == 1
    assert fresh.update(Track("yard", "1", 9, 11), x).identity == 2


def test_a_split_where_time_forbids() -> None:
    identifier = Identifier(0.3)
    identifier.update(Track("door", "1", 10, 20), A)
    assert identifier.update(Track("door", "2", 0, 5), A).identity == 1
    assert identifier.update(Track("door", "2", 0, 15), A).previous == 1


def test_a_merge_keeps_the_older_id() -> None:
    identifier = Identifier(0.3)
    identifier.update(Track("door", "1", 0, 5), A)
    identifier.update(Track("yard", "1", 9, 10), B)
    identifier.update(Track("hall", "1", 11, 12), B)
    changed = identifier.update(Track("yard", "1", 9, 20), between(0.2), frames=90)
    assert (changed.identity, changed.previous) == (1, 2)
    changed = identifier.update(Track("hall", "1", 11, 22), between(0.1), frames=90)
    assert changed.identity == 1
    assert changed.merged == (2,)
    assert identifier.resolve(2) == 1
    assert list(identifier.identities) == [1]
    assert identifier.update(Track("hall", "1", 11, 23), between(0.1), frames=90).previous is None
    again = identifier.update(Track("yard", "1", 9, 20), between(0.2), frames=90)
    assert (again.identity, again.previous) == (1, None)
    assert identifier.update(Track("roof", "1", 50, 51), B).identity == 3  # 2 is never given again


def test_more_frames_weigh_more() -> None:
    identifier = Identifier(0.3)
    identifier.update(Track("door", "1", 0, 5), A, frames=100)
    identifier.update(Track("yard", "1", 6, 7), between(0.3), frames=1)
    assert identifier.update(Track("hall", "1", 8, 9), between(0.02), frames=1).identity == 1
    assert identifier.update(Track("roof", "1", 8, 9), between(0.7), frames=1).identity == 2


def test_memory_is_bounded() -> None:
    identifier = Identifier(0.3, max_age=100)
    rng = np.random.default_rng(0)
    for step in range(300):
        identifier.update(Track("door", str(step), step * 10.0, step * 10.0 + 5), rng.standard_normal(8))
    assert len(identifier._identities) <= 12
    assert len(identifier._owner) <= 12
    assert len(identifier._merged) <= 12


def test_memory_is_bounded_for_somebody_who_is_always_there() -> None:
    identifier = Identifier(0.3, max_age=100)
    for step in range(300):
        assert identifier.update(Track("door", str(step), step * 10.0, step * 10.0 + 5), A).identity == 1
    (tracks,) = identifier.identities.values()
    assert [track.id for track in tracks] == [str(step) for step in range(289, 300)]
    assert set(identifier._owner) == {track.key for track in tracks}
    assert identifier._identities[1].weight == len(tracks)


def test_a_track_that_goes_on_is_not_too_old() -> None:
    identifier = Identifier(0.3, max_age=100)
    identifier.update(Track("door", "1", 0, 5), A)
    identifier.update(Track("yard", "1", 9, 10), B)
    assert identifier.update(Track("door", "1", 0, 500), A).identity == 1
    assert list(identifier.identities) == [1]


def test_a_track_of_the_same_name_after_the_end_is_another() -> None:
    identifier = Identifier(0.3)
    assert identifier.update(Track("door", "1", 0, 1), A).identity == 1
    assert identifier.update(Track("door", "1", 1, 2), A).identity == 1  # the same one: it begins at the end, not after it
    changed = identifier.update(Track("door", "1", 1000, 1001), -A)
    assert (changed.identity, changed.previous) == (2, None)
    assert identifier.update(Track("door", "1", 1000, 1002), -A).identity == 2
    assert identifier.update(Track("door", "1", 2000, 2001), A).identity == 1  # who comes back
    starts = {i: sorted(track.start for track in tracks) for i, tracks in identifier.identities.items()}
    assert starts == {1: [1, 2000], 2: [1000]}


def test_tracks_of_one_name_merge_and_go() -> None:
    identifier = Identifier(0.3, max_age=3000)
    identifier.update(Track("door", "1", 0, 1), A)
    identifier.update(Track("door", "1", 1000, 1001), B)
    changed = identifier.update(Track("door", "1", 1000, 1500), A, frames=99)  # it was the same person
    assert (changed.identity, changed.previous, changed.merged) == (1, None, (2,))
    identifier.update(Track("door", "1", 2000, 2001), A)
    assert sorted(track.start for track in identifier.identities[1]) == [0, 1000, 2000]
    identifier.update(Track("yard", "1", 4000, 4100), A)
    assert sorted(track.start for track in identifier.identities[1]) == [1000, 2000, 4000]
    assert len(identifier._owner) == 3


def test_the_identity_that_was_left_may_become_the_same_again() -> None:
    def turned(degrees: float) -> NDArray[np.float64]:
        return np.cos(np.radians(degrees)) * A + np.sin(np.radians(degrees)) * B

    identifier = Identifier(0.3)
    identifier.update(Track("door", "1", 0, 5), turned(0))
    identifier.update(Track("yard", "1", 9, 10), turned(-40))
    assert identifier.update(Track("hall", "1", 20, 21), turned(35), frames=9).identity == 2  # too far from the two of 1
    changed = identifier.update(Track("yard", "1", 9, 12), turned(60))  # from 1 to 2, which without it is near to 1
    assert (changed.identity, changed.previous, changed.merged) == (1, None, (2,))


def test_somebody_is_forgotten() -> None:
    identifier = Identifier(0.3)
    identifier.update(Track("door", "1", 0, 5), A)
    identifier.update(Track("door", "2", 0, 5), B)
    identifier.update(Track("yard", "1", 9, 10), -A)
    identifier.update(Track("yard", "1", 9, 20), A)  # 3, which is 1
    assert identifier.resolve(3) == 1
    assert identifier.forget(3) == 2
    assert [track.key for tracks in identifier.identities.values() for track in tracks] == [("door", "2")]
    assert (set(identifier._owner), identifier._merged) == ({("door", "2")}, {})
    assert identifier.name(1) is None
    assert identifier.forget(1) == 0
    assert identifier.update(Track("yard", "1", 9, 30), A).identity == 4  # never given twice


def test_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    identifier, right = Identifier(0.3), Identifier._nearest

    def slow(*args: Any, **options: Any) -> Any:
        found = right(*args, **options)
        time.sleep(1e-4)  # others would come in between
        return found

    monkeypatch.setattr(Identifier, "_nearest", slow)

    def follow(camera: str) -> None:
        for number in range(40):
            for more in (1, 2):
                track = Track(camera, str(number), 10.0 * number, 10.0 * number + more)
                assert identifier.update(track, [A, B][number % 2]).identity in identifier.identities

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(follow, ("door", "yard", "hall", "roof")))
    assert {i: len(tracks) for i, tracks in identifier.identities.items()} == {1: 80, 2: 80}
    assert identifier._last == 2


def test_known_people_have_names(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "g", 8, "m") as gallery:
        gallery.enrol(A[None], "anna")
        identifier = Identifier(0.3, gallery=gallery)
        assert identifier.name(identifier.update(Track("door", "1", 0, 1), between(0.1), frames=1e39).identity) == "anna"
        assert identifier.name(identifier.update(Track("door", "2", 0, 1), B).identity) is None
    with (
        Gallery.create(tmp_path / "e", 8, "m", metric="euclidean") as other,
        pytest.raises(OptionError, match="gallery must be one of cosine"),
    ):
        Identifier(0.3, gallery=other)


def test_what_is_refused() -> None:
    identifier = Identifier(0.3)
    identifier.update(Track("door", "1", 0, 5), A)
    with pytest.raises(ShapeError, match="8 dimensions"):
        identifier.update(Track("door", "2", 0, 5), np.ones(7))
    with pytest.raises(ShapeError, match="not zero"):
        identifier.update(Track("door", "2", 0, 5), np.zeros(8))
    with pytest.raises(ShapeError, match=r"one vector of 8 dimensions that is not zero, got \[1, 8\]"):
        identifier.update(Track("door", "2", 0, 5), A[None])  # a row, as `encode` gives it
    for name in (2, np.ones(1)):
        with pytest.raises(OptionError, match="id must be text, as the camera is"):
            Track("door", name, 5, 6)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="seconds must be between two cameras"):
        Travel({"door,yard": 20})  # type: ignore[dict-item]
    for end in (4, np.inf, datetime.now(UTC)):
        with pytest.raises(OptionError, match="end must be a time"):
            Track("door", "2", 5, end)  # type: ignore[arg-type]
    for wrong in (-1, np.inf, "0.3"):
        for option in ("threshold", "hysteresis", "max_age", "same_camera_margin"):
            with pytest.raises(OptionError, match=f"^{option} must be"):
                Identifier(**{"threshold": 0.3, option: wrong})  # type: ignore[arg-type]
        with pytest.raises(OptionError, match="frames must be"):
            identifier.update(Track("door", "2", 0, 5), A, frames=wrong)  # type: ignore[arg-type]
    assert len(identifier.identities) == 1


# ---- drawn people ----


def colours(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What people wear, without a network: the mean colours of parts of the crop."""
    rows = np.array_split(image.astype(np.float64), 6)
    return np.array([part[:, part.shape[1] // 4 : -part.shape[1] // 4].mean(axis=(0, 1)) for part in rows]).ravel()


def drawn_tracks(root: Path) -> Iterator[tuple[Track, NDArray[np.float64], int]]:
    """People who walk past three cameras, each of its own light (taken out), in the order of time; with who they are."""
    from PIL import Image

    from stcanet_runtime.images.crops import list_images, parse_name

    crops: dict[tuple[int, int], list[NDArray[np.float64]]] = {}
    for path in list_images(root):
        if (known := parse_name(path)) is not None and known[0] > 0:
            crops.setdefault(known, []).append(colours(np.asarray(Image.open(path).convert("RGB"))))
    light = {c: np.mean([row for (_, camera), rows in crops.items() if camera == c for row in rows], axis=0) for _, c in crops}
    for (pid, camera), rows in sorted(crops.items(), key=lambda item: (item[0][1], item[0][0])):
        start = 100.0 * camera + 3 * pid
        yield Track(f"c{camera}", f"t{pid}", start, start + 10), np.mean(rows, axis=0) - light[camera], pid


def test_drawn_people(tmp_path: Path) -> None:
    from stcanet.data.synthetic import SynthConfig, generate

    settings = SynthConfig(
        identities=11, test_identities=10, cameras=3, images_per_camera=4, height=64, width=32, distractors=0
    )
    generate(tmp_path, settings)
    identifier = Identifier(0.25, Travel(default=20.0))
    truth = {}
    for track, embedding, pid in drawn_tracks(tmp_path / "bounding_box_test"):
        identifier.update(track, embedding)
        truth[track.key] = pid
    owner = {track.key: i for i, tracks in identifier.identities.items() for track in tracks}
    pairs = list(combinations(truth, 2))
    same = [(owner[a] == owner[b], truth[a] == truth[b]) for a, b in pairs]
    right = sum(found and true for found, true in same)
    precision, recall = right / max(1, sum(f for f, _ in same)), right / sum(t for _, t in same)
    assert precision > 0.85, (precision, recall)
    assert recall > 0.6, (precision, recall)


@pytest.mark.parametrize("travel", [{"seconds": {("door", "yard"): float("nan")}}, {"default": -1.0}, {"default": "5"}])
def test_travel_takes_times_only(travel: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="seconds must be a time of 0 or more"):
        Travel(**travel)
