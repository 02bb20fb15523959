"""The ONNX file: its contract, its form, and that any batch and any length go through."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from stcanet.model import Embedder, STCANet
from stcanet_export import check_parity
from stcanet_export.onnx import DEFAULT_OPSET, OPSETS, Contract, export_onnx
from stcanet_runtime import Encoder
from stcanet_runtime.errors import OptionError, PackageError
from stcanet_runtime.package.manifest import METADATA_KEY


def _shape(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_contract_of_images(image_package: Path) -> None:
    graph = onnx.load(image_package / "model.onnx").graph
    assert [(item.name, _shape(item)) for item in graph.input] == [("images", ["batch", 64, 32, 3])]
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [(item.name, _shape(item)) for item in graph.output] == [("embeddings", ["batch", 512])]
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_contract_of_clips(clip_package: Path) -> None:
    graph = onnx.load(clip_package / "model.onnx").graph
    assert [(item.name, _shape(item)) for item in graph.input] == [("clips", ["batch", "time", 64, 32, 3])]
    assert [(item.name, _shape(item)) for item in graph.output] == [("embeddings", ["batch", 512]), ("norms", ["batch"])]


def test_the_file_is_complete_and_clean(image_package: Path) -> None:
    model = onnx.load(image_package / "model.onnx", load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", DEFAULT_OPSET)]
    assert not model.functions
    assert all(node.domain == "" for node in model.graph.node)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    # The exporter's notes hold stack traces with the paths of this machine.
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")  # 46 MB of weights spell any short word
    text = model.SerializeToString()
    assert b"stack_trace" not in text
    assert b".py" not in text
    assert [entry.key for entry in model.metadata_props] == [METADATA_KEY]


def test_the_graph_does_not_depend_on_how_attention_was_computed(
    image_model: STCANet, image_package: Path, tmp_path: Path
) -> None:
    """A model that was trained with the fused kernels exports here, where they cannot run, to the same standard operators."""
    model = copy.deepcopy(image_model)
    model.use_attention("fused")
    export_onnx(model, tmp_path / "model.onnx")
    assert model.config.attention == "fused"  # the model itself is left alone
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert graph.SerializeToString() == onnx.load(image_package / "model.onnx").graph.SerializeToString()


def test_nodes_are_named_after_modules(image_package: Path) -> None:
    nodes = onnx.load(image_package / "model.onnx").graph.node
    names = [node.name for node in nodes]
    assert len(set(names)) == len(names)
    assert "blocks.2.channel/Softmax" in names
    assert any(name.startswith("backbone.stages.3.1") for name in names)
    assert sum("/" in name for name in names) > 0.9 * len(names)


def test_normalisations_after_convolutions_are_folded(image_package: Path) -> None:
    kinds = [node.op_type for node in onnx.load(image_package / "model.onnx").graph.node]
    assert kinds.count("Conv") == 26
    assert kinds.count("BatchNormalization") <= 5  # after a mean, or on a view of the node graph


def test_float_contract_in_the_oldest_opset(float_package: Path) -> None:
    model = onnx.load(float_package / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    graph = model.graph
    assert [(item.name, _shape(item)) for item in graph.input] == [("clips", ["batch", "time", 3, 64, 32])]
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    output, maps = [(item.name, _shape(item)) for item in graph.output]
    assert output == ("output", ["batch", 512])
    assert maps == ("part_maps_2", ["batch", "time", 4, 8, 4])
    assert "blocks.2.channel/Softmax" in [node.name for node in graph.node]
    assert not any(node.op_type in ("Cast", "ReduceL2") for node in graph.node)


def test_contracts_give_the_same_vectors(float_package: Path, clip_package: Path) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 32, 3), dtype=np.uint8)
    ours, theirs = (Encoder.load(package, "cpu").embed_batch(clips) for package in (float_package, clip_package))
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-4)
    assert ours[1] is not None
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-3)


def test_one_package_serves_one_to_sixteen_frames(clip_model: STCANet, clip_package: Path) -> None:
    encoder, embedder = Encoder.load(clip_package, "cpu"), Embedder(clip_model)
    rng = np.random.default_rng(0)
    for frames in range(1, 17):
        clips = rng.integers(0, 256, (2, frames, 64, 32, 3), dtype=np.uint8)
        with torch.inference_mode():
            expected = embedder(torch.from_numpy(clips))
        for actual, right in zip(encoder.embed_batch(clips), expected, strict=True):
            np.testing.assert_allclose(actual, right, rtol=1e-3, atol=1e-3, err_msg=f"{frames} frames")


def test_a_fixed_batch_in_the_newest_opset(image_model: STCANet, image_package: Path, tmp_path: Path) -> None:
    contract = Contract("float32", batch=4)
    manifest = export_onnx(image_model, tmp_path / "model.onnx", OPSETS[-1], contract)
    assert (manifest.opset, manifest.input.shape) == (OPSETS[-1], (4, 3, 64, 32))
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert [_shape(item) for item in onnx.load(tmp_path / "model.onnx").graph.output] == [[4, 512]]
    crops = np.random.default_rng(0).integers(0, 256, (5, 64, 32, 3), dtype=np.uint8)
    encoder = Encoder.load(tmp_path / "model.onnx", "cpu")
    expected = Encoder.load(image_package, "cpu").embed_batch(crops)[0]
    np.testing.assert_allclose(encoder.embed_batch(crops)[0], expected, atol=1e-4)
    for sides in ((image_model, tmp_path / "model.onnx"), (tmp_path / "model.onnx", image_package)):
        report = check_parity(*sides)
        report.raise_if_failed()
        assert report.layers


@pytest.mark.parametrize("opset", [16, 99, 0])
def test_other_opsets_are_refused(image_model: STCANet, tmp_path: Path, opset: int) -> None:
    with pytest.raises(OptionError, match="opset must be one from 17 to 27"):
        export_onnx(image_model, tmp_path / "model.onnx", opset)


def test_the_model_is_left_alone_and_nothing_is_said(
    image_model: STCANet, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image_model.train()
    before = {name: value.clone() for name, value in image_model.state_dict().items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            export_onnx(image_model, tmp_path / "model.onnx")
        assert image_model.training
    finally:
        image_model.eval()
    assert all(torch.equal(value, before[name]) for name, value in image_model.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_an_invalid_graph_is_refused(
    image_model: STCANet, traced: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stcanet_export.graph.MAX_IR_VERSION", 3)
    with pytest.raises(PackageError, match="IR version"):
        export_onnx(image_model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
