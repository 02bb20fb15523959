"""A model package made by hand, so that the runtime is tested without torch and without the exporter; all backends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gpu_model
import numpy as np
import onnx
import pytest
from implementations import IMPLEMENTATIONS, Implementation
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from stcanet_runtime import backends
from stcanet_runtime.backends import gpu_device
from stcanet_runtime.files import sha256_file
from stcanet_runtime.package.manifest import METADATA_KEY, InputSpec, Manifest, OutputSpec

HEIGHT, WIDTH, DIM, FRAMES = 32, 16, 8, 4
UInt8Array = NDArray[np.uint8]


_GPU = {Implementation("gpu", "device"): [pytest.mark.gpu]}
_HERE = [pytest.param(one, id=str(one), marks=_GPU.get(one, [])) for one, missing in IMPLEMENTATIONS.items() if not missing]


@pytest.fixture(scope="module", params=_HERE)
def implementation(request: pytest.FixtureRequest) -> Iterator[Implementation]:
    """Every backend but the reference, and every instruction set, that can run here; the kernels of the GPU on the CPU, too."""
    chosen: Implementation = request.param
    with pytest.MonkeyPatch.context() as patch:
        if chosen.isa == "model":
            patch.setattr(gpu_device, "device", gpu_model.Model)
            patch.setitem(backends._PROBES, "gpu", lambda: None)
        yield chosen


@pytest.fixture(scope="module")
def backend(implementation: Implementation) -> Iterator[str]:
    """The name of every backend but the reference; its instruction set is set for all calls."""
    with pytest.MonkeyPatch.context() as patch:
        if implementation.name == "compiled":
            patch.setenv("STCANET_ISA", implementation.isa)
        yield implementation.name


@pytest.fixture(scope="session")
def compiled() -> Any:
    """The compiled backend, where it is built."""
    if (problem := backends.available()["compiled"]) is not None:
        pytest.skip(problem)
    return backends.get_backend("compiled")


def make_manifest(clip_length: int | None = None, sha256: str | None = None) -> Manifest:
    return Manifest(
        preset="test",
        input=InputSpec("images" if clip_length is None else "clips", HEIGHT, WIDTH, clip_length),
        output=OutputSpec(DIM),
        opset=18,
        created="2026-01-01T00:00:00+00:00",
        generator="tests",
        model_sha256=sha256,
        source={"training_data": "none"},
    )


def make_model(clip_length: int | None = None) -> onnx.ModelProto:
    """uint8 NHWC → convolution → average over space (and time) → unit length, with random weights."""
    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.standard_normal((DIM, 3, 3, 3)).astype(np.float32),
        "scale": np.float32(1 / 255),
        "one": np.array([1], np.int64),
        "frames": np.array([-1, HEIGHT, WIDTH, 3], np.int64),
        "regroup": np.array([-1, clip_length or 1, DIM], np.int64),
    }
    name = "images" if clip_length is None else "clips"
    nodes = [
        helper.make_node("Cast", [name], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "frames"], ["nhwc"]),
        helper.make_node("Transpose", ["nhwc"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "kernel"], ["conv"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "regroup"], ["grouped"]),
        helper.make_node("ReduceMean", ["grouped", "one"], ["feature"], keepdims=0),
        helper.make_node("ReduceL2", ["feature", "one"], ["length"], keepdims=1),
        helper.make_node("Div", ["feature", "length"], ["embeddings"]),
    ]
    outputs = [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", DIM])]
    if clip_length is not None:
        nodes.append(helper.make_node("Squeeze", ["length", "one"], ["norms"]))
        outputs.append(helper.make_tensor_value_info("norms", TensorProto.FLOAT, ["batch"]))
    shape: list[str | int | None] = ["batch", *([] if clip_length is None else [clip_length]), HEIGHT, WIDTH, 3]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, shape)],
        outputs,
        [numpy_helper.from_array(np.asarray(value), key) for key, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def write_package(folder: Path, clip_length: int | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    model = make_model(clip_length)
    helper.set_model_props(model, {METADATA_KEY: make_manifest(clip_length).to_json()})
    onnx.save(model, folder / "model.onnx")
    manifest = make_manifest(clip_length, sha256_file(folder / "model.onnx"))
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package that takes images, fresh for each test: it may be damaged."""
    return write_package(tmp_path / "package")


@pytest.fixture
def clip_package(tmp_path: Path) -> Path:
    """A package that takes clips of four frames."""
    return write_package(tmp_path / "clip-package", FRAMES)


@pytest.fixture
def make_crop() -> Callable[..., UInt8Array]:
    """Makes random crops ``[height, width, 3]``, the same for the same seed."""

    def make(seed: int = 0, height: int = 40, width: int = 20) -> UInt8Array:
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)

    return make


@pytest.fixture
def crops(tmp_path: Path, make_crop: Callable[..., UInt8Array]) -> Path:
    """A folder of six PNG crops: three people, two cameras."""
    folder = tmp_path / "crops"
    folder.mkdir()
    for pid in (1, 2, 3):
        for camera in (1, 2):
            noise = make_crop(100 * pid + camera).astype(np.float64)
            crop = (0.9 * make_crop(pid) + 0.1 * noise).astype(np.uint8)
            Image.fromarray(crop).save(folder / f"{pid:04d}_c{camera}s1_000000_00.png")
    return folder
