"""Twelve faults that exported ReID models have in the field, planted one by one: the gate sees each, and says where it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from graph_edits import Edit, change, edited
from onnx import helper, numpy_helper
from PIL import Image

from stcanet.model import STCANet
from stcanet.model.attention import neighbour_mask
from stcanet_export import check_parity
from stcanet_export.parity.page import html_report
from stcanet_export.parity.report import ParityReport
from stcanet_runtime.errors import PackageError


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(item for item in model.graph.node if item.name == name)


def constant(model: onnx.ModelProto, name: str, values: np.ndarray) -> str:
    model.graph.initializer.append(numpy_helper.from_array(values, name))
    return name


def put_after(model: onnx.ModelProto, name: str, operator: str, *constants: str, **attributes: object) -> None:
    """A new node between the output of a node and whoever takes it, named like its neighbour's module."""
    index = next(index for index, item in enumerate(model.graph.node) if item.name == name)
    before = model.graph.node[index]
    output, inner = before.output[0], f"{before.output[0]}_{operator}"
    before.output[0] = inner
    module = name.rpartition("/")[0]
    model.graph.node.insert(
        index + 1, helper.make_node(operator, [inner, *constants], [output], f"{module}/Fault{operator}", **attributes)
    )


def _bgr(model: onnx.ModelProto) -> None:
    put_after(model, "normalize/Cast", "Gather", constant(model, "order", np.array([2, 1, 0])), axis=3)


def _normalised_twice(model: onnx.ModelProto) -> None:
    put_after(model, "normalize/Add", "Add", "normalize.shift")
    put_after(model, "normalize/Add", "Mul", "normalize.scale")


def _training_statistics(model: onnx.ModelProto) -> None:
    """(x − mean of the batch) · γ + β, with the batch's own mean in the place of the running one."""
    neck = node(model, "head.neck/BatchNormalization")
    _, gamma, beta, _, _ = neck.input
    (x, *_), (y, *_) = neck.input, neck.output
    axes = constant(model, "fault_axes", np.array([0]))
    nodes = [
        helper.make_node("ReduceMean", [x, axes], ["fault_mean"], "head.neck/ReduceMean"),
        helper.make_node("Sub", [x, "fault_mean"], ["fault_centred"], "head.neck/Sub"),
        helper.make_node("Mul", ["fault_centred", gamma], ["fault_scaled"], "head.neck/Mul"),
        helper.make_node("Add", ["fault_scaled", beta], [y], "head.neck/Add"),
    ]
    index = list(model.graph.node).index(neck)
    model.graph.node.remove(neck)
    for item in reversed(nodes):
        model.graph.node.insert(index, item)


def _transposed(model: onnx.ModelProto) -> None:
    """Columns for rows, then seen as the right shape again: what a reshape does in the place of a transpose."""
    node(model, "normalize/Transpose").attribute[0].CopyFrom(helper.make_attribute("perm", [0, 3, 2, 1]))
    put_after(model, "normalize/Transpose", "Reshape", constant(model, "shape", np.array([-1, 3, 64, 32])))


def _epsilon(model: onnx.ModelProto) -> None:
    """1e-3, the default of another framework, in the place of 1e-5, in one of the normalisations that are not folded."""
    (epsilon,) = [item for item in node(model, "head.neck/BatchNormalization").attribute if item.name == "epsilon"]
    assert epsilon.f == pytest.approx(1e-5)
    epsilon.f = 1e-3


def _softmax_axis(name: str) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        node(model, name).attribute[0].CopyFrom(helper.make_attribute("axis", 1))

    return edit


def _no_mask(model: onnx.ModelProto) -> None:
    where = node(model, "blocks.2.part/Where")
    where.op_type = "Identity"
    kept = where.input[2]
    del where.input[:]
    where.input.append(kept)


def _dropped_bias(name: str) -> Edit:
    return lambda model: change(model, name, np.zeros_like)


def _swapped_parts(model: onnx.ModelProto) -> None:
    for name in ("weight", "bias"):
        change(model, f"model.blocks.2.part.part_conv.{name}", lambda values: values[[2, 3, 0, 1]])


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        pytest.param(_bgr, "normalize", id="bgr"),
        pytest.param(_normalised_twice, "normalize", id="normalised twice"),
        pytest.param(_training_statistics, "head.neck", id="training statistics"),
        pytest.param(_transposed, "normalize", id="transposed"),
        pytest.param(_epsilon, "head.neck", id="epsilon"),
        pytest.param(_softmax_axis("blocks.2.channel/Softmax"), "blocks.2.channel ", id="softmax axis, channels"),
        pytest.param(_softmax_axis("blocks.3.part/Softmax"), "blocks.3.part ", id="softmax axis, parts"),
        pytest.param(_no_mask, "blocks.2.part ", id="no mask"),
        pytest.param(_dropped_bias("model.blocks.3.part.update.bias"), "blocks.3.part.update", id="dropped bias"),
        pytest.param(_dropped_bias("model.backbone.stages.2.0.conv1.weight_bias"), "backbone.stages.2.0.bn1", id="and folded"),
        pytest.param(_swapped_parts, "blocks.2.part.part_norm", id="swapped parts"),
    ],
)
def test_the_layer_is_named(image_model: STCANet, image_package: Path, tmp_path: Path, edit: Edit, where: str) -> None:
    """A trailing blank in `where`: made by the module itself, between two of its children."""
    report = check_parity(image_model, edited(image_package, tmp_path, edit))
    assert not report.passed, report.summary()
    assert report.parts_at is not None
    assert f"{report.parts_at} ".startswith(f"{where.strip()} "), report.parts_at
    assert ("(between" in report.parts_at) == where.endswith(" "), report.parts_at
    page = html_report(report)
    assert f"<b>{report.parts_at}</b>" in page
    assert "<svg" in page
    assert "://" not in page


def test_swapped_parts_are_invisible_in_the_embedding(image_model: STCANet, image_package: Path, tmp_path: Path) -> None:
    """The parts meet in a mean and their neighbours are alike, so their order cancels; only the layers show it."""
    report = check_parity(image_model, edited(image_package, tmp_path, _swapped_parts))
    assert [check.name for check in report.failures] == ["layers: relative error"]
    assert report.min_cosine > 0.999999


def test_a_baked_batch_names_its_node(image_model: STCANet, image_package: Path, tmp_path: Path) -> None:
    def bake(model: onnx.ModelProto) -> None:
        """As an exporter does that takes the example's batch for a constant."""
        reshape = node(model, "blocks.2.channel/Reshape_1")
        reshape.input[1] = constant(model, "baked", np.array([2, 1, 128, 32]))

    # ONNX Runtime sees the contradiction with the free batch of the residual before anything runs.
    with pytest.raises(PackageError, match=r"blocks\.2\.channel/Add"):
        check_parity(image_model, edited(image_package, tmp_path, bake))


def test_clips_without_a_mask_fail(clip_model: STCANet, clip_package: Path, tmp_path: Path) -> None:
    report = check_parity(clip_model, edited(clip_package, tmp_path, _no_mask))
    assert "batch 1: min cosine" in {check.name for check in report.failures}


def test_a_mask_for_one_length_names_its_node(clip_model: STCANet, clip_package: Path, tmp_path: Path) -> None:
    def bake(model: onnx.ModelProto) -> None:
        where = node(model, "blocks.2.part/Where")
        where.input[0] = constant(model, "baked", ~neighbour_mask(3, 4).numpy())

    report = check_parity(clip_model, edited(clip_package, tmp_path, bake))
    failures = [check for check in report.failures if "blocks.2.part/Where" in check.detail]
    assert {check.name for check in failures} >= {"2 frames: min cosine", "7 frames: min cosine"}, report.summary()
    assert not any(check.name.startswith("batch") for check in report.failures)


def _bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        pytest.param("resize", _bilinear, id="bilinear"),
        pytest.param("load_image", lambda path, _: np.asarray(Image.open(path).convert("RGB"))[:, :, ::-1], id="bgr"),
    ],
)
def test_only_files_show_a_fault_before_the_network(
    image_model: STCANet, image_package: Path, monkeypatch: pytest.MonkeyPatch, name: str, fault: Callable[..., np.ndarray]
) -> None:
    monkeypatch.setattr(f"stcanet_runtime.inference.encoder.{name}", fault)
    report: ParityReport = check_parity(image_model, image_package)
    failures = {check.name for check in report.failures}
    assert "from files: min cosine" in failures
    assert all(name.startswith("from files") for name in failures)
    assert report.parts_at is None
    assert any("before the network" in note for note in report.notes)
