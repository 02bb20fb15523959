"""Golden vectors: a package is run again where it is, and a difference is seen."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from goldens import decoded, golden_vectors, seal, write_golden
from PIL import Image

from stcanet_runtime import Encoder
from stcanet_runtime.errors import ImageError, PackageError, ParityError
from stcanet_runtime.inference.golden import verify_package

SHAPE = (5, 32, 16, 3)


def _write(package: Path, change: np.ndarray | float) -> None:
    write_golden(package, embeddings=golden_vectors(package)["embeddings"] + np.float32(change))


def test_right_vectors_pass(package: Path) -> None:
    write_golden(package)
    result = verify_package(package, "cpu")
    assert result.passed
    assert (result.provider, result.crops) == ("cpu", 5)
    assert result.min_cosine > 0.999999
    result.raise_if_failed()


def test_a_package_that_is_not_whole_is_not_verified(package: Path) -> None:
    write_golden(package)
    (package / "parity.json").write_text("{}")
    seal(package, "golden.npz", "parity.json")
    (package / "parity.json").unlink()
    with pytest.raises(PackageError, match=r"parity\.json is missing, and the manifest lists it"):
        verify_package(package, "cpu")


@pytest.mark.parametrize("change", [0.01, np.nan])
def test_other_vectors_fail(package: Path, change: float) -> None:
    _write(package, change)
    result = verify_package(package, "cpu")
    with pytest.raises(ParityError, match="'cpu' does not compute what the package was verified with"):
        result.raise_if_failed()


def test_one_wrong_row_fails(package: Path) -> None:
    change = np.zeros((5, 1), np.float32)
    change[3] = 0.1
    _write(package, change)
    assert not verify_package(package, "cpu").passed


@pytest.mark.parametrize("kind", ["package", "clip_package"])
def test_a_machine_that_is_wrong_in_large_batches_fails(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """There are five golden vectors; the runtime runs 32 rows at once, crops or clips."""
    package: Path = request.getfixturevalue(kind)
    write_golden(package)
    embed_batch = Encoder.embed_batch
    last_right = np.minimum(np.arange(32), 16)
    monkeypatch.setattr(Encoder, "embed_batch", lambda self, batch: embed_batch(self, batch[last_right[: len(batch)]]))
    assert not verify_package(package, "cpu").passed


def test_no_batch_is_larger_than_the_runtime_makes(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For five rows at once TensorRT would build an engine anew, on the camera box."""
    write_golden(package)
    embed_batch, sizes = Encoder.embed_batch, set()
    monkeypatch.setattr(Encoder, "embed_batch", lambda self, batch: sizes.add(len(batch)) or embed_batch(self, batch))
    monkeypatch.setattr(Encoder, "load", partial(Encoder.load, batch_sizes=(1, 2, 4)))
    assert verify_package(package, "cpu").passed
    assert sizes == {1, 4}


@pytest.mark.parametrize(("factor", "passes"), [(1.0, True), (1.02, False), (np.nan, False)])
def test_lengths_of_clip_features_count(clip_package: Path, factor: float, passes: bool) -> None:
    write_golden(clip_package, norms=golden_vectors(clip_package)["norms"] * np.float32(factor))
    if np.isnan(factor):
        with pytest.raises(PackageError, match="are not the feature lengths"):
            verify_package(clip_package, "cpu")
        return
    result = verify_package(clip_package, "cpu")
    assert result.passed == passes
    assert result.min_cosine > 0.999999


@pytest.mark.parametrize(("decoder", "passes"), [("this", True), ("rounds", True), ("repeats", False)])
def test_another_decoder_of_files(package: Path, monkeypatch: pytest.MonkeyPatch, decoder: str, passes: bool) -> None:
    write_golden(package)
    pixels = decoded()["jpeg_pixels"]
    assert verify_package(package, "cpu").pixel_error == 0.0
    others = {"this": pixels, "rounds": pixels ^ 1, "repeats": _colours_repeated(pixels)}
    monkeypatch.setattr("stcanet_runtime.inference.golden.load_image", lambda _: others[decoder])
    result = verify_package(package, "cpu")
    assert result.passed == passes
    if not passes:
        with pytest.raises(ParityError, match=r"decodes JPEG files otherwise .* off by \d+\.\d\d of 255"):
            result.raise_if_failed()


def _colours_repeated(pixels: np.ndarray) -> np.ndarray:
    """As a decoder that does not interpolate them."""
    light, *colours = Image.fromarray(pixels).convert("YCbCr").split()
    halves = [colour.reduce(2).resize(colour.size, Image.Resampling.NEAREST) for colour in colours]
    return np.array(Image.merge("YCbCr", [light, *halves]).convert("RGB"))


def test_without_golden_vectors(package: Path) -> None:
    for given in (package, package / "model.onnx"):
        with pytest.raises(PackageError, match=rf"{given.name} has no golden\.npz: only a whole package can be verified"):
            verify_package(given, "cpu")


def test_vectors_that_the_manifest_does_not_know_are_refused(package: Path) -> None:
    """Else who cleared the hashes could change them."""
    write_golden(package)
    seal(package)
    with pytest.raises(PackageError, match=r"golden\.npz is not in the manifest"):
        verify_package(package, "cpu")


@pytest.mark.parametrize(
    "arrays",
    [
        {"embeddings": np.zeros((4, 8), np.float32)},
        {"embeddings": np.zeros((5, 8))},
        {"embeddings": np.array([{"a": 1}])},
        {"images": np.zeros((0, 32, 16, 3), np.uint8), "embeddings": np.zeros((0, 8), np.float32)},
        {"images": np.uint8(0)},
        {"jpeg_pixels": np.zeros((9, 9, 3), np.uint8)},
        {"jpeg_pixels": decoded()["jpeg_pixels"] / 255},
    ],
    ids=["rows", "type", "pickle", "none", "number", "size of pixels", "type of pixels"],
)
def test_damaged_vectors(package: Path, arrays: dict[str, np.ndarray]) -> None:
    write_golden(package, **arrays)
    with pytest.raises(PackageError, match=r"golden\.npz"):
        verify_package(package, "cpu")


def test_a_jpeg_that_is_none(package: Path) -> None:
    write_golden(package, jpeg=np.zeros(9, np.uint8))
    with pytest.raises(ImageError, match=r"cannot read image 'jpeg' in .*golden\.npz: "):
        verify_package(package, "cpu")


@pytest.mark.parametrize("name", ["images", "embeddings", "norms", "jpeg", "jpeg_pixels"])
def test_a_vector_that_is_missing(package: Path, name: str) -> None:
    write_golden(package, without=name)
    with pytest.raises(PackageError, match=rf"golden\.npz holds no golden vectors of this package: it has no array '{name}'"):
        verify_package(package, "cpu")


def test_no_zip(package: Path) -> None:
    (package / "golden.npz").write_bytes(b"no zip")
    seal(package, "golden.npz")
    with pytest.raises(PackageError, match=r"golden\.npz"):
        verify_package(package, "cpu")
