"""What a target chooses, and that a graph it does not take is refused with the operator's name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graph_edits import edited
from numpy.testing import assert_allclose
from onnx import TensorProto, helper, numpy_helper

from stcanet_export.native import NATIVE
from stcanet_export.parity.gate import check_parity
from stcanet_export.parity.sides import PackageSide
from stcanet_export.parity.tolerance import TOLERANCES
from stcanet_export.variants.support import TENSORRT
from stcanet_export.variants.targets import TARGETS, check_target, find_target
from stcanet_runtime.errors import OptionError, PackageError
from stcanet_runtime.package.contents import load_manifest
from stcanet_runtime.package.manifest import CLIPS, IMAGES, InputSpec, Manifest
from stcanet_runtime.package.profile import read_profile

Model = onnx.ModelProto


@pytest.mark.parametrize("package", ["image_package", "clip_package"])
def test_tensorrt_takes_the_graphs(package: str, request: pytest.FixtureRequest) -> None:
    assert TENSORRT.problems(onnx.load(request.getfixturevalue(package) / "model.onnx")) == []


def test_uint8_is_only_cast(image_package: Path, tmp_path: Path) -> None:
    def measure_the_input(model: Model) -> None:
        next(node for node in model.graph.node if node.op_type == "Shape").input[0] = "images"

    path = edited(image_package, tmp_path, measure_the_input)
    with pytest.raises(PackageError, match=r"'jetson' does not take this graph: operator Shape .* does not take UINT8"):
        check_target(find_target("jetson"), path, load_manifest(image_package))


def test_an_operator_that_is_not_in_the_table(image_package: Path, tmp_path: Path) -> None:
    def other(model: Model) -> None:
        next(node for node in model.graph.node if node.op_type == "Sigmoid").op_type = "HardSwish"

    with pytest.raises(PackageError, match=r"operator HardSwish \(blocks\.2\.part/Sigmoid\) is not supported"):
        check_target(find_target("tensorrt"), edited(image_package, tmp_path, other), load_manifest(image_package))


def test_an_opset_that_is_too_new(image_package: Path, tmp_path: Path) -> None:
    def newer(model: Model) -> None:
        model.opset_import[0].version = 25

    path = edited(image_package, tmp_path, newer)
    with pytest.raises(PackageError, match="opset 25 is not from 9 to 24"):
        check_target(find_target("tensorrt"), path, load_manifest(image_package))


@pytest.mark.parametrize(("point", "problems"), [(0, 0), (3, 1)])
def test_zero_points(point: int, problems: int) -> None:
    nodes = [helper.make_node("QuantizeLinear", ["x", "scale", "point"], ["q"], "stem/QuantizeLinear")]
    nodes += [helper.make_node("DequantizeLinear", ["q", "scale"], ["y"], "stem/DequantizeLinear")]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    constants = [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.int8(point), "point")]
    model = helper.make_model(
        helper.make_graph(nodes, "quantised", values[:1], values[1:], constants), opset_imports=[helper.make_opsetid("", 18)]
    )
    assert len(TENSORRT.problems(model)) == problems


def test_facts(image_package: Path) -> None:
    manifest = load_manifest(image_package)
    facts = check_target(find_target("tensorrt"), image_package / "model.onnx", manifest)
    assert facts["profile"] == {"min": [1, 64, 32, 3], "opt": [8, 64, 32, 3], "max": [32, 64, 32, 3]}
    assert facts["checked"].startswith("static check only")
    assert "10.15" in facts["checked"]
    assert check_target(find_target("cpu"), image_package / "model.onnx", manifest)["profile"] is None


@pytest.mark.parametrize(
    ("asked", "explained"),
    [
        ({}, ["opset 18", "fp32", "any batch"]),
        ({"precision": "int8"}, ["opset 18", "int8", "any batch"]),
        ({"precision": "fp16", "opset": 21}, ["any batch"]),
        ({"input": InputSpec(IMAGES, 64, 32, batch=8)}, ["opset 18", "fp32"]),
    ],
)
def test_only_its_own_choices_are_explained(image_package: Path, asked: dict[str, Any], explained: list[str]) -> None:
    reasons = find_target("cpu").reasons(replace(load_manifest(image_package), **asked))
    assert [reason.partition(":")[0] for reason in reasons] == explained


def test_profiles_of_clips() -> None:
    spec = InputSpec(CLIPS, 64, 32, clip_length=4, dynamic_time=True)
    assert find_target("jetson").profile(spec) == {"min": [1, 4, 64, 32, 3], "opt": [4, 4, 64, 32, 3], "max": [8, 4, 64, 32, 3]}
    assert find_target("openvino").profile(InputSpec(IMAGES, 64, 32)) is None


@pytest.mark.parametrize("package", ["image_package", "clip_package"])
@pytest.mark.parametrize(("target", "batches"), [("jetson", (1, 4, 8)), ("tensorrt", (1, 8, 32)), ("cpu", None)])
def test_the_runtime_reads_its_profile(
    package: str, target: str, batches: tuple[int, ...] | None, request: pytest.FixtureRequest
) -> None:
    manifest = load_manifest(request.getfixturevalue(package))
    facts = check_target(find_target(target), request.getfixturevalue(package) / "model.onnx", manifest)
    made = Manifest.from_json(replace(manifest, conversion={"target": facts}).to_json())
    assert read_profile(made) == batches
    assert read_profile(replace(made, input=replace(made.input, batch=8))) is None


def test_no_such_target() -> None:
    with pytest.raises(OptionError, match="'cpu', 'openvino', 'tensorrt' or 'jetson'"):
        find_target("coral")
    assert all(set(target.why) == {"opset", "precision", "int8", "batches"} for target in TARGETS.values())


def test_openvino_by_itself(image_package: Path) -> None:
    """Where it is installed; it offers the CPU also where its provider plugin lists no device."""
    pytest.importorskip("openvino")
    report = check_parity(image_package, image_package, provider=NATIVE, tolerance=TOLERANCES["fp16"])
    report.raise_if_failed()
    assert report.candidate["provider"] == NATIVE
    facts = check_target(find_target("openvino"), image_package / "model.onnx", load_manifest(image_package))
    assert facts["checked"].startswith("run: OpenVINO")


def test_openvino_by_itself_takes_boxes(image_package: Path) -> None:
    pytest.importorskip("openvino")
    encoder = PackageSide(image_package, NATIVE).encoder
    frame = np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8)
    rows = encoder.encode_boxes(frame, [[10, 5, 40, 70]], "rgb").embeddings
    assert_allclose(rows, encoder.encode([frame[5:70, 10:40]], "rgb"), atol=1e-6)
