"""One network behind every contract: the runtime gives the same embeddings for the same crops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose
from onnx import TensorProto, helper, numpy_helper

from stcanet_runtime import Encoder, InputSpec, Manifest, ManifestError, OutputSpec, PackageError, ShapeError
from stcanet_runtime.inference.throughput import measure
from stcanet_runtime.package.manifest import METADATA_KEY
from stcanet_runtime.preprocess import IMAGENET_MEAN, IMAGENET_STD, normalize

HEIGHT, WIDTH, DIM, PARTS = 16, 8, 6, 4
CROPS = np.random.default_rng(0).integers(0, 256, (5, HEIGHT, WIDTH, 3), dtype=np.uint8)
FLOAT_INPUT = InputSpec(
    "images", HEIGHT, WIDTH, layout="NCHW", dtype="float32", mean=IMAGENET_MEAN, std=IMAGENET_STD
)  # fmt: skip


def manifest_of(spec: InputSpec, **output: Any) -> Manifest:
    return Manifest("test", spec, OutputSpec(DIM, **output), 18, "2026-01-01T00:00:00+00:00", "tests")


def write_model(path: Path, manifest: Manifest, batch_in_graph: int | str | None = None) -> Path:
    """(normalise →) convolution → mean; beside it a map per part. Random weights, the same ones each time."""
    rng, spec, output = np.random.default_rng(1), manifest.input, manifest.output
    std = np.float32(IMAGENET_STD)
    weights = {
        "kernel": rng.standard_normal((DIM, 3, 3, 3)).astype(np.float32),
        "part_kernel": rng.standard_normal((PARTS, DIM, 1, 1)).astype(np.float32),
        "scale": 1 / (255 * std),
        "shift": -np.float32(IMAGENET_MEAN) / std,
        "space": np.array([2, 3], np.int64),
        "one": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["nchw", "kernel"], ["conv"]),
        helper.make_node("ReduceMean", ["conv", "space"], ["feature"], keepdims=0),
    ]
    if spec.dtype == "uint8":
        nodes = [
            helper.make_node("Cast", ["images"], ["raw"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["raw", "scale"], ["scaled"]),
            helper.make_node("Add", ["scaled", "shift"], ["nhwc"]),
            helper.make_node("Transpose", ["nhwc"], ["nchw"], perm=[0, 3, 1, 2]),
            *nodes,
        ]
    else:
        nodes[0].input[0] = "images"
    if output.normalized:
        nodes.append(helper.make_node("LpNormalization", ["feature"], [output.name], axis=1))
    else:
        nodes[-1].output[0] = output.name
    for name in output.part_maps:
        nodes.append(helper.make_node("Conv", ["conv", "part_kernel"], [f"{name}_logits"]))
        nodes.append(helper.make_node("Sigmoid", [f"{name}_logits"], [name]))
    rows = batch_in_graph or spec.batch or "batch"
    kind = TensorProto.UINT8 if spec.dtype == "uint8" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("images", kind, [rows, *spec.shape[1:]])],
        [
            helper.make_tensor_value_info(output.name, TensorProto.FLOAT, [rows, DIM]),
            *(
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, PARTS, HEIGHT - 2, WIDTH - 2])
                for name in output.part_maps
            ),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})
    onnx.save(model, path)
    return path


@pytest.fixture
def expected(tmp_path: Path) -> np.ndarray:
    own = write_model(tmp_path / "own.onnx", manifest_of(InputSpec("images", HEIGHT, WIDTH)))
    return Encoder.load(own, "cpu").embed_batch(CROPS)[0]


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("batch", [None, 1, 2, 8])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_same_embeddings(tmp_path: Path, expected: np.ndarray, dtype: str, batch: int | None, normalized: bool) -> None:
    spec = InputSpec("images", HEIGHT, WIDTH) if dtype == "uint8" else FLOAT_INPUT
    manifest = manifest_of(replace(spec, batch=batch), name="output", normalized=normalized)
    encoder = Encoder.load(write_model(tmp_path / "m.onnx", manifest), "cpu")
    assert encoder.manifest == manifest
    actual, norms = encoder.embed_batch(CROPS)
    assert (norms is None) == normalized  # what the features were long tells only a graph that gives them
    assert_allclose(actual, expected, atol=1e-6)
    assert_allclose(np.linalg.norm(actual, axis=1), 1, atol=1e-6)
    nothing, lengths = encoder.embed_batch(CROPS[:0])
    assert (nothing.shape, lengths is None) == ((0, DIM), normalized)
    assert_allclose(encoder.encode(list(CROPS), color="rgb", batch_size=3), expected, atol=1e-6)


def test_part_maps(tmp_path: Path, expected: np.ndarray) -> None:
    manifest = manifest_of(replace(FLOAT_INPUT, batch=2), part_maps=("a", "b"))
    encoder = Encoder.load(write_model(tmp_path / "m.onnx", manifest), "cpu")
    assert_allclose(encoder.embed_batch(CROPS)[0], expected, atol=1e-6)
    maps = encoder.part_maps(CROPS)
    assert [values.shape for values in maps] == [(5, PARTS, HEIGHT - 2, WIDTH - 2)] * 2
    assert_allclose(maps[0][4:], encoder.part_maps(CROPS[4:])[0], atol=1e-6)
    assert 0 <= maps[0].min() < maps[0].max() <= 1
    with pytest.raises(ShapeError, match="at least one crop"):
        encoder.part_maps(CROPS[:0])
    with pytest.raises(ShapeError, match=r"uint8 \[any, 16, 8, 3\]"):
        encoder.part_maps(CROPS[:, :8])


def test_bench_makes_the_crops_of_any_contract(tmp_path: Path) -> None:
    encoder = Encoder.load(write_model(tmp_path / "m.onnx", manifest_of(FLOAT_INPUT)), "cpu")
    assert measure(encoder, batch=2, seconds=0).runs == 5


def test_a_package_without_part_maps_says_so(tmp_path: Path) -> None:
    encoder = Encoder.load(write_model(tmp_path / "m.onnx", manifest_of(FLOAT_INPUT)), "cpu")
    with pytest.raises(PackageError, match="--part-maps"):
        encoder.part_maps(CROPS)


def test_normalisation_is_the_textbook_one() -> None:
    clips = CROPS[None]
    expected = (clips / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    actual = normalize(clips, IMAGENET_MEAN, IMAGENET_STD)
    assert (actual.dtype, actual.shape, actual.flags.c_contiguous) == (np.float32, (1, 5, 3, HEIGHT, WIDTH), True)
    assert_allclose(actual, np.moveaxis(expected, -1, 2), atol=1e-6)


@pytest.mark.parametrize(
    ("promised", "word"),
    [
        (manifest_of(replace(FLOAT_INPUT, batch=2)), "input is"),
        (manifest_of(InputSpec("images", HEIGHT, WIDTH)), "uint8"),
        (manifest_of(FLOAT_INPUT, name="output"), "output 'output'"),
        (manifest_of(FLOAT_INPUT, part_maps=("maps",)), "output 'maps'"),
        (manifest_of(FLOAT_INPUT), "output 'more', which the manifest does not know"),
    ],
)
def test_a_graph_that_breaks_its_promise(tmp_path: Path, promised: Manifest, word: str) -> None:
    path = write_model(tmp_path / "m.onnx", manifest_of(FLOAT_INPUT, part_maps=("more",) if "more" in word else ()))
    model = onnx.load(path)
    helper.set_model_props(model, {METADATA_KEY: promised.to_json()})
    onnx.save(model, path)
    with pytest.raises(ManifestError, match=word):
        Encoder.load(path, "cpu")


def edited(path: Path, operator: str, value: np.ndarray | np.float32, output: str) -> Encoder:
    """The encoder of a model whose output goes through one more node with a constant."""
    model = onnx.load(path)
    maker = next(node for node in model.graph.node if output in node.output)
    maker.output[list(maker.output).index(output)] = "before"
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), "value"))
    model.graph.node.append(helper.make_node(operator, ["before", "value"], [output]))
    onnx.save(model, path)
    return Encoder.load(path, "cpu")


def test_embeddings_that_are_not_of_unit_length(tmp_path: Path) -> None:
    encoder = edited(write_model(tmp_path / "m.onnx", manifest_of(FLOAT_INPUT)), "Mul", np.float32(3), "embeddings")
    with pytest.raises(PackageError, match=r"of length 3, and the manifest says of unit length"):
        encoder.embed_batch(CROPS)


def test_zeros_are_left_as_they_are(tmp_path: Path) -> None:
    encoder = edited(write_model(tmp_path / "m.onnx", manifest_of(FLOAT_INPUT)), "Mul", np.float32(0), "embeddings")
    assert not encoder.embed_batch(CROPS)[0].any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_lengths_that_are_no_numbers(clip_package: Path, value: float) -> None:
    """As half precision gives them where their squares overflow: weights of clips, which would make the mean NaN."""
    encoder = edited(clip_package / "model.onnx", "Mul", np.float32(value), "norms")
    with pytest.raises(PackageError, match="not finite"):
        encoder.embed_batch(np.full((2, 4, 32, 16, 3), 9, np.uint8))


def test_a_batch_that_the_model_cannot_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its shape is that of the example that it was exported with."""
    encoder = edited(write_model(tmp_path / "m.onnx", manifest_of(FLOAT_INPUT)), "Reshape", np.array([1, DIM]), "embeddings")
    assert encoder.embed_batch(CROPS[:1])[0].shape == (1, DIM)
    with pytest.raises(PackageError, match=r"does not run images \[5, 3, 16, 8\] on provider 'cpu'"):
        encoder.embed_batch(CROPS)
    assert capfd.readouterr() == ("", "")  # ONNX Runtime would say it too
