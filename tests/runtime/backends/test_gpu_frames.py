"""Frames that a decoder left on a GPU: cut there, and read there by the model. On a model of a GPU; see gpu_model.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gpu_model
import numpy as np
import pytest
from detectors import write_probe
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from random_frames import random_boxes, random_frame

from stcanet_runtime import BackendError, Encoder, ShapeError, TrackletBuffer, backends
from stcanet_runtime.backends import gpu_crops, gpu_device
from stcanet_runtime.cameras.detector import Detector
from stcanet_runtime.images.boxes import crop_boxes
from stcanet_runtime.images.frames import FORMATS, Frame, as_frame
from stcanet_runtime.inference.contract import to_tensor
from stcanet_runtime.package.manifest import InputSpec

BOXES = [[2, 3, 40, 60], [50, 50, 9, 9], [-5, 10, 30, 1e9], [0.4, 0.6, 20.5, 30.5], [10, 10, 90, 14]]

pytestmark = pytest.mark.skipif(gpu_model.COMPILER is None, reason="no C++ compiler for the kernels on the CPU")


class Watched(gpu_model.Model):
    """Counts how often it is waited for."""

    waits = 0

    def finish(self) -> int:
        self.waits += 1
        return 3


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Watched:
    found = Watched()
    monkeypatch.setattr(gpu_device, "device", lambda: found)
    monkeypatch.setitem(backends._PROBES, "gpu", lambda: None)
    return found


def on(gpu: Any, planes: Sequence[NDArray[np.uint8]]) -> list[Any]:
    """The planes on the GPU; rows lie apart where they do."""
    return [gpu_model._on_device(plane) for plane in planes]


@pytest.mark.parametrize("format", FORMATS)
def test_a_frame_on_the_gpu_is_cut_there(gpu: Watched, format: str) -> None:
    rng = np.random.default_rng(7 + FORMATS.index(format))
    for height, width in ((61, 83), (2, 1), (120, 64)):
        frame = random_frame(rng, format, height, width)
        boxes = random_boxes(rng, gpu_crops._GROUP + 3, height, width)
        there = crop_boxes(on(gpu, frame.planes), boxes, format, 16, 8)
        assert isinstance(there.crops, gpu_model.DeviceArray)
        with backends.use_backend("reference"):  # which is for frames of the processor
            assert_array_equal(gpu.get(there.crops), crop_boxes(frame.planes, boxes, format, 16, 8).crops)
            assert isinstance(crop_boxes(on(gpu, frame.planes), boxes, format, 16, 8).crops, gpu_model.DeviceArray)


@pytest.mark.parametrize("format", ["nv12", "i420"])
def test_planes_of_one_array(gpu: Watched, format: str) -> None:
    stacked = np.random.default_rng(1).integers(0, 256, (30, 12), dtype=np.uint8)
    there = crop_boxes(*on(gpu, [stacked]), [[0, 0, 12, 20]], format, 9, 7)
    assert_array_equal(gpu.get(there.crops), crop_boxes(stacked, [[0, 0, 12, 20]], format, 9, 7).crops)


def test_no_boxes(gpu: Watched) -> None:
    frame = on(gpu, [np.zeros((9, 9, 3), np.uint8)])[0]
    crops, valid = crop_boxes(frame, [[5, 5, 1, 1]], "rgb", 16, 8)
    assert crops.shape == (0, 16, 8, 3)
    assert valid.tolist() == [False]


def test_planes_here_and_there(gpu: Watched) -> None:
    luma, chroma = np.zeros((4, 4), np.uint8), np.zeros((2, 4), np.uint8)
    with pytest.raises(ShapeError, match="must all be in the memory of the same device"):
        as_frame([*on(gpu, [luma]), chroma], "nv12")
    with pytest.raises(ShapeError, match="must be"):
        as_frame(on(gpu, [luma]), "nv12")
    with pytest.raises(ShapeError, match="a frame must be uint8"):
        as_frame(on(gpu, [np.zeros((4, 4, 3), np.float32)])[0], "rgb")


def test_without_cupy_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends._PROBES, "gpu", lambda: "CuPy is not installed")
    with pytest.raises(BackendError, match="CuPy is not installed"):
        crop_boxes(gpu_model._on_device(np.zeros((4, 4, 3), np.uint8)), [[0, 0, 2, 2]], "rgb", 8, 8)


# ---- and the model -------------------------------------------------------------------------------------------------


class Binding:
    """An IO binding that takes memory of the model of a GPU for what it is: memory of this process."""

    def __init__(self, binding: Any, log: list[Any]) -> None:
        self._binding, self._log = binding, log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._binding, name)

    def bind_input(self, name: str, kind: str, number: int, dtype: Any, shape: Any, place: int) -> None:
        self._log.append((kind, number, tuple(shape)))
        self._binding.bind_input(name, "cpu", 0, dtype, shape, place)


class CudaSession:
    """A session of the CPU provider whose inputs are said to be on a GPU."""

    def __init__(self, session: Any, log: list[Any]) -> None:
        self._session, self._log = session, log

    def io_binding(self) -> Binding:
        return Binding(self._session.io_binding(), self._log)

    def run_with_iobinding(self, binding: Binding, options: Any) -> None:
        self._session.run_with_iobinding(binding, options)

    def run(self, *_: Any) -> None:
        pytest.fail("inputs were copied to the processor")


@pytest.fixture
def frame() -> Frame:
    return as_frame(np.random.default_rng(3).integers(0, 256, (96, 64), dtype=np.uint8), "nv12")


@pytest.mark.parametrize(("kind", "provider"), [("package", "cuda"), ("clip_package", "tensorrt")])
def test_the_model_reads_the_crops_where_they_are(
    gpu: Watched, frame: Frame, kind: str, provider: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.load(request.getfixturevalue(kind), "cpu", batch_sizes=(3,))
    expected = encoder.encode_boxes(frame.planes, BOXES, "nv12")
    log: list[Any] = []
    monkeypatch.setattr(encoder.session, "provider", provider)
    monkeypatch.setattr(encoder.session, "_session", CudaSession(encoder.session._session, log))
    found = encoder.encode_boxes(on(gpu, frame.planes), BOXES, "nv12")
    assert_array_equal(found.embeddings, expected.embeddings)
    assert_array_equal(found.valid, expected.valid)
    assert type(found.embeddings) is np.ndarray
    assert [(kind, number, shape[0]) for kind, number, shape in log] == [("cuda", 3, 3), ("cuda", 3, 3)]
    assert gpu.waits == len(log) + 2  # and before and after the frame was cut


def test_a_graph_reads_bytes_that_lie_together(make_crop: Callable[..., NDArray[np.uint8]]) -> None:
    crops = np.stack([make_crop(seed) for seed in range(2)])
    tensor = to_tensor(crops[:, :, ::-1], InputSpec("images", 40, 20))
    assert tensor.flags.c_contiguous
    assert_array_equal(tensor, crops[:, :, ::-1])
    assert to_tensor(crops, InputSpec("images", 40, 20)) is crops


def test_other_providers_get_a_copy(gpu: Watched, frame: Frame, package: Path) -> None:
    encoder = Encoder.load(package, "cpu")
    expected = encoder.encode_boxes(frame.planes, BOXES, "nv12")
    found = encoder.encode_boxes(on(gpu, frame.planes), BOXES, "nv12")
    assert_array_equal(found.embeddings, expected.embeddings)


def test_tracks_keep_their_crops_on_the_processor(gpu: Watched, frame: Frame, clip_package: Path) -> None:
    encoder = Encoder.load(clip_package, "cpu")
    here, there = TrackletBuffer(encoder), TrackletBuffer(encoder)
    for _ in range(3):
        here.add_boxes(frame.planes, BOXES, "nv12", range(5))
        there.add_boxes(on(gpu, frame.planes), BOXES, "nv12", range(5))
    kept = there._tracks[0].last
    assert all(type(crop) is np.ndarray for crop in kept)
    there._ready_after = here._ready_after = 1
    expected = here.embeddings()
    for track, row in there.embeddings().items():
        assert_array_equal(row, expected[track])


def test_a_detector_looks_at_it(gpu: Watched, frame: Frame, tmp_path: Path) -> None:
    detector = Detector.load(write_probe(tmp_path / "p.onnx"), "cpu", 1)
    assert_array_equal(detector.detect(on(gpu, frame.planes), "nv12"), detector.detect(frame.planes, "nv12"))


def test_a_graph_of_floats_gets_them_from_the_processor(gpu: Watched, make_crop: Callable[..., NDArray[np.uint8]]) -> None:
    spec = InputSpec("images", 40, 20, layout="NCHW", dtype="float32", mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3))
    crops = make_crop()[None]
    tensor = to_tensor(gpu_model._on_device(crops), spec)
    assert type(tensor) is np.ndarray
    assert_array_equal(tensor, to_tensor(crops, spec))
