"""Adapters against the real packages; each test is skipped where its package is missing. `.ci/adapters` has them all."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from stcanet_runtime import Encoder
from stcanet_runtime.adapters.boxmot import ReIDModel
from stcanet_runtime.adapters.deep_sort import Embedder
from stcanet_runtime.adapters.supervision import embed_detections
from stcanet_runtime.adapters.torchreid import FeatureExtractor

MakeCrop = Callable[..., NDArray[np.uint8]]
HEIGHT, WIDTH = 120, 200
OUTSIDE = [WIDTH + 10, 5, WIDTH + 40, 50]


@pytest.fixture
def encoder(package: Path) -> Encoder:
    return Encoder.load(package, "cpu", threads=1)


def package_or_skip(name: str) -> Any:
    with warnings.catch_warnings():  # theirs are not ours to mend
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def walk(step: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A BGR frame on which two people walk, and their boxes."""
    frame = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    boxes = [[10 + 3 * step, 20, 40 + 3 * step, 90], [150 - 3 * step, 30, 180 - 3 * step, 100]]
    for seed, (x1, y1, x2, y2) in enumerate(boxes):
        frame[y1:y2, x1:x2] = np.random.default_rng(seed).integers(0, 256, (70, 30, 3), dtype=np.uint8) // (1 + 3 * seed)
    return frame, np.array(boxes, np.float64)


def test_boxmot_model_gives_unit_rows_even_for_boxes_outside(encoder: Encoder) -> None:
    frame, boxes = walk(0)
    rows = ReIDModel(encoder).get_features(np.vstack([boxes, OUTSIDE]), frame)
    assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert_allclose(rows[:2], encoder.encode_boxes(frame, boxes, "bgr").embeddings, atol=1e-6)
    assert ReIDModel(encoder).get_features(np.empty((0, 4)), frame).shape == (0, encoder.dim)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tracker_name", ["BotSort", "StrongSort", "DeepOcSort"])
def test_boxmot_trackers(encoder: Encoder, tracker_name: str) -> None:
    boxmot = package_or_skip("boxmot")
    model = ReIDModel(encoder)
    model.warmup()
    tracker = getattr(boxmot, tracker_name)(reid_model=model)
    given: list[int] = []
    for step in range(8):
        frame, boxes = walk(step)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                model, "get_features", lambda *args: given.append(len(args[0])) or ReIDModel(encoder).get_features(*args)
            )
            found = np.asarray(tracker.update(np.hstack([boxes, [[0.9, 0], [0.8, 0]]]), frame))
    assert len({row[4] for row in found.tolist()}) == 2
    assert sum(given) >= 2 * 7  # the tracker asked for nearly every box


@pytest.mark.filterwarnings("ignore")
def test_deep_sort_realtime(encoder: Encoder) -> None:
    tracking = package_or_skip("deep_sort_realtime.deepsort_tracker")
    tracker = tracking.DeepSort(embedder=None, n_init=2)
    tracker.embedder = Embedder(encoder)
    for step in range(6):
        frame, boxes = walk(step)
        raw = [([x1, y1, x2 - x1, y2 - y1], 0.9, "person") for x1, y1, x2, y2 in [*boxes.tolist(), OUTSIDE]]
        tracks = tracker.update_tracks(raw, frame=frame)
    confirmed = [track for track in tracks if track.is_confirmed()]
    assert len(confirmed) >= 2
    assert all(np.isfinite(track.get_feature()).all() for track in confirmed if track.get_feature() is not None)


def test_deep_sort_embedder_takes_crops_without_a_pixel(encoder: Encoder, make_crop: MakeCrop) -> None:
    crops = [make_crop(0), np.empty((0, 20, 3), np.uint8), make_crop(1)]
    rows = Embedder(encoder).predict(crops)
    assert_allclose(rows[::2], encoder.encode(crops[::2], "bgr"), atol=1e-6)
    assert_allclose(np.linalg.norm(rows[1]), 1)
    assert Embedder(encoder).predict([]) == []


def test_supervision_detections(encoder: Encoder) -> None:
    supervision = package_or_skip("supervision")
    frame, boxes = walk(0)
    detections = supervision.Detections(xyxy=np.vstack([boxes, OUTSIDE]), confidence=np.array([0.9, 0.8, 0.7]))
    assert embed_detections(encoder, frame, detections) is detections
    kept = detections[detections.confidence < 0.85]
    assert kept.data["embedding_valid"].tolist() == [True, False]
    assert_array_equal(kept.data["embeddings"], encoder.encode_boxes(frame, kept.xyxy, "bgr").embeddings)
    merged = supervision.Detections.merge([kept, detections[:1]])
    assert merged.data["embeddings"].shape == (3, encoder.dim)
    empty = embed_detections(encoder, frame, supervision.Detections.empty())
    assert empty.data["embeddings"].shape == (0, encoder.dim)


def test_whatever_has_boxes_and_data(encoder: Encoder) -> None:
    frame, boxes = walk(0)
    found = embed_detections(encoder, frame, SimpleNamespace(xyxy=boxes, data={}))
    assert_array_equal(found.data["embeddings"], encoder.encode_boxes(frame, boxes, "bgr").embeddings)


def test_feature_extractor_takes_what_that_of_torchreid_takes(package: Path, encoder: Encoder, crops: Path) -> None:
    extractor = FeatureExtractor(package, providers="cpu", threads=1)
    paths = sorted(str(path) for path in crops.iterdir())
    arrays = [np.asarray(Image.open(path)) for path in paths]
    expected = encoder.encode(paths)
    assert_array_equal(extractor(paths), expected)
    assert_array_equal(extractor(arrays), expected)
    assert_array_equal(extractor(np.stack(arrays)), expected)
    assert_allclose(extractor([paths[0], arrays[1]]), expected[:2], atol=1e-6)
    for single in (paths[0], Path(paths[0]), arrays[0], Image.open(paths[0])):
        assert_allclose(extractor(single), expected[:1], atol=1e-6)
    bgr = FeatureExtractor(package, color="bgr", providers="cpu", threads=1)
    assert_array_equal(bgr([array[:, :, ::-1] for array in arrays]), expected)
