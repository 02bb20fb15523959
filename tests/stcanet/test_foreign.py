"""Checkpoints of other programs: what fits is taken, and everything else is named."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stcanet.config import preset_config
from stcanet.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from stcanet.engine.foreign import convert, load_foreign
from stcanet.model import STCANet, build_model
from stcanet_runtime.errors import CheckpointError

PUBLISHED = {
    "channel.out.": "W1.0.",
    "channel.out_norm.": "W1.1.",
    "part.part_conv.": "SA.conv.conv.",
    "part.part_norm.": "SA.conv.bn.",
    "part.reduce.": "g.",
    "part.relation.": "STAM2.module_w.relation.0.",
    "part.relation_norm.": "STAM2.module_w.relation.1.",
    "part.update.": "STAM2.module_l.fsm.0.",
    "part.update_norm.": "STAM2.module_l.fsm.1.",
    "part.out.": "W2.0.",
    "part.out_norm.": "W2.1.",
}


def model(seed: int = 0, classes: int | None = 7, **overrides: object) -> STCANet:
    torch.manual_seed(seed)
    network = build_model("stcanet-tiny", classes, height=32, width=32, **overrides)
    for tensor in network.state_dict().values():  # nothing at its default, so that every tensor tells where it came from
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return network


def published(network: STCANet) -> dict[str, Tensor]:
    """The state of a network under the names and in the shapes of the published video code."""
    state = {}
    for name, value in network.state_dict().items():
        theirs = name.replace("backbone.stem.0.", "conv1.").replace("backbone.stem.1.", "bn1.")
        theirs = re.sub(r"backbone\.stages\.(\d)\.", lambda match: f"layer{int(match[1]) + 1}.", theirs)
        theirs = theirs.replace("head.neck.", "bn.").replace("head.classifier.", "classifier.")
        if match := re.fullmatch(r"blocks\.(\d)\.(\w+\.\w+\.)(\w+)", theirs):
            theirs = f"STCABlock3D{match[1]}.{PUBLISHED[match[2]]}{match[3]}"
        if value.dim() == 4:
            value = value.unsqueeze(2)  # a convolution over one frame
        elif value.dim() == 2 and "classifier" not in theirs:
            value = value[:, :, None, None]  # linear maps are 1×1 convolutions there
        state[theirs] = value
    return state


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3, "rank1": 0.5}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod.model."])
def test_published_names_fill_everything(tmp_path: Path, wrap, prefix: str) -> None:
    source, target = model(1), model(2)
    torch.save(wrap({prefix + name: value for name, value in published(source).items()}), tmp_path / "x.pth.tar")
    report = load_foreign(tmp_path / "x.pth.tar", target)
    assert (report.unfit, report.missing, report.unknown) == ((), (), ())
    assert set(report.matched) == set(target.state_dict())
    assert all(torch.equal(target.state_dict()[name], value) for name, value in source.state_dict().items())


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("package", [b"numpy._core", b"numpy.core"])  # the second is what NumPy 1 wrote
def test_figures_as_numpy_scalars_are_read_over(tmp_path: Path, kind: type, package: bytes) -> None:
    source, path = model(1), tmp_path / "x.pth.tar"
    content = {"state_dict": published(source), "epoch": 60, "rank1": kind(1), "mAP": kind(0)}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray\n", package + b".multiarray\n"))
    assert package + b".multiarray\nscalar" in path.read_bytes()
    assert load_foreign(path, model(2)).missing == ()


@pytest.mark.parametrize("value", [np.ones(2), np.array([open], dtype=object), np.dtype("O"), np.load])
def test_other_things_of_numpy_are_refused(tmp_path: Path, value: object) -> None:
    torch.save({"state_dict": published(model(1)), "rank1": value}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="safe to load"):
        load_foreign(tmp_path / "x.pth", model(2))


def test_everything_that_does_not_fit_is_named(tmp_path: Path) -> None:
    state = published(model(1, classes=9))
    state["fc512.weight"] = torch.zeros(3)
    del state["layer3.0.conv1.weight"], state["bn.num_batches_tracked"]
    torch.save(state, tmp_path / "x.pth")
    target = model(2, blocks=(3,))
    before = {name: value.clone() for name, value in target.state_dict().items()}
    report = load_foreign(tmp_path / "x.pth", target)
    assert report.unfit == ("classifier.weight [9, 512] for [7, 512]", "classifier.bias [9] for [7]")
    assert set(report.missing) == {"backbone.stages.2.0.conv1.weight", "head.classifier.weight", "head.classifier.bias"}
    assert {name.split(".")[0] for name in report.unknown} == {"STCABlock3D2", "fc512"}
    for name in report.missing:
        assert torch.equal(target.state_dict()[name], before[name])
    text = str(report)
    assert "2 unfit: classifier.weight [9, 512] for [7, 512]" in text
    assert "3 missing" in text
    assert "unknown" in text
    assert len(report.matched) + len(report.unfit) + len(report.unknown) == len(state)


@pytest.mark.parametrize("twice", ["base.conv1.weight", "bottleneck.bias"])
def test_two_entries_for_one_of_ours_are_refused(tmp_path: Path, twice: str) -> None:
    torch.save({**published(model(1)), twice: torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=f"has two entries for .*'{twice}'; remove one"):
        load_foreign(tmp_path / "x.pth", model(2))


def test_a_name_with_and_without_a_prefix_is_refused(tmp_path: Path) -> None:
    """One of them would be taken, and nobody would know which."""
    torch.save({**published(model(1)), "module.conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"two entries for 'conv1\.weight', of which one is 'module\.conv1\.weight'"):
        load_foreign(tmp_path / "x.pth", model(2))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((64, 3, 7, 7), torch.nan), r"'conv1\.weight' has values that are no finite numbers"),
        (torch.full((64, 3, 7, 7), 1e300, dtype=torch.float64), r"'conv1\.weight' has values that are no finite numbers"),
        (
            torch.full((64, 3, 7, 7), torch.nan).to(torch.float8_e4m3fn),
            r"'conv1\.weight' has values that are no finite numbers",
        ),
        (torch.ones(64, 3, 7, 7, dtype=torch.complex64), r"1 unfit: conv1\.weight complex64 for float32"),
        (torch.ones(64, 3, 7, 7, dtype=torch.int8), r"1 unfit: conv1\.weight int8 for float32"),
        (torch.empty(64, 3, 7, 7, device="meta"), "holds no state dict"),
    ],
)
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: Tensor, message: str) -> None:
    torch.save({**published(model(1)), "conv1.weight": value}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=message):
        convert(tmp_path / "x.pth", preset_config("stcanet-tiny"))


@pytest.mark.parametrize("prefix", ["", "backbone.", "base."])
def test_a_plain_resnet_without_a_neck_converts(tmp_path: Path, prefix: str) -> None:
    source = model(1, blocks=())
    with torch.no_grad():
        source.head.neck.reset_parameters()
        source.head.neck.reset_running_stats()
    state = {prefix + name: value for name, value in published(source).items() if not name.startswith(("bn.", "classifier."))}
    torch.save({"state_dict": state}, tmp_path / "x.pth")
    checkpoint, report = convert(tmp_path / "x.pth", preset_config("stcanet-tiny", blocks=(), height=32, width=32))
    assert [name.split(".")[1] for name in report.missing] == ["neck"] * 4
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(checkpoint.build()(images).features, source.eval()(images).features)
    save_checkpoint(checkpoint, tmp_path / "ours.pt")
    assert load_checkpoint(tmp_path / "ours.pt").model_config.blocks == ()


def test_a_conversion_with_holes_is_refused(tmp_path: Path) -> None:
    torch.save(published(model(1, blocks=())), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"does not fill 'stcanet-tiny'.*missing: blocks\.2.*take --blocks none"):
        convert(tmp_path / "x.pth", preset_config("stcanet-tiny"))
    torch.save(published(model(1, blocks=(2,))), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"missing: blocks\.3") as error:
        convert(tmp_path / "x.pth", preset_config("stcanet-tiny"))
    assert "--blocks none" not in str(error.value)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            {"fc.0.weight": torch.zeros(512, 512), "fc.0.bias": torch.zeros(512)},
            "no place for: fc.0.weight, fc.0.bias; without",
        ),
        ({"classifier.weight": torch.zeros(9, 256)}, r"classifier of features of length 256, not 512"),
        ({"fc.weight": torch.zeros(9, 2048)}, r"classifier of features of length 2048, not 512"),
        (
            {f"bn.{name}": torch.zeros(256) for name in ("weight", "bias", "running_mean", "running_var")},
            r"bn.weight \[256\] for",
        ),
        ({"STCABlock3D3.W1.0.weight": torch.zeros(256, 256)}, "no place for: STCABlock3D3"),
    ],
)
def test_a_conversion_that_would_drop_a_layer_is_refused(tmp_path: Path, extra: dict[str, Tensor], message: str) -> None:
    state = {
        name: value for name, value in published(model(1, blocks=())).items() if not name.startswith(("bn.", "classifier."))
    }
    torch.save({**state, **extra}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=message):
        convert(tmp_path / "x.pth", preset_config("stcanet-tiny", blocks=()))


def test_a_conversion_leaves_out_what_retrieval_does_without(tmp_path: Path) -> None:
    state = published(model(1, blocks=()))
    extra = {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000), "pixel_mean": torch.zeros(3)}
    torch.save({**state, **extra}, tmp_path / "x.pth")
    _, report = convert(tmp_path / "x.pth", preset_config("stcanet-tiny", blocks=()))
    assert set(report.unknown) == {"classifier.weight", "classifier.bias", *extra}


def test_our_own_checkpoint_starts_another(tmp_path: Path) -> None:
    source, target = model(1, classes=5), model(2)
    save_checkpoint(Checkpoint.of(source), tmp_path / "a.pt")
    report = load_foreign(tmp_path / "a.pt", target)
    assert [name.split()[0] for name in report.unfit] == ["head.classifier.weight", "head.classifier.bias"]
    assert torch.equal(target.head.neck.weight, source.head.neck.weight)
    # It knows its own network, and would be made another one of, to whose input size, say, nobody trained it.
    with pytest.raises(CheckpointError, match=r"a\.pt is a checkpoint of this program already"):
        convert(tmp_path / "a.pt", target.config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no state dict .*, but nothing"),
        ({"net": {"a": torch.zeros(2)}, "epoch": 3}, "holds no state dict .*, but entries 'net', 'epoch'$"),
        (dict.fromkeys("abcdef"), "but entries 'a', 'b', 'c', 'd', 'e', …"),
        ({"state_dict": {"a": 1}}, "holds no state dict"),
        ({"state_dict": {1: torch.zeros(2)}}, "holds no state dict"),
        ({1: torch.zeros(2)}, "holds no state dict"),
        ({"state_dict": [torch.zeros(2)]}, "holds no state dict"),
        ({"weight": torch.zeros(2)}, "none of its 1 entry fits"),
        ([1, 2], "holds no state dict .*, but an object of type list"),
        (torch.zeros(2), "holds no state dict"),
        ({"state_dict": {}, "opener": open}, "not a weights file that is safe to load"),
    ],
)
def test_files_without_weights(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=message):
        load_foreign(tmp_path / "x.pth", model())


def test_why_a_path_leads_to_no_weights(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.toml", "metrics.jsonl", "best.pt"):
        (run / name).touch()
    last = tmp_path / "unvalidated" / "last.pt"
    last.parent.mkdir()
    last.touch()
    for path, reason in (
        (tmp_path / "none.pth", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (run / "best.pt" / "x.pth", "Not a directory"),  # as where it may not be read: neither missing nor a folder
        (run, f"is the folder of a run, whose checkpoint is {run / 'best.pt'}"),
        (last.with_name("best.pt"), f"its checkpoint is {last}"),
    ):
        for read in (lambda path: load_foreign(path, model()), lambda path: convert(path, model().config), load_checkpoint):
            with pytest.raises(CheckpointError, match=f"{re.escape(str(path))}.*{re.escape(reason)}"):
                read(path)
