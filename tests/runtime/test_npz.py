"""Arrays from files of anybody: what is read is what was written, and sizes that are lies allocate nothing."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from stcanet_runtime.npz import read_npz


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "arrays.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_was_written(path: Path, save: object) -> None:
    arrays = {"x": np.arange(6.0).reshape(2, 3).T, "names": np.array(["a", "ü"]), "none": np.zeros((0, 4), np.float32)}
    save(path, **arrays)  # type: ignore[operator]
    found = read_npz(path, [*arrays, "missing"])
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert read_npz(path, ["names"]).keys() == {"names"}


def test_objects_are_refused(path: Path) -> None:
    np.savez(path, x=np.array([{"a": 1}]))
    with pytest.raises(ValueError, match="Python objects"):
        read_npz(path, ["x"])


def test_a_shape_that_is_a_lie(path: Path) -> None:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 2**10)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", file.getvalue() + bytes(64))
    with pytest.raises(ValueError, match="says that it has 4,503,599,627,370,"):
        read_npz(path, ["x"])


def test_too_large(path: Path) -> None:
    np.savez_compressed(path, x=np.zeros(2**20, np.uint8))
    with pytest.raises(ValueError, match="at most 1,000,000 are allowed"):
        read_npz(path, ["x"], most=10**6)


@pytest.mark.parametrize("damage", ["cut", "middle", "text", "lzma", "member"])
def test_damage(path: Path, damage: str) -> None:
    np.savez_compressed(path, x=np.random.default_rng(0).random(1000))
    data = bytearray(path.read_bytes())
    if damage == "lzma":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("x.npy", bytes(100))
    elif damage == "member":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", b"no array")
    else:
        data[len(data) // 2] ^= 0xFF
        path.write_bytes({"cut": data[:-40], "middle": data, "text": b"text"}[damage])
    with pytest.raises(ValueError):
        read_npz(path, ["x"])
