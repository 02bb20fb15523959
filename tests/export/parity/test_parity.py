"""The gate lets the right package pass, and no planted fault."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from graph_edits import Edit, change, edited
from onnx import numpy_helper
from PIL import Image
from torch import Tensor

from stcanet.model import Embedder, STCANet
from stcanet_export import check_parity
from stcanet_export.onnx import Contract
from stcanet_export.package import export_package
from stcanet_export.parity.report import ParityReport
from stcanet_export.parity.sides import TorchSide
from stcanet_export.parity.tolerance import Tolerance
from stcanet_runtime.errors import DataError, ImageError, ParityError, ProviderError
from stcanet_runtime.inference.providers import available_providers


def failed_names(report: ParityReport) -> set[str]:
    return {check.name for check in report.failures}


def test_images_pass(image_model: STCANet, image_package: Path) -> None:
    report = check_parity(image_model, image_package)
    report.raise_if_failed()
    assert report.min_cosine >= 0.99999
    names = [check.name for check in report.checks]
    for batch in ("batch 1", "batch 2", f"batch {len(report.crops)}", "from files"):
        assert f"{batch}: min cosine" in names
        assert f"{batch}: max |Δ|" in names
    assert "ranking: swapped pairs" in names
    assert any("independent" in name for name in names)
    assert len(set(report.crops)) == len(report.crops) >= 12
    assert report.to_dict()["passed"] is True
    assert "passed" in report.summary()


def test_clips_pass_at_any_length(clip_model: STCANet, clip_package: Path) -> None:
    report = check_parity(clip_model, clip_package)
    report.raise_if_failed()
    names = [check.name for check in report.checks]
    for frames in ("1 frame", "2 frames", "7 frames", "16 frames"):
        assert f"{frames}: min cosine" in names
    assert "batch 2: norms" in names
    assert "from files: min cosine" in names


def test_other_choices_inside_the_block_pass(make_model: Callable[..., STCANet], tmp_path: Path) -> None:
    """Of a part that is nowhere the mean would be made of the tails of sigmoids, which onnxruntime cuts off."""
    model = make_model(seed=2, height=64, width=32, part_pool="mean", relation_clip=False)
    with torch.no_grad():
        for block in model.blocks.values():
            block.part.part_norm.bias[0] = -17.0
    export_package(model, tmp_path / "package")


def test_a_package_against_itself_under_another_provider(image_package: Path) -> None:
    if available_providers()["openvino"] is not None:
        with pytest.raises(ProviderError):
            check_parity(image_package, image_package, provider="openvino")
        return
    report = check_parity(image_package, image_package, provider="openvino")
    report.raise_if_failed()
    assert (report.reference["provider"], report.candidate["provider"]) == ("cpu", "openvino")


def test_own_images_are_used_too(image_model: STCANet, image_package: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index in range(20):
        Image.fromarray(rng.integers(0, 256, (50, 20, 3), dtype=np.uint8)).save(tmp_path / f"own-{index:02d}.jpg")
    report = check_parity(image_model, image_package, sorted(tmp_path.iterdir()))
    report.raise_if_failed()
    assert sum(name.startswith("own-") for name in report.crops) == 16
    (tmp_path / "own-00.jpg").write_text("no image")
    with pytest.raises(ImageError, match="own-00"):
        check_parity(image_model, image_package, sorted(tmp_path.iterdir()))


class RowsMixed(Embedder):
    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        features = self.model(self.normalize(images)).features
        return F.normalize(features + 0.05 * features.mean(dim=0, keepdim=True), dim=-1)


class NotUnitLength(Embedder):
    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return self.model(self.normalize(images)).features


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (RowsMixed, "rows independent of their batch: max |Δ|"),
        (NotUnitLength, "batch 2: min cosine"),
    ],
)
def test_a_fault_in_the_export_fails_it(
    image_model: STCANet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[Embedder], check: str
) -> None:
    """Through the whole of an export; `test_faults.py` plants the others in a finished graph, which takes no tracing."""
    monkeypatch.setattr("stcanet_export.onnx.Embedder", fault)
    with pytest.raises(ParityError):
        export_package(image_model, tmp_path / "package")
    assert not (tmp_path / "package").exists()
    assert f'"{check}",\n      "passed": false' in (tmp_path / "package.failed.json").read_text()


def _bake_batch(model: onnx.ModelProto) -> None:
    """As an exporter does that takes the example's batch for a constant: the first axis of every reshape."""
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.int64 and values.ndim == 1 and len(values) >= 3 and values[0] == -1:
            tensor.CopyFrom(numpy_helper.from_array(np.array([2, *values[1:]], np.int64), tensor.name))


def _ignore_input(model: onnx.ModelProto) -> None:
    change(model, "normalize.scale", np.zeros_like)


def _scale_one_channel(model: onnx.ModelProto) -> None:
    def scale(weights: np.ndarray) -> np.ndarray:
        weights[0] *= 1.5
        return weights

    change(model, "model.backbone.stages.3.1.conv2.weight", scale)


def _shift_one_component(model: onnx.ModelProto) -> None:
    def shift(bias: np.ndarray) -> np.ndarray:
        bias[7] += 0.2
        return bias

    change(model, "model.head.neck.bias", shift)


def _nan(model: onnx.ModelProto) -> None:
    def poison(bias: np.ndarray) -> np.ndarray:
        bias[3] = np.nan
        return bias

    change(model, "model.head.neck.bias", poison)


@pytest.mark.parametrize("edit", [_bake_batch, _ignore_input, _scale_one_channel, _shift_one_component, _nan])
def test_a_fault_in_the_graph_fails_it(image_model: STCANet, image_package: Path, tmp_path: Path, edit: Edit) -> None:
    report = check_parity(image_model, edited(image_package, tmp_path, edit))
    assert not report.passed, report.summary()
    with pytest.raises(ParityError, match="parity failed"):
        report.raise_if_failed()


def _neck(scale: float) -> Edit:
    """The gain of the last normalisation times `scale`; in the graph, what :func:`_rescaled` does to the network."""
    return lambda model: change(model, "model.head.neck.weight", lambda gain: scale * gain)


def _rescaled(model: STCANet, scale: float) -> STCANet:
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.head.neck.weight.mul_(scale)
    return model


def test_a_collapsed_network_proves_nothing(image_model: STCANet, image_package: Path, tmp_path: Path) -> None:
    """Every cosine is 1 when all crops give one vector; that must not pass for agreement."""
    with pytest.raises(ParityError, match="tells crops apart"):
        check_parity(_rescaled(image_model, 0.0), edited(image_package, tmp_path, _neck(0.0))).raise_if_failed()


def test_nearly_collapsed_networks_are_told_from_constants(image_model: STCANet, image_package: Path, tmp_path: Path) -> None:
    """Cosines of 0.999999 with a constant vector: only the spread tells."""
    model, right = _rescaled(image_model, 2e-4), edited(image_package, tmp_path, _neck(2e-4))
    assert check_parity(model, right).passed
    report = check_parity(model, edited(image_package, tmp_path, lambda graph: (_neck(2e-4)(graph), _ignore_input(graph))))
    assert "error against spread" in failed_names(report)
    assert "batch 1: min cosine" not in failed_names(report)


def test_untrained_attention_is_noted(image_model: STCANet, image_package: Path) -> None:
    model = copy.deepcopy(image_model)
    with torch.no_grad():
        for block in model.blocks.values():
            block.channel.out_norm.weight.zero_()
            block.part.out_norm.weight.zero_()
    (note,) = check_parity(model, image_package).notes
    assert "attention is not exercised after stage 2, after stage 3" in note
    with torch.no_grad():
        model.blocks["2"].part.out_norm.weight.fill_(1.0)  # one of the two is enough
    assert TorchSide(model).idle_blocks() == ["after stage 3"]


def test_nothing_to_compare(make_model: Callable[..., STCANet], image_package: Path) -> None:
    with pytest.raises(ParityError, match=r"the reference takes images 64×48 to 512 .* images 64×32 to 512"):
        check_parity(make_model(height=64, width=48), image_package)


def test_weights_of_another_network_fail(make_model: Callable[..., STCANet], image_package: Path) -> None:
    assert not check_parity(make_model(seed=5, height=64, width=32), image_package).passed


def test_too_few_crops(image_model: STCANet, image_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stcanet_export.parity.probes.MIN_CROPS", 500)
    with pytest.raises(DataError, match="at least 500 distinct crops"):
        check_parity(image_model, image_package)


def test_tolerances_decide(image_model: STCANet, image_package: Path, tmp_path: Path) -> None:
    wide = Tolerance(min_cosine=1e-9, max_abs=2, max_relative=1e9, max_length=1e9, tie=3, max_layer=1e9)
    model = edited(image_package, tmp_path, _scale_one_channel)
    assert check_parity(image_model, model, tolerance=wide).passed
    shutil.rmtree(tmp_path)


def test_wrong_part_maps_fail(clip_model: STCANet, float_package: Path, tmp_path: Path) -> None:
    def without_sigmoid(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if node.output[0] == "part_maps_2")
        assert node.op_type in ("Sigmoid", "Reshape")
        while node.op_type != "Sigmoid":
            node = next(other for other in model.graph.node if other.output[0] == node.input[0])
        node.op_type = "Identity"

    right = check_parity(clip_model, float_package)
    assert "part maps: relative error" in {check.name for check in right.checks}
    right.raise_if_failed()
    report = check_parity(clip_model, edited(float_package, tmp_path, without_sigmoid))
    assert "part maps: relative error" in failed_names(report)


def test_clips_of_one_frame_are_images(clip_model: STCANet, clip_package: Path, image_model: STCANet) -> None:
    same = STCANet(replace(clip_model.config, clip_length=None))
    same.load_state_dict(clip_model.state_dict())
    report = check_parity(same, clip_package)
    report.raise_if_failed()
    assert report.candidate["clips"] == "of one frame"
    assert len(report.layers) > 30
    other = STCANet(replace(clip_model.config, clip_length=None, pool="avg"))
    other.load_state_dict(clip_model.state_dict())
    assert not check_parity(other, clip_package).passed


def test_ranking_on_a_gallery(image_model: STCANet, image_package: Path, tmp_path: Path) -> None:
    from stcanet_export.parity.probes import write_procedural

    write_procedural(tmp_path / "crops", 64, 32)

    def mixed(model: onnx.ModelProto) -> None:
        def roll(bias: np.ndarray) -> np.ndarray:
            return np.asarray(np.roll(bias, 1) * 3)

        change(model, "model.head.neck.bias", roll)

    right = check_parity(image_model, image_package, gallery=str(tmp_path / "crops"))
    right.raise_if_failed()
    names = {check.name for check in right.checks}
    assert {"gallery: min cosine", "gallery of 15, 15 queries: Kendall's tau", "gallery of 15, 15 queries: top-10"} <= names
    wrong = check_parity(image_model, edited(image_package, tmp_path, mixed), gallery=str(tmp_path / "crops"))
    assert {"gallery: min cosine", "gallery of 15, 15 queries: Kendall's tau"} <= failed_names(wrong)
    with pytest.raises(DataError):
        check_parity(image_model, image_package, gallery=str(tmp_path / "nowhere"))


def test_tracklets_are_ranked_as_tracklets(clip_model: STCANet, clip_package: Path, tmp_path: Path) -> None:
    """By a model of images, by one of clips in its place, and by a package: each the mean of what it gives for the frames."""
    from stcanet_export.parity.probes import write_procedural

    lines, crops = ["path,pid,camid,split,track,frame"], sorted(write_procedural(tmp_path, 64, 32))
    for track in range(5):
        split = "query" if track == 0 else "gallery"
        lines += [f"{path},{track % 2},{track},{split},{track},{i}" for i, path in enumerate(crops[3 * track : 3 * track + 3])]
    (tmp_path / "tracks.csv").write_text("\n".join(lines))
    same = STCANet(replace(clip_model.config, clip_length=None))
    same.load_state_dict(clip_model.state_dict())
    package = export_package(same, tmp_path / "package").path
    for reference, candidate in ((same, package), (same, clip_package), (package, clip_package)):
        report = check_parity(reference, candidate, gallery=str(tmp_path / "tracks.csv"))
        report.raise_if_failed()
        assert "gallery of 4, 1 query: Kendall's tau" in {check.name for check in report.checks}


def test_the_length_of_features_counts_where_they_are_given(make_model: Callable[..., STCANet], tmp_path: Path) -> None:
    model = make_model(height=64, width=32, blocks=())
    package = export_package(model, tmp_path / "package", contract=Contract(unit=False)).path

    def seven_times(graph: onnx.ModelProto) -> None:
        node = next(node for node in graph.graph.node if node.output[0] == "embeddings")
        node.output[0] = "features"
        graph.graph.initializer.append(numpy_helper.from_array(np.float32(7), "seven"))
        graph.graph.node.append(onnx.helper.make_node("Mul", ["features", "seven"], ["embeddings"]))

    assert "batch 1: norms" in failed_names(check_parity(model, edited(package, tmp_path, seven_times)))


def test_a_comparison_without_layers_says_so(image_package: Path, tmp_path: Path) -> None:
    def rename(graph: onnx.ModelProto) -> None:
        for index, node in enumerate(graph.graph.node):
            node.name = f"n{index}"

    report = check_parity(image_package, edited(image_package, tmp_path, rename))
    assert report.notes == ["the layers could not be compared: the two sides have none of the same name and shape"]


def test_layers_under_openvino_itself(image_model: STCANet, image_package: Path) -> None:
    pytest.importorskip("openvino")
    report = check_parity(image_model, image_package, provider="openvino-native")
    assert (report.notes, len(report.layers) > 30) == ([], True)
