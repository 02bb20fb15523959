"""From images to unit vectors, and every way in which a package can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from onnx import helper
from PIL import Image

from stcanet_runtime import Encoder, ImageError, Manifest, ManifestError, OptionError, PackageError, ShapeError, resize
from stcanet_runtime.files import sha256_file
from stcanet_runtime.inference.session import Session, open_session
from stcanet_runtime.inference.tracklets import Sampling
from stcanet_runtime.package.contents import load_manifest, package_sha256
from stcanet_runtime.package.manifest import METADATA_KEY

MakeCrop = Callable[..., NDArray[np.uint8]]
TOLERANCE = 1e-6


@pytest.fixture
def encoder(package: Path) -> Encoder:
    return Encoder.load(package, "cpu", threads=1)


@pytest.fixture
def clip_encoder(clip_package: Path) -> Encoder:
    return Encoder.load(clip_package, "cpu", threads=1)


def test_unit_rows_in_order(encoder: Encoder, make_crop: MakeCrop) -> None:
    images = [make_crop(seed) for seed in range(7)]
    embeddings = encoder.encode(images, "rgb", batch_size=3)
    assert embeddings.shape == (7, encoder.dim)
    assert embeddings.dtype == np.float32
    assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=TOLERANCE)
    for row, image in zip(embeddings, images, strict=True):
        assert_allclose(encoder.encode([image], "rgb")[0], row, atol=TOLERANCE)
    assert len({row.tobytes() for row in embeddings}) == 7


@pytest.mark.parametrize("batch_size", [1, 2, 6, 7, 8, 100])
def test_batch_size_changes_nothing(encoder: Encoder, make_crop: MakeCrop, batch_size: int) -> None:
    images = [make_crop(seed) for seed in range(7)]
    assert_allclose(encoder.encode(images, "rgb", batch_size), encoder.encode(images, "rgb"), atol=TOLERANCE)


def test_all_kinds_of_sources_agree(encoder: Encoder, crops: Path) -> None:
    paths = sorted(crops.iterdir())
    arrays = [np.asarray(Image.open(path)) for path in paths]
    expected = encoder.encode(paths)
    assert_array_equal(encoder.encode([str(path) for path in paths]), expected)
    assert_array_equal(encoder.encode([Image.fromarray(array) for array in arrays]), expected)
    assert_array_equal(encoder.encode(arrays, "rgb"), expected)
    assert_array_equal(encoder.encode([array[:, :, ::-1] for array in arrays], "bgr"), expected)
    assert not np.allclose(encoder.encode(arrays, "bgr"), expected, atol=1e-3)


def test_encode_resizes_as_preprocess_does(encoder: Encoder, make_crop: MakeCrop) -> None:
    crop = make_crop(height=77, width=31)
    direct, norms = encoder.embed_batch(resize(crop, 32, 16)[None])
    assert norms is None
    assert_array_equal(encoder.encode([crop], "rgb"), direct)


def test_many_threads_share_one_encoder(encoder: Encoder, make_crop: MakeCrop) -> None:
    images = [make_crop(seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda image: encoder.encode([image], "rgb")[0], images))
    assert_allclose(rows, encoder.encode(images, "rgb"), atol=TOLERANCE)


def test_nothing_gives_no_rows(encoder: Encoder, clip_encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.dim)
    assert encoder.embed_batch(np.empty((0, 32, 16, 3), np.uint8))[0].shape == (0, encoder.dim)
    assert clip_encoder.encode_tracklets([]).shape == (0, encoder.dim)


def test_arrays_without_color(encoder: Encoder, make_crop: MakeCrop) -> None:
    with pytest.raises(OptionError, match="color"):
        encoder.encode([make_crop()])


def test_a_single_image_is_not_a_list(encoder: Encoder, clip_encoder: Encoder, crops: Path, make_crop: MakeCrop) -> None:
    path = next(crops.iterdir())
    for single in (str(path), path, make_crop(), Image.fromarray(make_crop())):
        with pytest.raises(ShapeError, match="put a single one in brackets"):
            encoder.encode(single)  # type: ignore[arg-type]
        with pytest.raises(ShapeError, match=r"tracklets\[0\] must be a list"):
            clip_encoder.encode_tracklets([single])  # type: ignore[list-item]


def test_a_batch_array_is_a_list_of_images(encoder: Encoder, make_crop: MakeCrop) -> None:
    images = np.stack([make_crop(seed) for seed in range(3)])
    assert_array_equal(encoder.encode(images, "rgb"), encoder.encode(list(images), "rgb"))  # type: ignore[arg-type]


def test_an_array_that_is_no_image_is_named_by_its_index(encoder: Encoder, make_crop: MakeCrop) -> None:
    with pytest.raises(ShapeError, match=r"images\[1\]: an image array must be uint8 \[H, W, 3\], got uint8 \[\d+, \d+\]"):
        encoder.encode([make_crop(), make_crop()[:, :, 0]], color="rgb")


def test_bad_image_stops_by_default_and_is_listed_on_request(encoder: Encoder, crops: Path) -> None:
    paths = sorted(crops.iterdir())
    paths[2].write_text("not an image")
    with pytest.raises(ImageError, match=paths[2].name):
        encoder.encode(paths)
    bad: dict[int, ImageError] = {}
    steps: list[tuple[int, int]] = []
    rows = encoder.encode(paths, on_error=bad.__setitem__, batch_size=2, progress=lambda *step: steps.append(step))
    assert list(bad) == [2]
    assert_allclose(rows, encoder.encode(paths[:2] + paths[3:]), atol=TOLERANCE)
    assert steps == [(2, 6), (5, 6), (6, 6)]


def test_batch_size_below_one(encoder: Encoder, crops: Path) -> None:
    with pytest.raises(OptionError, match="batch_size must be at least 1, got 0"):
        encoder.encode(list(crops.iterdir()), batch_size=0)


@pytest.mark.parametrize("shape", [(1, 32, 16, 4), (1, 16, 32, 3), (32, 16, 3), (1, 1, 32, 16, 3)])
def test_embed_batch_checks_its_shape(encoder: Encoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"batch must be uint8 \[any, 32, 16, 3\]"):
        encoder.embed_batch(np.zeros(shape, np.uint8))


def test_a_broken_model_gives_an_error_and_no_nan(encoder: Encoder) -> None:
    with pytest.raises(PackageError, match="not finite"):  # a black image has the feature 0, and 0 / 0 is NaN here
        encoder.embed_batch(np.zeros((1, 32, 16, 3), np.uint8))


# --- boxes


def test_boxes_are_the_crops_at_their_places(encoder: Encoder, make_crop: MakeCrop) -> None:
    frame = make_crop(height=90, width=120)
    boxes = [[3, 4, 40, 80], [500, 0, 600, 90], [100, 10, 130, 60], [np.nan] * 4]
    embeddings, valid = encoder.encode_boxes(frame, boxes, "bgr")
    assert valid.tolist() == [True, False, True, False]
    expected = encoder.encode([frame[4:80, 3:40], frame[10:60, 100:120]], "bgr")
    assert_allclose(embeddings[valid], expected, atol=TOLERANCE)
    assert not embeddings[~valid].any()


@pytest.mark.parametrize("boxes", [[], [[-5, -5, 0, 0]], [[7, 7, 7, 7], [9, 9, 3, 3]]])
def test_frames_without_people(encoder: Encoder, make_crop: MakeCrop, boxes: list[list[int]]) -> None:
    embeddings, valid = encoder.encode_boxes(make_crop(), boxes, "rgb")
    assert embeddings.shape == (len(boxes), encoder.dim)
    assert not valid.any()


def test_a_box_is_a_tracklet_of_one_frame(clip_encoder: Encoder, make_crop: MakeCrop) -> None:
    frame = make_crop(height=60, width=60)
    embeddings, _ = clip_encoder.encode_boxes(frame, [[1, 2, 30, 50]], "rgb")
    assert_allclose(embeddings, clip_encoder.encode_tracklets([[frame[2:50, 1:30]]], "rgb"), atol=TOLERANCE)


# --- tracklets


def test_tracklet_is_the_mean_of_its_unnormalised_clips(clip_encoder: Encoder, make_crop: MakeCrop) -> None:
    frames = [make_crop(seed, 32, 16) // (1 + seed) for seed in range(10)]
    clips = np.stack([np.stack([frames[i % 10] for i in range(start, start + 4)]) for start in (0, 4, 8)])
    embeddings, norms = clip_encoder.embed_batch(clips)
    assert norms is not None
    assert np.ptp(norms) > 0.1  # else the weights would not show
    mean = (norms[:, None] * embeddings).mean(axis=0)
    assert_allclose(clip_encoder.encode_tracklets([frames], "rgb")[0], mean / np.linalg.norm(mean), atol=TOLERANCE)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 50])
def test_tracklets_do_not_mix(clip_encoder: Encoder, make_crop: MakeCrop, batch_size: int) -> None:
    tracklets = [[make_crop(10 * t + f) for f in range(length)] for t, length in enumerate((1, 4, 5, 12, 3))]
    steps: list[tuple[int, int]] = []
    together = clip_encoder.encode_tracklets(tracklets, "rgb", batch_size, lambda *step: steps.append(step))
    assert steps[-1] == (8, 8)
    for row, tracklet in zip(together, tracklets, strict=True):
        assert_allclose(clip_encoder.encode_tracklets([tracklet], "rgb")[0], row, atol=TOLERANCE)
    assert_allclose(np.linalg.norm(together, axis=1), 1, atol=TOLERANCE)


def test_an_image_is_a_tracklet_of_one_frame(clip_encoder: Encoder, make_crop: MakeCrop) -> None:
    crop = make_crop()
    assert_allclose(clip_encoder.encode([crop], "rgb"), clip_encoder.encode_tracklets([[crop]], "rgb"), atol=TOLERANCE)


def test_tracklets_need_frames(clip_encoder: Encoder, make_crop: MakeCrop) -> None:
    with pytest.raises(ShapeError, match=r"tracklets\[1\] has no frames"):
        clip_encoder.encode_tracklets([[make_crop()], []], "rgb")


def test_a_package_of_images_averages_over_frames(encoder: Encoder, make_crop: MakeCrop) -> None:
    frames = [make_crop(seed) for seed in range(5)]
    mean = encoder.encode(frames, "rgb").mean(axis=0)
    assert_allclose(encoder.encode_tracklets([frames], "rgb")[0], mean / np.linalg.norm(mean), atol=TOLERANCE)
    with pytest.raises(OptionError, match="this model takes single images"):
        encoder.encode_tracklets([frames], "rgb", sampling=Sampling(clip_length=4))


def test_flip_averages_the_unit_embeddings_of_tracklet_and_mirror_image(clip_encoder: Encoder, make_crop: MakeCrop) -> None:
    frames = [make_crop(seed, 32, 16) // (1 + seed) for seed in range(6)]
    mirror = [frame[:, ::-1] for frame in frames]
    plain, mirrored = clip_encoder.encode_tracklets([frames, mirror], "rgb")
    assert np.abs(plain - mirrored).max() > 1e-3
    both = clip_encoder.encode_tracklets([frames, mirror], "rgb", sampling=Sampling(flip=True))
    mean = (plain + mirrored) / np.linalg.norm(plain + mirrored)
    assert_allclose(both, [mean, mean], atol=TOLERANCE)


def test_clips_of_another_length_than_the_package_takes(clip_encoder: Encoder, make_crop: MakeCrop) -> None:
    with pytest.raises(OptionError, match="clips of exactly that length"):
        clip_encoder.encode_tracklets([[make_crop()]], "rgb", sampling=Sampling(clip_length=3))


# --- packages


def test_loads_the_model_alone(package: Path, crops: Path, tmp_path: Path) -> None:
    alone = (tmp_path / "alone.onnx").resolve()
    alone.write_bytes((package / "model.onnx").read_bytes())
    paths = list(crops.iterdir())
    assert_array_equal(Encoder.load(alone, "cpu").encode(paths), Encoder.load(package, "cpu").encode(paths))


def test_an_altered_model_is_refused(package: Path) -> None:
    with (package / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(PackageError, match=r"model\.onnx was altered"):
        Encoder.load(package, "cpu")


def edit_manifest(package: Path, **changes: object) -> None:
    value = json.loads((package / "manifest.json").read_text())
    (package / "manifest.json").write_text(json.dumps(value | changes))


def test_an_edited_manifest_is_refused(package: Path) -> None:
    edit_manifest(package, preset="another")
    with pytest.raises(ManifestError, match=r"contradicts .* in: preset"):
        Encoder.load(package, "cpu")


def relabel(package: Path, manifest: Manifest) -> None:
    """Put a manifest into the model and beside it, hash and all: a consistent lie."""
    model = onnx.load(package / "model.onnx")
    helper.set_model_props(model, {METADATA_KEY: replace(manifest, model_sha256=None).to_json()})
    onnx.save(model, package / "model.onnx")
    (package / "manifest.json").write_text(replace(manifest, model_sha256=sha256_file(package / "model.onnx")).to_json())


@pytest.mark.parametrize("name", ["", "model.onnx"], ids=["folder", "file"])
def test_a_model_that_is_replaced_after_its_check_is_not_opened(
    package: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def replace_first(*args: Any, **options: Any) -> Session:
        relabel(package, replace(load_manifest(package), preset="another"))
        return open_session(*args, **options)

    monkeypatch.setattr("stcanet_runtime.inference.encoder.open_session", replace_first)
    with pytest.raises(PackageError, match="was replaced while it was opened"):
        Encoder.load(package / name, "cpu")
    monkeypatch.undo()
    assert Encoder.load(package / name, "cpu").model_sha256 == package_sha256(package)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("input", {"height": 64}, r"input 'images' is uint8 \[any, 64, 16, 3\], the model has uint8 \[any, 32, 16, 3\]"),
        ("input", {"name": "clips", "clip_length": 4}, "input 'clips', the model has images"),
        ("output", {"dim": 9}, r"output 'embeddings' is float \[any, 9\]"),
    ],
)
def test_a_manifest_that_does_not_fit_the_graph(package: Path, part: str, changes: dict[str, object], message: str) -> None:
    manifest = Manifest.from_json((package / "manifest.json").read_text())
    relabel(package, replace(manifest, **{part: replace(getattr(manifest, part), **changes)}))
    with pytest.raises(ManifestError, match=message):
        Encoder.load(package, "cpu")


def test_a_clip_package_needs_norms(clip_package: Path) -> None:
    manifest = Manifest.from_json((clip_package / "manifest.json").read_text())
    model = onnx.load(clip_package / "model.onnx")
    del model.graph.output[1]
    onnx.save(model, clip_package / "model.onnx")
    relabel(clip_package, manifest)
    with pytest.raises(ManifestError, match="output 'norms', the model has embeddings"):
        Encoder.load(clip_package, "cpu")


def test_a_fixed_batch_is_refused_at_load_and_not_at_the_second_batch(package: Path) -> None:
    manifest = Manifest.from_json((package / "manifest.json").read_text())
    model = onnx.load(package / "model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, package / "model.onnx")
    relabel(package, manifest)
    with pytest.raises(ManifestError, match=r"model's input is \[1, 32, 16, 3\]"):
        Encoder.load(package, "cpu")


def test_not_a_package(tmp_path: Path, crops: Path) -> None:
    for path in (tmp_path / "none", crops, next(crops.iterdir())):
        with pytest.raises(PackageError):
            Encoder.load(path)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "manifest.json").write_text("{}")
    with pytest.raises(ManifestError, match="field preset is missing"):
        Encoder.load(tmp_path / "half")
