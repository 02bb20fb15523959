"""fp16 and int8 packages: through the gate, readable, and saying how they were made."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from stcanet.model import STCANet
from stcanet_export.graph import verify
from stcanet_export.package import ExportResult, export_package
from stcanet_export.parity.gate import check_parity
from stcanet_export.parity.probes import procedural
from stcanet_export.parity.tolerance import TOLERANCES, from_bar, tolerance_between
from stcanet_export.variants import precision
from stcanet_export.variants.calibration import METHODS, MIN_CROPS, Calibration
from stcanet_export.variants.half import to_half
from stcanet_export.variants.precision import Precision, lower
from stcanet_export.variants.quantize import OPERATORS, Quantizer, Scheme, _quantisable
from stcanet_export.variants.units import unit_of, units_of
from stcanet_export.variants.variant import Variant
from stcanet_runtime.errors import DataError, OptionError, PackageError
from stcanet_runtime.inference.golden import MIN_COSINE, verify_package
from stcanet_runtime.package.contents import load_manifest
from stcanet_runtime.package.manifest import PRECISIONS


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn crops as a folder, in place of real people."""
    folder = tmp_path_factory.mktemp("drawn")
    crops = procedural(64, 32)
    for name, crop in crops.items():
        Image.fromarray(crop).save(folder / f"{name}.png")
        Image.fromarray(crop[:, ::-1]).save(folder / f"{name}-mirrored.png")
    return folder


@pytest.fixture(scope="session")
def half(image_model: STCANet, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    return export_package(image_model, tmp_path_factory.mktemp("half") / "package", variant=Variant(Precision("fp16")))


@pytest.fixture(scope="session")
def int8(image_model: STCANet, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    precision = Precision("int8", Calibration(str(drawn), MIN_CROPS))
    return export_package(image_model, tmp_path_factory.mktemp("int8") / "package", variant=Variant(precision))


def graph(result: ExportResult) -> onnx.GraphProto:
    model = onnx.load(result.path / "model.onnx")
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True).graph


def types(graph: onnx.GraphProto) -> dict[str, int]:
    tensors = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    return tensors | {tensor.name: tensor.data_type for tensor in graph.initializer}


def check_names(graph: onnx.GraphProto) -> None:
    names = [node.name for node in graph.node]
    assert len(names) == len(set(names))
    assert all(node.name.rpartition("/")[2].startswith(node.op_type) for node in graph.node)
    inserted = [node.name for node in graph.node if node.op_type in ("Cast", "QuantizeLinear", "DequantizeLinear")]
    assert sum("/" not in name for name in inserted) <= 4  # those of constants that belong to no module


def test_half_passes_its_bar(half: ExportResult) -> None:
    assert half.report.passed
    assert half.report.min_cosine >= 0.9995
    assert half.manifest.precision == "fp16"
    assert verify_package(half.path, "cpu").bound == 0.9995
    assert (half.path / "model.onnx").stat().st_size < 0.55 * 46e6


def test_the_lower_precision_of_the_two_sets_the_bounds(half: ExportResult, image_package: Path) -> None:
    bounds = tolerance_between((image_package, "cpu"), (half.path, "cpu"))
    assert bounds == tolerance_between((half.path, "cpu"), (image_package, "cpu")) == TOLERANCES["fp16"]
    assert tolerance_between((image_package, "openvino-bf16"), (half.path, "cpu")) == TOLERANCES["bf16"]
    assert tolerance_between((image_package, "cpu")) == TOLERANCES["fp32"]
    for sides in ((image_package, half.path), (half.path, image_package)):
        assert check_parity(*sides).passed


def test_half_keeps_the_attention_and_what_is_sensitive_in_float32(half: ExportResult) -> None:
    found = graph(half)
    kinds, search = types(found), half.manifest.conversion["search"]
    check_names(found)
    assert {value.type.tensor_type.elem_type for value in found.output} == {TensorProto.FLOAT}
    softmax = next(node for node in found.node if node.name == "blocks.2.channel/Softmax")
    assert kinds[softmax.input[0]] == TensorProto.FLOAT
    for node in found.node:
        if node.op_type == "Conv":
            wanted = TensorProto.FLOAT16 if unit_of(node.name) in search["lowered"] else TensorProto.FLOAT
            assert {kinds[name] for name in node.input} == {wanted}, node.name
    assert set(search["lowered"]) | set(search["kept"]) == set(units_of(found))
    assert search["rule"]


def test_int8_passes_its_bar(int8: ExportResult) -> None:
    assert int8.report.passed
    assert int8.report.min_cosine >= 0.99
    # A quantiser does the ReLU, too, which is no error of the convolution before it.
    assert next(layer.output for layer in int8.report.layers if layer.name == "backbone.stem.1") < 0.3
    found = graph(int8)
    check_names(found)
    makers = {name: node for node in found.node for name in node.output}
    lowered, kinds = int8.manifest.conversion["search"]["lowered"], types(found)
    convolutions = [node for node in found.node if node.op_type == "Conv"]
    assert any(unit_of(node.name) in lowered for node in convolutions)
    for node in convolutions:
        weight = makers.get(node.input[1])
        assert (weight is not None) == (unit_of(node.name) in lowered), node.name
        if weight is not None:
            assert weight.op_type == "DequantizeLinear"
            assert kinds[weight.input[0]] == TensorProto.INT8
            scale = next(tensor for tensor in found.initializer if tensor.name == weight.input[1])
            assert numpy_helper.to_array(scale).ndim == 1  # by channel
            values = next(numpy_helper.to_array(tensor) for tensor in found.initializer if tensor.name == weight.input[0])
            assert np.abs(values.astype(int)).max() == 64, node.name  # seven bits, all of them used
    assert not any(node.op_type == "QuantizeLinear" and node.name.startswith("blocks.2.channel/Soft") for node in found.node)


@pytest.mark.parametrize(("name", "operators"), [("backbone.layer1.0", set(OPERATORS)), ("blocks.2.channel", {"Conv"})])
def test_of_the_attention_only_convolutions_are_quantised(name: str, operators: set[str]) -> None:
    nodes = [helper.make_node(kind, ["x"], ["y"], name=f"{name}/{kind}") for kind in (*OPERATORS, "MatMul", "Softmax")]
    assert {node.op_type for node in nodes if _quantisable(node)} == operators


def test_int8_of_clips(clip_package: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MIN_COSINE, "int8", -1.0)  # all units at once: which ones stay is for the search's own tests
    calibration, images = Calibration(str(drawn), MIN_CROPS), sorted(drawn.iterdir())[:2]
    model, facts = lower(clip_package / "model.onnx", Precision("int8", calibration), images, lambda _: None)
    verify(model, load_manifest(clip_package).opset)
    check_names(model.graph)
    makers = {name: node for node in model.graph.node for name in node.output}
    weights = [makers[node.input[1]].op_type for node in model.graph.node if node.op_type == "Conv"]
    assert set(weights) == {"DequantizeLinear"}
    assert facts["search"]["runs"] == 1
    assert facts["search"]["crops"] == len(procedural(64, 32)) + 2


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_a_network_that_bears_no_lower_precision_is_refused(
    name: str, image_package: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head has no convolution: with it alone "lowered", an int8 package would be the fp32 one under another name."""
    monkeypatch.setitem(MIN_COSINE, name, 1.0)
    calibration = Calibration(str(drawn), MIN_CROPS) if name == "int8" else None
    with pytest.raises(PackageError, match="no part of this network can be lowered"):
        lower(image_package / "model.onnx", Precision(name, calibration), (), lambda _: None)


def test_a_damaged_data_set_lends_no_test_images(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "bounding_box_train").mkdir()
    for place in ("query", "bounding_box_test"):
        (tmp_path / place).mkdir()
        for number, path in enumerate(sorted(drawn.iterdir())):
            (tmp_path / place / f"{number:04d}_c{1 if place == 'query' else 2}s1_000000_00.png").write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="bounding_box_train"):
        Calibration(str(tmp_path), MIN_CROPS).files()


def test_ranges_are_taken_from_every_frame_that_is_trained_on(drawn: Path, tmp_path: Path) -> None:
    frames = sorted(drawn.iterdir())
    lines = ["path,pid,camid,split,track,frame"]
    for number, path in enumerate(frames):
        split = "train" if number < 20 else "query" if number < 25 else "gallery"
        lines.append(f"{path},{number // 5},{number // 5},{split},{number // 5},{number}")
    (tmp_path / "tracks.csv").write_text("\n".join(lines))
    assert sorted(Calibration(str(tmp_path / "tracks.csv")).files()) == frames[:20]


def test_int8_says_where_its_ranges_come_from(int8: ExportResult, drawn: Path) -> None:
    manifest = load_manifest(int8.path)
    facts = manifest.conversion["calibration"]
    assert facts["method"] == "percentile"
    assert facts["crops"] == MIN_CROPS
    assert len(facts["files_sha256"]) == 64
    text = json.dumps(dict(manifest.conversion))
    assert str(drawn) not in text
    assert not any(path.name in text for path in drawn.iterdir())


def test_the_checksum_is_of_the_images_in_any_order(drawn: Path) -> None:
    calibration = Calibration(str(drawn), MIN_CROPS)
    files = calibration.files()
    assert calibration.describe(files) == calibration.describe(files[::-1])
    assert calibration.describe(files) != calibration.describe([*files[1:], files[1]])


def test_the_scheme_of_tensorrt_is_symmetric() -> None:
    facts = Scheme(symmetric=True, seven_bits=False).describe()
    assert "symmetric" in facts["activations"]
    assert "8 bits" in facts["weights"]


@pytest.fixture
def convolution(tmp_path: Path) -> Path:
    """The smallest network of a unit: what it takes, times 2, plus 1."""
    node = helper.make_node("Conv", ["x", "two", "one"], ["y"], "backbone.stem.0/Conv")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, 8, 8]) for name in ("x", "y")]
    constants = [numpy_helper.from_array(np.full((1, 1, 1, 1), 2, np.float32), "two")]
    constants.append(numpy_helper.from_array(np.ones(1, np.float32), "one"))
    made = helper.make_graph([node], "convolution", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "small.onnx")
    return tmp_path / "small.onnx"


def constants_in_int8(path: Path, scheme: Scheme, method: str, crops: np.ndarray) -> dict[str, np.ndarray]:
    quantizer = Quantizer(path, scheme, path.parent)
    quantizer.calibrate(crops, method)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in quantizer.quantized(quantizer.units).graph.initializer}


def test_ranges_are_those_of_all_crops_by_the_method(
    convolution: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A single value is far out, in the last of 9 crops: a percentile of 99.999 holds it, the least divergence does not."""
    crops = np.abs(np.random.default_rng(0).standard_normal((9, 1, 8, 8)).astype(np.float32))
    crops[-1, 0, 0, 0] = 100
    caplog.set_level(logging.INFO)
    percentile, entropy = (constants_in_int8(convolution, Scheme(), method, crops) for method in METHODS)
    assert percentile["x_scale"] * 255 == pytest.approx(100, rel=0.01)
    assert entropy["x_scale"] * 255 < 50
    assert capsys.readouterr().out == ""  # the library talks to stdout, where --json is
    assert logging.getLogger().level == logging.INFO


def test_the_schemes(convolution: Path) -> None:
    crops = np.linspace(-5, 10, 4 * 64, dtype=np.float32).reshape(4, 1, 8, 8)
    schemes = Scheme(), Scheme(symmetric=True, seven_bits=False)
    cpu, tensorrt = (constants_in_int8(convolution, scheme, "percentile", crops) for scheme in schemes)
    assert (cpu["two_quantized"], tensorrt["two_quantized"]) == (64, 127)
    assert (cpu["x_zero_point"], tensorrt["x_zero_point"]) == (85, 0)
    assert (cpu["x_zero_point"].dtype, tensorrt["x_zero_point"].dtype) == (np.uint8, np.int8)
    assert cpu["one_quantized"].dtype == np.int32
    assert tensorrt["one"] == 1.0  # TensorRT takes biases in float alone


def test_logits_beyond_float16_do_not_overflow() -> None:
    """What a channel attention of large activations does: products above 65,504, and a softmax."""
    names = (
        "blocks.2.channel/Transpose",
        "blocks.2.channel/MatMul",
        "blocks.2.channel/Softmax",
        "blocks.2.channel.out_norm/Mul",
    )
    nodes = [
        helper.make_node("Transpose", ["rows"], ["columns"], names[0], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["rows", "columns"], ["logits"], names[1]),
        helper.make_node("Softmax", ["logits"], ["weights"], names[2]),
        helper.make_node("Mul", ["weights", "half"], ["out"], names[3]),
    ]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 2]) for name in ("rows", "out")]
    constant = numpy_helper.from_array(np.float32([0.5]), "half")
    made = helper.make_graph(nodes, "attention", tensors[:1], tensors[1:], [constant])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    converted = to_half(model, ["blocks.2.channel"])
    onnx.checker.check_model(converted, full_check=True)
    session = onnxruntime.InferenceSession(converted.SerializeToString(), providers=["CPUExecutionProvider"])
    # The CPU provider computes float16 products in float32, so that only the types say what a GPU would do.
    inferred = types(onnx.shape_inference.infer_shapes(converted).graph)
    softmax = next(node for node in converted.graph.node if node.op_type == "Softmax")
    assert inferred[softmax.input[0]] == inferred[softmax.output[0]] == TensorProto.FLOAT
    rows = np.float32([[[300, 10], [299, 20]]])
    (out,) = session.run(None, {"rows": rows})
    np.testing.assert_allclose(out, [[[0.5, 0.0], [0.5, 0.0]]], atol=1e-3)
    assert {node.op_type for node in converted.graph.node if node.name.startswith("blocks.2.channel.out_norm")} >= {"Mul"}
    assert next(t for t in converted.graph.initializer if t.name == "half").data_type == TensorProto.FLOAT16


def test_a_trial_loses_one_minus_the_cosine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of crops whose embeddings are at 0, 1 and 2, those of the second and the third are turned by a tenth of that."""
    turns = [0.0, 0.1]

    def embed(_: object, crops: np.ndarray) -> np.ndarray:
        if not turns:
            raise PackageError("it gave no numbers")
        angles = crops[:, 0] * (1 + turns.pop(0))
        return np.stack([np.cos(angles), np.sin(angles)], 1)

    monkeypatch.setattr(precision, "_embed", embed)
    crops = np.arange(3, dtype=np.uint8)[:, None]
    trial = precision._Trial(tmp_path, lambda _: onnx.ModelProto(), crops, tmp_path / "x", lambda _: None)
    np.testing.assert_allclose(trial((), np.array([1, 2])), 1 - np.cos([0.1, 0.2]))
    assert trial((), np.array([1, 2])).tolist() == [np.inf, np.inf]  # an overflow


def test_every_precision_has_its_bounds() -> None:
    assert set(TOLERANCES) == set(MIN_COSINE) == {*PRECISIONS, "bf16"}


def test_bounds_grow_with_the_distance_of_unit_vectors() -> None:
    """Which are 1 apart at a cosine of 0.5."""
    bounds = from_bar(0.5, min_tau=0.9, min_top=0.8)
    assert (bounds.min_cosine, bounds.min_tau, bounds.min_top) == (0.5, 0.9, 0.8)
    assert bounds.max_abs == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("name", "calibration", "message"),
    [
        ("bf16", None, "no bfloat16 convolution"),
        ("fp8", None, "'fp32', 'fp16' or 'int8'"),
        ("fp16", Calibration("crops"), "only int8 is calibrated"),
        ("fp32", Calibration("crops"), "only int8 is calibrated"),
    ],
)
def test_options(name: str, calibration: Calibration | None, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Precision(name, calibration)


def test_int8_without_crops_says_what_to_give() -> None:
    with pytest.raises(DataError, match="folder of them, or a data set, as --calibration"):
        Precision("int8")


def test_too_few_crops(drawn: Path, tmp_path: Path) -> None:
    for path in sorted(drawn.iterdir())[:3]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="needs at least 16 real crops"):
        Calibration(str(tmp_path)).files()
    with pytest.raises(OptionError, match="at least 16"):
        Calibration(str(tmp_path), crops=4)


def test_no_such_method() -> None:
    with pytest.raises(OptionError, match="'percentile' or 'entropy'"):
        Calibration("crops", method="minmax")


def test_units() -> None:
    assert unit_of("backbone.stages.2.1.bn2/Conv") == "backbone.stages.2.1"
    assert unit_of("backbone.stem.1/Conv") == "backbone.stem"
    assert unit_of("blocks.3.part.update/MatMul_1") == "blocks.3.part"
    assert unit_of("head.neck/BatchNormalization") == "head"
    assert unit_of("normalize/Mul") == unit_of("Shape_1") == ""
