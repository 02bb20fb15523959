"""The package folder: what is in it, and that it is there whole or not at all."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from renames import interrupt_the_second_rename

from stcanet.engine.checkpoint import Checkpoint, save_checkpoint
from stcanet.model import Embedder, STCANet
from stcanet_export.onnx import Contract
from stcanet_export.package import FILES, export_package, named, replacing
from stcanet_export.parity.gate import check_parity
from stcanet_export.parity.report import ParityReport
from stcanet_export.parity.tolerance import Tolerance
from stcanet_export.variants.calibration import Calibration
from stcanet_export.variants.precision import Precision
from stcanet_export.variants.variant import Variant
from stcanet_runtime import Encoder
from stcanet_runtime.errors import CheckpointError, DataError, ManifestError, OptionError, PackageError, ParityError
from stcanet_runtime.inference.golden import verify_package
from stcanet_runtime.package.archive import opened
from stcanet_runtime.package.contents import load_manifest, verify_checksum
from stcanet_runtime.package.manifest import METADATA_KEY, Manifest
from stcanet_runtime.package.signature import load_secret_key, sign

UNSIGNED = FILES - {"manifest.json.minisig"}
IMPOSSIBLE = Tolerance(min_cosine=1.0, max_abs=1e-30)


def test_contents(image_package: Path) -> None:
    assert {path.name for path in image_package.iterdir()} == UNSIGNED
    manifest = load_manifest(image_package)
    assert set(manifest.checksums) == {"parity.json", "golden.npz", "MODEL_CARD.md"}
    verify_checksum(image_package, manifest)
    assert manifest.model_sha256 in (image_package / "MODEL_CARD.md").read_text(encoding="utf-8")
    report = json.loads((image_package / "parity.json").read_text())
    assert report["passed"] is True
    assert len(report["crops"]) >= 8
    assert report["notes"] == []
    assert report["candidate"]["model_sha256"] == load_manifest(image_package).model_sha256


def test_golden_vectors_are_what_the_runtime_gives(image_package: Path, clip_package: Path) -> None:
    for package, name in ((image_package, "images"), (clip_package, "clips")):
        encoder = Encoder.load(package, "cpu")
        with np.load(package / "golden.npz") as golden:
            embeddings, norms = encoder.embed_batch(golden[name])
            np.testing.assert_allclose(embeddings, golden["embeddings"], atol=1e-3)
            if norms is not None:
                np.testing.assert_allclose(norms, golden["norms"], rtol=5e-3)
            assert len(np.unique(golden[name].reshape(len(embeddings), -1), axis=0)) == len(embeddings)


def test_from_a_checkpoint(image_model: STCANet, traced: None, tmp_path: Path) -> None:
    training = {"dataset": "drawn", "train_images": 7, "config": {"data": "/home/somebody/secret"}}
    checkpoint = Checkpoint.of(image_model, 3, metrics={"val_mAP": 0.5}, training=training)
    save_checkpoint(checkpoint, tmp_path / "best.pt")
    out = tmp_path / "market.stcanet"
    signer, public_key = _signer(tmp_path)
    counts = dict.fromkeys(("num_query", "num_gallery", "queries_in_gallery", "num_distractors", "num_junk", "clip_length"), 1)
    rules = {
        "data": {},
        "same_camera_rule": "off",
        "ap_rule": "rectangle",
        "metric": "cosine",
        "frames": "single image",
        "flip": False,
    }
    origin = {"evaluation": [{"data": "drawn", "mAP": 0.5, "mINP": 0.5, "cmc": [1.0], "protocol": {**counts, **rules}}]}
    result = export_package(tmp_path / "best.pt", out, origin=origin, licence="CC0-1.0", signer=signer)
    manifest = load_manifest(out)
    assert (result.path, result.manifest, manifest.licence) == (out, manifest, "CC0-1.0")
    source = manifest.source
    assert source["trained"] is True
    assert source["metrics"] == {"val_mAP": 0.5}
    assert source["training"] == {"dataset": "drawn", "train_images": 7}
    assert source["evaluation"][0]["mAP"] == 0.5
    assert len(source["checkpoint_sha256"]) == 64
    assert verify_package(out, "cpu", public_key).passed
    assert {path.name for path in tmp_path.iterdir()} == {"best.pt", "market.stcanet", *KEYS}
    with opened(out) as folder:
        assert {path.name for path in folder.iterdir()} == FILES
        card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
        assert "CC0-1.0" in card
        assert "| drawn | 50.00 |" in card
        for path in folder.iterdir():
            assert b"/home/somebody" not in path.read_bytes()
    with pytest.raises(PackageError, match="--force"):
        export_package(tmp_path / "best.pt", out)


KEYS = {"ours.key", "ours.pub"}


def _signer(folder: Path) -> tuple[Callable[[Path], None], Path]:
    pair = pytest.importorskip("minisign").KeyPair.generate()
    (folder / "ours.key").write_bytes(bytes(pair.secret_key))
    (folder / "ours.pub").write_bytes(bytes(pair.public_key))
    return partial(sign, key=load_secret_key(folder / "ours.key", str)), folder / "ours.pub"


@pytest.mark.parametrize(("out", "expected"), [("package", "package"), (".", "here"), ("a/b.zip", "a/b.zip")])
def test_a_path_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, expected: str) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = named(out)
    assert path.name == Path(expected).name
    assert path.resolve() == (tmp_path / "here" / out).resolve()


def test_a_failing_gate_leaves_only_its_report(image_model: STCANet, traced: None, tmp_path: Path) -> None:
    out = tmp_path / "package"
    with pytest.raises(ParityError, match=r"parity failed: .*max"):
        export_package(image_model, out, tolerance=IMPOSSIBLE)
    assert [path.name for path in tmp_path.iterdir()] == ["package.failed.json"]
    report = json.loads((tmp_path / "package.failed.json").read_text())
    assert report["passed"] is False
    assert any(not check["passed"] for check in report["checks"])


def test_a_failing_gate_keeps_the_old_package_and_success_clears_the_report(
    image_model: STCANet, image_package: Path, traced: None, tmp_path: Path
) -> None:
    out = tmp_path / "package"
    shutil.copytree(image_package, out)
    before = load_manifest(out)
    for _ in range(2):  # the second finds the report of the first
        with pytest.raises(ParityError):
            export_package(image_model, out, force=True, tolerance=IMPOSSIBLE)
        assert load_manifest(out) == before
    (out / "golden.npz").unlink()
    export_package(image_model, out, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["package"]
    assert {path.name for path in out.iterdir()} == UNSIGNED


@pytest.mark.parametrize("name", ["package", "package.zip"])
def test_what_came_while_it_was_exported_stays(
    image_model: STCANet, traced: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    out = tmp_path / name
    notes = out if name.endswith(".zip") else out / "notes.txt"

    def meanwhile(*arguments: Any, **options: Any) -> ParityReport:
        notes.parent.mkdir(exist_ok=True)
        notes.write_text("years of work")
        return check_parity(*arguments, **options)

    monkeypatch.setattr("stcanet_export.package.check_parity", meanwhile)
    with pytest.raises(PackageError, match=r"notes\.txt|is there already"):
        export_package(image_model, out)
    assert notes.read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_interrupt_between_the_two_renames_keeps_the_old_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "package"
    out.mkdir()
    (out / "model.onnx").write_text("old")
    interrupt_the_second_rename(monkeypatch)
    with pytest.raises(KeyboardInterrupt), replacing(out, force=True) as folder:
        (folder / "model.onnx").write_text("new")
    assert (out / "model.onnx").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["package"]


@pytest.mark.parametrize("content", ['{"passed": false}', "[" * 5000, "my notes", "[]"])
def test_what_has_the_name_of_the_report_is_left(image_model: STCANet, tmp_path: Path, content: str) -> None:
    own = tmp_path / "package.failed.json"
    own.write_text(content)
    with pytest.raises(PackageError, match=r"package\.failed\.json is there, .*; move it"):
        export_package(image_model, tmp_path / "package")
    assert own.read_text() == content
    assert list(tmp_path.iterdir()) == [own]


@pytest.mark.parametrize("licence", ["two\nlines", "caf\udce9"])
def test_a_licence_is_one_line(image_model: STCANet, tmp_path: Path, licence: str) -> None:
    with pytest.raises(OptionError, match="licence must be one line of text"):
        export_package(image_model, tmp_path / "package", licence=licence)


@pytest.mark.parametrize("variant", [Variant(Precision("int8", Calibration("nowhere"))), Variant(evaluate="nowhere")])
def test_missing_data_is_said_before_the_export(tmp_path: Path, variant: Variant) -> None:
    """Before the checkpoint is read, too: there is none here."""
    with pytest.raises(DataError, match="nowhere"):
        export_package(tmp_path / "none.pt", tmp_path / "package", variant=variant)


def test_data_without_queries_is_said_before_the_export(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    data = tmp_path / "people.csv"
    data.write_text("path,pid,camid,split\na.png,1,1,train\n")
    with pytest.raises(DataError, match="has 0 query and 0 gallery samples"):
        export_package(tmp_path / "none.pt", tmp_path / "package", variant=Variant(evaluate=str(data)))


def test_what_is_there_is_not_overwritten(image_model: STCANet, image_package: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="--force"):
        export_package(image_model, image_package)
    (tmp_path / "thesis.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(PackageError, match=r"thesis\.tex"):
            export_package(image_model, tmp_path, force=force)
    with pytest.raises(PackageError, match="not a folder"):
        export_package(image_model, tmp_path / "thesis.tex", force=True)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as photos:
        photos.writestr("holiday.jpg", b"")
    (tmp_path / "notes.zip").write_text("years of work")
    for name, words in (("photos.zip", r"holds 'holiday\.jpg'"), ("notes.zip", "is no model package")):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(PackageError, match=words):
            export_package(image_model, tmp_path / name, force=True)
        assert (tmp_path / name).read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"thesis.tex", "photos.zip", "notes.zip"}


def test_clip_length(clip_model: STCANet, image_model: STCANet, tmp_path: Path) -> None:
    origin = {"training_data": "drawn"}
    fixed = Contract(dynamic_time=False)
    result = export_package(clip_model, tmp_path / "package", contract=fixed, clip_length=2, size=(48, 32), origin=origin)
    graph = onnx.load(result.path / "model.onnx")
    inside = Manifest.from_json({entry.key: entry.value for entry in graph.metadata_props}[METADATA_KEY])
    assert replace(result.manifest, model_sha256=None, checksums={}) == inside
    assert inside.input.shape == (None, 2, 48, 32, 3)
    assert inside.source == origin
    axes = graph.graph.input[0].type.tensor_type.shape.dim
    assert [axis.dim_value or axis.dim_param for axis in axes] == ["batch", 2, 48, 32, 3]
    assert not any("frames" in check.name for check in result.report.checks)
    with pytest.raises(OptionError, match="takes single images"):
        export_package(image_model, tmp_path / "other", clip_length=2)
    with pytest.raises(OptionError, match="takes single images"):
        export_package(image_model, tmp_path / "other", contract=fixed)


@pytest.mark.parametrize(
    ("notes", "message"), [(json.loads("[" * 40 + "]" * 40), "nested"), ("x" * 5_000_000, "bytes long")], ids=["deep", "long"]
)
def test_more_than_a_manifest_holds_is_said_before_the_export(
    image_model: STCANet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: Any, message: str
) -> None:
    save_checkpoint(Checkpoint.of(image_model, training={"notes": notes}), tmp_path / "best.pt")
    monkeypatch.setattr("stcanet_export.onnx._trace", lambda *_: pytest.fail("it was not said before the work"))
    with pytest.raises(ManifestError, match=f"manifest: source .*{message}"):
        export_package(tmp_path / "best.pt", tmp_path / "package")
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]


@pytest.mark.parametrize("content", [b"", b"just text\n", b"PK\x03\x04 no archive"])
def test_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "best.pt").write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        export_package(tmp_path / "best.pt", tmp_path / "package")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "package").exists()


def test_a_checkpoint_of_others(tmp_path: Path) -> None:
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of 'stcanet train'"):
        export_package(tmp_path / "other.pt", tmp_path / "package")


def test_the_exported_package_serves_files_like_pytorch(image_model: STCANet, image_package: Path, tmp_path: Path) -> None:
    from PIL import Image

    crop = np.random.default_rng(1).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    Image.fromarray(crop).save(tmp_path / "a.png")
    with torch.inference_mode():
        expected = Embedder(image_model)(torch.from_numpy(crop)[None]).numpy()
    np.testing.assert_allclose(Encoder.load(image_package, "cpu").encode([tmp_path / "a.png"]), expected, atol=1e-3)
