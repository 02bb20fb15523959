"""Detectors that users bring: what they are shown, what becomes of their boxes, and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectors import SIZE, write_detector, write_probe
from onnx import TensorProto

from stcanet_runtime import OptionError, PackageError
from stcanet_runtime.cameras import detector as detector_module
from stcanet_runtime.cameras.detector import Detector
from stcanet_runtime.inference.providers import Resources
from stcanet_runtime.inference.session import Session

ROWS = [[8, 4, 24, 30, 0.9, 0], [1, 1, 9, 9, 0.3, 0], [30, 2, 40, 12, 0.8, 2], [40, 10, 60, 28, 0.5, 0]]


def test_boxes_come_in_pixels_of_the_frame(tmp_path: Path) -> None:
    detector = Detector.load(write_detector(tmp_path / "d.onnx", ROWS), "cpu", 1)
    wide = np.zeros((64, 128, 3), np.uint8)  # scaled by a half, in the upper half of the picture
    assert detector.detect(wide, "rgb").tolist() == [[16, 8, 48, 60], [80, 20, 120, 56]]
    assert detector.detect(np.zeros((96, 64), np.uint8), "nv12").tolist() == [[8, 4, 24, 30], [40, 10, 60, 28]]


def test_score_and_class_choose(tmp_path: Path) -> None:
    path = write_detector(tmp_path / "d.onnx", ROWS)
    frame = np.zeros((SIZE, SIZE, 3), np.uint8)
    assert len(Detector.load(path, "cpu", 1, threshold=0.2).detect(frame, "rgb")) == 3
    assert Detector.load(path, "cpu", 1, person=2).detect(frame, "rgb").tolist() == [[30, 2, 40, 12]]
    assert Detector.load(path, "cpu", 1, threshold=1.0).detect(frame, "rgb").shape == (0, 4)


@pytest.mark.parametrize("format", ["rgb", "bgr"])
def test_the_model_sees_rgb_in_0_to_1_and_grey_beside_the_frame(tmp_path: Path, format: str) -> None:
    frame = np.zeros((32, SIZE, 3), np.uint8)
    frame[:] = (255, 102, 0) if format == "rgb" else (0, 102, 255)
    seen = Detector.load(write_probe(tmp_path / "p.onnx"), "cpu", 1).detect(frame, format)[0] / SIZE
    assert np.allclose(seen, [1, 0.4, 0, 114 / 255], atol=1e-6)


@pytest.mark.parametrize("columns", [5, 84])
def test_other_outputs_are_refused(tmp_path: Path, columns: int) -> None:
    path = write_detector(tmp_path / "d.onnx", [[0.0] * columns], columns)
    with pytest.raises(
        PackageError, match=rf"\[1, N, 6\] first; this one has float \[1, 3, 64, 64\] and float \[1, 1, {columns}\]"
    ):
        Detector.load(path, "cpu", 1)


def test_other_types_and_models_of_people_are_refused(tmp_path: Path, package: Path) -> None:
    with pytest.raises(PackageError, match="this one has double"):
        Detector.load(write_detector(tmp_path / "d.onnx", ROWS, kind=TensorProto.DOUBLE), "cpu", 1)
    with pytest.raises(PackageError, match="this one has uint8"):
        Detector.load(package / "model.onnx", "cpu", 1)
    with pytest.raises(OptionError, match="threshold must be from 0 to 1"):
        Detector.load(write_detector(tmp_path / "f.onnx", ROWS), "cpu", 1, threshold=2)


def test_what_is_compiled_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Resources] = []
    right = detector_module.open_session

    def open_session(path: Path, providers: str, resources: Resources) -> Session:
        asked.append(resources)
        return right(path, providers, resources=resources)

    monkeypatch.setattr(detector_module, "open_session", open_session)
    Detector.load(write_detector(tmp_path / "d.onnx", ROWS), "cpu", 1, cache=str(tmp_path))
    assert asked == [Resources(threads=1, cache=tmp_path)]


def test_warming_up_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector.load(write_detector(tmp_path / "d.onnx", ROWS), "cpu", 1)
    shapes, right = [], detector._session.run

    def run(feeds: Any) -> Any:
        shapes.append(feeds["picture"].shape)
        return right(feeds)

    monkeypatch.setattr(detector._session, "run", run)
    detector.warm_up(callers=2)
    assert shapes == [(1, 3, SIZE, SIZE)] * 2
