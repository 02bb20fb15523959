"""Thresholds against counting by hand, and the picture of them."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stcanet_runtime import DataError, Gallery, OptionError, ShapeError, distance_matrix
from stcanet_runtime.pictures.curves import draw_calibration
from stcanet_runtime.retrieval.calibration import Scores, calibrate

Embeddings = NDArray[np.float32]
Labels = NDArray[np.int64]


def make_people(count: int = 600, identities: int = 40, dim: int = 16, noise: float = 0.5) -> tuple[Embeddings, Labels, Labels]:
    rng = np.random.default_rng(0)
    people = rng.integers(0, identities, count)
    x = rng.standard_normal((identities, dim))[people] + noise * rng.standard_normal((count, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), people, rng.integers(0, 3, count)


@pytest.mark.parametrize("cross_camera", [True, False])
def test_pairs_are_counted(cross_camera: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stcanet_runtime.retrieval.calibration._BLOCK", 50)
    x, people, cameras = make_people(120)
    found, scores = calibrate(x, people, cameras, 0.01, kind="pairs", cross_camera=cross_camera)
    matrix = distance_matrix(x, x)
    pairs = [(i, j) for i, j in combinations(range(120), 2) if not cross_camera or cameras[i] != cameras[j]]
    genuine = np.array([matrix[i, j] for i, j in pairs if people[i] == people[j]])
    impostor = np.array([matrix[i, j] for i, j in pairs if people[i] != people[j]])
    assert (found.genuine, found.impostor, found.cross_camera) == (len(genuine), len(impostor), cross_camera)
    np.testing.assert_array_equal(scores.impostor, np.sort(impostor))
    assert found.far == (impostor <= found.threshold).mean() <= 0.01
    assert found.frr == pytest.approx((genuine > found.threshold).mean())
    beyond = np.nextafter(np.float32(found.threshold), np.float32(2))
    assert (impostor <= beyond).mean() > 0.01  # no larger threshold would do


@pytest.mark.parametrize("known", [True, False])
def test_searches_are_counted(known: bool) -> None:
    x, people, cameras = make_people(600)
    found, scores = calibrate(x, people, cameras if known else None, 0.05)
    matrix = distance_matrix(x, x)
    groups = cameras if known else np.arange(600)
    hidden = groups[:, None] == groups
    same = people[:, None] == people
    impostor = np.where(hidden | same, np.inf, matrix).min(axis=1)
    genuine = np.where(hidden | ~same, np.inf, matrix).min(axis=1)
    np.testing.assert_array_equal(scores.impostor, np.sort(impostor))
    np.testing.assert_array_equal(scores.genuine, np.sort(genuine[np.isfinite(genuine)]))
    assert found.far == (impostor <= found.threshold).mean()
    assert 0.045 < found.far <= 0.05


@pytest.mark.parametrize("kind", ["pairs", "search"])
def test_how_much_nearer_people_are_in_one_camera(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stcanet_runtime.retrieval.calibration._BLOCK", 50)
    x, people, cameras = make_people(240)
    x += 0.4 * np.random.default_rng(1).standard_normal((3, x.shape[1])).astype(np.float32)[cameras]  # what each camera adds
    found, _ = calibrate(x, people, cameras, 0.05, kind=kind)
    distances, pairs = distance_matrix(x, x), np.triu_indices(240, 1)
    strangers, alike = (people[:, None] != people)[pairs], (cameras[:, None] == cameras)[pairs]
    accepted = (distances[pairs][strangers & ~alike] <= found.threshold).mean()  # by search it is another rate than 0.05
    within = np.sort(distances[pairs][strangers & alike])
    assert found.same_camera_margin == pytest.approx(found.threshold - within[int(accepted * len(within))], abs=1e-6)
    assert found.same_camera_margin > 0.02
    assert found.summary().endswith(f"; within a camera {found.same_camera_margin:.4f} less")
    assert calibrate(x, people, cameras, 0.05, kind=kind, cross_camera=False)[0].same_camera_margin is None
    assert calibrate(x, people, cameras=np.arange(240), far=0.05, kind=kind)[0].same_camera_margin is None  # all alone


def test_a_gallery_accepts_strangers_at_that_rate(tmp_path: Path) -> None:
    """The threshold is what `decide` needs: of people who are not enrolled, about so many are given a name."""
    x, people, _ = make_people(3000, 200, noise=0.35)
    half = people < 100
    threshold = calibrate(x[half], people[half], far=0.05)[0].threshold
    with Gallery.create(tmp_path / "g", x.shape[1], "m") as gallery:
        gallery.enrol(x[half], [f"p{i}" for i in people[half]])
        strangers = gallery.decide(x[~half], threshold)
        friends = gallery.decide(x[half], threshold)
    assert 0.02 < np.mean([decision.identity is not None for decision in strangers]) < 0.1
    assert all(decision.identity == f"p{i}" for decision, i in zip(friends, people[half], strict=True))


def test_equal_error() -> None:
    apart = Scores(np.array([0.1, 0.2], np.float32), np.array([0.5, 0.6], np.float32))
    mixed = Scores(np.linspace(0, 1, 1001, dtype=np.float32), np.linspace(0.5, 1.5, 1001, dtype=np.float32))
    assert apart.equal_error() == 0
    assert mixed.equal_error() == pytest.approx(0.25, abs=0.002)


def test_the_largest_threshold_at_a_rate() -> None:
    scores = Scores(np.zeros(1, np.float32), np.arange(1, 101, dtype=np.float32))
    for allowed in range(1, 100):  # 100 · 0.29 is less than 29 in float64
        assert scores.far(np.array([scores.threshold(allowed / 100)], np.float32)) == allowed / 100
    assert scores.threshold(np.nextafter(1.0, 0.0)) < 100


def test_a_rate_that_cannot_be_measured() -> None:
    x, people, cameras = make_people(50)
    with pytest.raises(DataError, match=r"needs at least 10,000 comparisons of different people, there are 50"):
        calibrate(x, people, cameras, 1e-4)


def test_a_rate_that_no_threshold_has() -> None:
    x, people, cameras = make_people(50)
    with pytest.raises(DataError, match=r"0\.1: in 50 of 50 comparisons of different people the distance is 0"):
        calibrate(np.ones_like(x), people, cameras, 0.1)


def test_what_cannot_be_calibrated() -> None:
    x, people, cameras = make_people(50)
    with pytest.raises(DataError, match="no genuine"):
        calibrate(x, np.arange(50), far=0.1)
    with pytest.raises(DataError, match="no impostor"):
        calibrate(x, np.zeros(50), far=0.1)
    with pytest.raises(DataError, match="no genuine"):
        calibrate(x, people, np.zeros(50), far=0.1)
    for options in ({"far": 0.0}, {"far": 1.0}, {"kind": "both"}, {"metric": "l1"}):
        with pytest.raises(OptionError):
            calibrate(x, people, cameras, **options)  # type: ignore[arg-type]
    with pytest.raises(ShapeError):
        calibrate(x, people[:-1], cameras)


def test_many_embeddings_are_drawn_from() -> None:
    x, people, cameras = make_people(600)
    found, _ = calibrate(x, people, cameras, 0.01, kind="pairs", max_embeddings=200)
    again, _ = calibrate(x, people, cameras, 0.01, kind="pairs", max_embeddings=200)
    assert found == again
    assert found.embeddings == 200
    assert calibrate(x, people, cameras, 0.05, max_embeddings=200)[0].embeddings == 600  # a search takes the whole gallery


def test_the_picture(tmp_path: Path) -> None:
    x, people, cameras = make_people(300)
    found, scores = calibrate(x, people, cameras, 0.02)
    draw_calibration(found, scores, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        colors = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        assert picture.size == (1040, 430)
    for color in ((208, 48, 48), (30, 120, 75)):
        assert (np.abs(colors.astype(int) - color).max(axis=1) < 8).sum() > 100
