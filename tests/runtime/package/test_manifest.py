"""The contract of a package: what is missing, wrong, altered or contradictory is named."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from stcanet_runtime import InputSpec, Manifest, ManifestError, OutputSpec, PackageError, load_manifest
from stcanet_runtime.package.archive import LIMITS
from stcanet_runtime.package.contents import verify_checksum, verify_embedded
from stcanet_runtime.package.manifest import METADATA_KEY

MANIFEST = Manifest(
    preset="stcanet-video",
    input=InputSpec("clips", 256, 128, 4),
    output=OutputSpec(2048),
    opset=18,
    created="2026-01-01T00:00:00+00:00",
    generator="stcanet 0.1.0",
    model_sha256="0" * 64,
    source={"checkpoint_sha256": "abc", "evaluation": {"mAP": "22.1"}},
)
FLOAT_INPUT = InputSpec("images", 256, 128, batch=8, layout="NCHW", dtype="float32", mean=(0.4, 0.4, 0.4), std=(0.2, 0.2, 0.2))


def test_round_trip() -> None:
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST
    images = replace(MANIFEST, input=InputSpec("images", 256, 128), model_sha256=None)
    assert Manifest.from_json(images.to_json()) == images
    normalised = replace(MANIFEST, input=FLOAT_INPUT, output=OutputSpec(2048, "output", False, part_maps=("a", "b")))
    assert Manifest.from_json(normalised.to_json()) == normalised


def test_shapes() -> None:
    assert MANIFEST.input.shape == (None, 4, 256, 128, 3)
    assert replace(MANIFEST.input, dynamic_time=True).shape == (None, None, 256, 128, 3)
    assert InputSpec("images", 256, 128).shape == (None, 256, 128, 3)
    assert FLOAT_INPUT.shape == (8, 3, 256, 128)
    assert FLOAT_INPUT.crops_shape == (None, 256, 128, 3)


def all_fields() -> list[str]:
    value = json.loads(MANIFEST.to_json())
    nested = [f"{outer}.{inner}" for outer in ("input", "output") for inner in value[outer]]
    return [*value, *nested]


def changed(name: str, *new: Any) -> str:
    """The manifest as JSON with one field removed, or set to a value."""
    value = copy.deepcopy(json.loads(MANIFEST.to_json()))
    holder = value
    *outer, last = name.split(".")
    for part in outer:
        holder = holder[part]
    holder.pop(last)
    if new:
        holder[last] = new[0]
    return json.dumps(value)


@pytest.mark.parametrize("name", all_fields())
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(ManifestError, match=rf"field {name} is missing"):
        Manifest.from_json(changed(name))


@pytest.mark.parametrize("name", all_fields())
def test_a_field_of_a_wrong_type_is_named(name: str) -> None:
    for wrong in ([1], 1.5):
        with pytest.raises(ManifestError, match=name) as caught:
            Manifest.from_json(changed(name, wrong))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input.height", 0),
        ("input.height", True),
        ("input.width", "128"),
        ("input.clip_length", None),
        ("input.name", "crops"),
        ("input.resample", "bilinear"),
        ("input.color", "bgr"),
        ("input.dynamic_time", 1),
        ("output.dim", -1),
        ("input.batch", 0),
        ("input.layout", "NCHW"),
        ("input.dtype", "float16"),
        ("input.mean", [0.1, 0.2, 0.3]),
        ("output.part_maps", [1]),
        ("output.part_maps", "maps"),
        ("output.metric", "consine"),
        ("precision", "bf16"),
        ("opset", 0),
        ("model_sha256", "12"),
        ("checksums", {"../x": "0" * 64}),
        ("checksums", {"golden.npz": "12"}),
        ("licence", 3),
        ("schema_version", 0),
        ("schema_version", 2),
        ("schema_version", "1"),
        ("surprise", 1),
        ("input", None),
    ],
)
def test_a_wrong_value_is_named(name: str, value: object) -> None:
    text = changed(name, value) if name != "surprise" else json.dumps(json.loads(MANIFEST.to_json()) | {name: value})
    with pytest.raises(ManifestError, match=name):
        Manifest.from_json(text)


@pytest.mark.parametrize("name", ["input.name", "input.mean", "opset", "licence", "long" * 10_000])
def test_what_a_stranger_writes_is_not_repeated_at_any_length(name: str) -> None:
    text = json.dumps(json.loads(MANIFEST.to_json()) | {name: 1}) if len(name) > 99 else changed(name, ["long" * 10_000])
    with pytest.raises(ManifestError, match=rf"{name[:99]}.*…$") as caught:
        Manifest.from_json(text)
    assert len(str(caught.value)) < 600


def test_values_nested_without_end() -> None:
    deep: dict[str, object] = {}
    for _ in range(900):
        deep = {"deeper": deep}
    with pytest.raises(ManifestError, match="nested in more than 32 levels"):
        Manifest.from_json(changed("source", deep))


def test_what_could_not_be_read_again_is_not_written() -> None:
    deep: list[object] = []
    for _ in range(29):
        deep = [deep]
    manifest = replace(MANIFEST, source={"notes": deep})  # and the manifest itself is the first of 32 levels
    assert Manifest.from_json(manifest.to_json()) == manifest
    with pytest.raises(ManifestError, match="source or conversion is nested in more than 32 levels"):
        replace(MANIFEST, source={"notes": [deep]})
    with pytest.raises(ManifestError, match=r"bytes long; at most 4,194,304 are allowed"):
        replace(MANIFEST, source={"notes": "x" * 4_194_304}).to_json()


def test_a_newer_schema_is_said_before_its_fields() -> None:
    with pytest.raises(ManifestError, match=r"schema_version 9 is not known here.*export the model again"):
        Manifest.from_json('{"schema_version": 9, "tensors": []}')


@pytest.mark.parametrize("mean", [None, [0.1, 0.2], [0.1, 0.2, 3], "abc", [0.1, 0.2, float("nan")]])
def test_a_float_input_says_its_normalisation(mean: Any) -> None:
    with pytest.raises(ManifestError, match=r"input\.mean must be three numbers"):
        replace(FLOAT_INPUT, mean=mean)


def test_images_have_no_clip_length() -> None:
    with pytest.raises(ManifestError, match="clip_length must be null for images"):
        InputSpec("images", 256, 128, 4)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 100_000])
def test_not_a_manifest_at_all(text: str) -> None:
    with pytest.raises(ManifestError):
        Manifest.from_json(text)


def test_loaded_from_folder_and_from_the_model_alone(package: Path) -> None:
    from_folder, from_model = load_manifest(package), load_manifest(package / "model.onnx")
    assert from_folder.model_sha256 is not None
    assert from_model.model_sha256 is None
    assert replace(from_folder, model_sha256=None) == from_model
    verify_checksum(package, from_folder)
    verify_embedded(package, from_folder)


def test_an_altered_model_is_found(package: Path) -> None:
    model = package / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(PackageError, match=r"model\.onnx was altered"):
        verify_checksum(package, load_manifest(package))


def test_a_manifest_without_hash_is_no_proof(package: Path) -> None:
    path = package / "manifest.json"
    path.write_text(replace(load_manifest(package), model_sha256=None).to_json())
    with pytest.raises(ManifestError, match="model_sha256"):
        verify_checksum(package, load_manifest(package))


def test_an_edited_manifest_contradicts_the_model(package: Path) -> None:
    manifest = load_manifest(package)
    edited = replace(manifest, input=replace(manifest.input, height=64))
    with pytest.raises(ManifestError, match=r"contradicts .* in: input$"):
        verify_embedded(package, edited)


def test_incomplete_packages(package: Path, tmp_path: Path) -> None:
    (package / "manifest.json").unlink()
    with pytest.raises(ManifestError, match=r"it has no manifest\.json"):
        load_manifest(package)
    with pytest.raises(PackageError, match="no such file"):
        load_manifest(tmp_path / "none.onnx")
    (package / "manifest.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestError, match="not UTF-8"):
        load_manifest(package)


def test_a_package_has_files_of_its_sizes(package: Path) -> None:
    """Not what could be read without end: a folder stands for a device here, of which a failing test would not return."""
    manifest, path = load_manifest(package), package / "manifest.json"
    (package / "golden.npz").mkdir()
    with pytest.raises(PackageError, match=r"golden\.npz is not a file"):
        verify_checksum(package, replace(manifest, checksums={"golden.npz": "0" * 64}))
    path.write_text(manifest.to_json() + " " * LIMITS["manifest.json"])
    with pytest.raises(ManifestError, match="at most 4,194,304 are allowed"):
        load_manifest(package)
    path.unlink()
    path.mkdir()
    with pytest.raises(ManifestError, match=r"it has no manifest\.json"):
        load_manifest(package)


def test_a_model_from_elsewhere_has_no_manifest(package: Path) -> None:
    model = onnx.load(package / "model.onnx")
    helper.set_model_props(model, {"author": "somebody"})
    onnx.save(model, package / "foreign.onnx")
    with pytest.raises(ManifestError, match=rf"no '{METADATA_KEY}' in the ONNX metadata"):
        load_manifest(package / "foreign.onnx")
