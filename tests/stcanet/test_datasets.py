"""Readers: what is kept, what is dropped, and what is said when something is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stcanet.data.datasets import load_dataset
from stcanet.data.datasets.manifest import SPLITS
from stcanet.data.scoring import score
from stcanet_runtime.errors import DataError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 8)).save(path)


@pytest.fixture
def market(tmp_path: Path) -> Path:
    train = ("0002_c1s1_000001_00.jpg", "0002_c12s3_000001_01.jpg", "-1_c1s1_000002_00.jpg")
    query = ("0007_c3s1_000001_00.jpg",)
    gallery = ("0007_c4s1_000001_00.jpg", "0000_c2s1_000001_00.jpg", "-1_c2s1_000009_00.jpg", "0007_c3s2_000001_00.jpg")
    for folder, names in (("bounding_box_train", train), ("query", query), ("bounding_box_test", gallery)):
        touch(*(tmp_path / folder / name for name in names))
    (tmp_path / "bounding_box_train" / "Thumbs.db").write_bytes(b"")
    return tmp_path


def test_market_layout(market: Path) -> None:
    dataset = load_dataset(market)
    assert [(sample.pid, sample.camid) for sample in dataset.train] == [(2, 11), (2, 0)]  # '_c12' sorts before '_c1s'
    assert [(sample.pid, sample.camid) for sample in dataset.query] == [(7, 2)]
    assert sorted((sample.pid, sample.camid) for sample in dataset.gallery) == [(0, 1), (7, 2), (7, 3)]
    assert dataset.junk == 1  # that of the gallery
    assert dataset.has_cameras
    assert dataset.describe()["gallery"] == {
        "samples": 3,
        "images": 3,
        "identities": 1,
        "cameras": 3,
        "distractors": 1,
    }


def test_people_counted_from_0_are_people(market: Path) -> None:
    touch(market / "bounding_box_train" / "0000_c1s1_000001_00.jpg", market / "query" / "0000_c1s1_000001_00.jpg")
    dataset = load_dataset(market)
    assert {sample.pid for sample in dataset.train} == {0, 2}
    assert {sample.pid for sample in dataset.query} == {0, 7}
    assert score(dataset.query, dataset.gallery, np.eye(2, 4), np.eye(3, 4)).protocol.num_distractors == 0


def test_missing_folder_shows_the_expected_ones(tmp_path: Path) -> None:
    (tmp_path / "query").mkdir()
    with pytest.raises(DataError, match=r"expected bounding_box_train/.*missing 'bounding_box_train' or 'bounding_box_test'"):
        load_dataset(tmp_path)


def test_empty_folder_is_an_error(market: Path) -> None:
    for path in (market / "query").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="query"):
        load_dataset(market)


def test_unreadable_name_is_an_error(market: Path) -> None:
    touch(market / "query" / "me.jpg")
    with pytest.raises(DataError, match=r"me\.jpg.*0001_c1s1_000004_00\.jpg"):
        load_dataset(market)


def manifest(folder: Path, text: str) -> Path:
    touch(folder / "a.jpg", folder / "sub" / "b.jpg")
    path = folder / "crops.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_manifest(tmp_path: Path) -> None:
    lines = (
        "path,pid,camid,split",
        "a.jpg,5,0,train",
        "sub/b.jpg,6,12,query",
        "a.jpg,0,1,gallery",
        "a.jpg,-1,1,gallery",
    )
    dataset = load_dataset(manifest(tmp_path, "\n".join(lines)))
    assert not dataset.tracklets
    assert (dataset.train[0].pid, dataset.train[0].camid) == (5, 0)
    assert dataset.query[0].camid == 12
    assert dataset.query[0].path == tmp_path / "sub" / "b.jpg"
    assert [sample.pid for sample in dataset.gallery] == [0]
    assert dataset.junk == 1


def test_people_of_a_manifest_may_count_from_0(tmp_path: Path) -> None:
    lines = ["path,pid,camid,split"] + [f"a.jpg,{pid},{camid},{split}" for pid in (0, 1) for camid, split in enumerate(SPLITS)]
    dataset = load_dataset(manifest(tmp_path, "\n".join(lines)))
    for samples in (dataset.train, dataset.query, dataset.gallery):
        assert [sample.pid for sample in samples] == [0, 1]
    result = score(dataset.query, dataset.gallery, np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))
    assert (result.num_valid_queries, result.rank(1), result.protocol.num_distractors) == (2, 1.0, 0)


def test_manifest_of_tracklets(tmp_path: Path) -> None:
    lines = ("path,pid,camid,split,track,frame", "a.jpg,5,0,train,1,17", "sub/b.jpg,5,0,train,1,3", "a.jpg,5,0,query,1,0")
    lines += tuple(f"a.jpg,-1,0,gallery,{track},{frame}" for track in (0, 1) for frame in (0, 1))
    dataset = load_dataset(manifest(tmp_path, "\n".join(lines)))
    assert dataset.tracklets
    assert dataset.junk == 2
    assert [path.name for path in dataset.train[0].frames] == ["b.jpg", "a.jpg"]
    assert len(dataset.train) == len(dataset.query) == 1


def test_manifest_without_cameras(tmp_path: Path) -> None:
    dataset = load_dataset(manifest(tmp_path, "path,pid,camid,split\na.jpg,5,,query\nsub/b.jpg,5,-1,gallery\n"))
    assert not dataset.has_cameras
    lines = "path,pid,camid,split\na.jpg,5,,train\na.jpg,5,1,query\nsub/b.jpg,5,2,gallery\na.jpg,-1,,gallery\n"
    assert load_dataset(manifest(tmp_path, lines)).has_cameras


def test_manifest_with_names_as_spreadsheets_write_it(tmp_path: Path) -> None:
    lines = (
        "Path;PID; CamID;Split",
        "a.jpg;zoe;front door;train",
        "a.jpg;ben;back;query",
        "sub/b.jpg; ben ;front door;gallery",
    )
    dataset = load_dataset(manifest(tmp_path, "\ufeff" + "\n".join(lines)))
    found = [(sample.pid, sample.camid) for sample in (*dataset.train, *dataset.query, *dataset.gallery)]
    assert found == [(2, 1), (1, 0), (1, 1)]
    assert dataset.notes == (
        "pid holds names, which are numbered in sorted order: 1 is ben, 2 is zoe",
        "camid holds names, which are numbered in sorted order: 0 is back, 1 is front door",
    )
    many = [f"a.jpg,p{number},,train" for number in range(9)]
    dataset = load_dataset(manifest(tmp_path, "\n".join(["path,pid,camid,split", *many])))
    assert not any(sample.camid >= 0 for sample in dataset.train)
    assert dataset.notes[0].endswith("order: 1 is p0, 2 is p1, 3 is p2, 4 is p3, 5 is p4, …, 9 is p8")


@pytest.mark.parametrize("names", [("1_2", "1_3"), ("1_2", "x_2"), ("7e1", "a40"), ("Bob", "Nan")])
def test_names_that_python_reads_as_numbers(tmp_path: Path, names: tuple[str, str]) -> None:
    lines = [f"a.jpg,{name},,train" for name in names]
    dataset = load_dataset(manifest(tmp_path, "\n".join(["path,pid,camid,split", *lines])))
    assert [sample.pid for sample in dataset.train] == [1, 2]


def test_columns_that_are_called_alike(tmp_path: Path) -> None:
    dataset = load_dataset(manifest(tmp_path, "path,pid,PID,camid,split,track,frame,Frame\na.jpg,1,9,0,query,1,0,early\n"))
    assert dataset.query[0].pid == 1
    assert load_dataset(manifest(tmp_path, "path;pid;camid;split;remark, notes\na.jpg;7;0;query;none\n")).query[0].pid == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,pid,split\na.jpg,1,train\n", "missing 'camid' in 'path,pid,split'; camid may stay empty"),
        ("path|pid|camid|split\n", r"missing 'path', 'pid', 'camid' or 'split' in 'path\|pid\|camid\|split'$"),
        ("path,PID,Pid,camid,split\n", "expected one column pid, got 2: 'PID' or 'Pid'; rename all but one"),
        ("path,pid,pid,camid,split\n", "expected one column pid, got 2: 'pid' or 'pid'"),
        ("", "missing 'path', 'pid', 'camid' or 'split' in ''$"),
        ("path,pid,camid,split\n", "lists no images"),
        (
            "path,pid,camid,split\na.jpg,-1,1,train\na.jpg,x,1,train\n",
            "line 3: pid must be a whole number, got 'x', or a name on every line, and others have numbers, such as '-1'",
        ),
        ("path,pid,camid,split\na.jpg,-1,1,train\na.jpg,x,1,train\n", "such as '-1'; beside names, leave lines of junk out$"),
        ("path,pid,camid,split\na.jpg,1.0,1,train\n", "line 2: pid must be a whole number, got '1.0'"),
        ("path,pid,camid,split\na.jpg,1E+05,1,train\n", r"line 2: pid must be a whole number, got '1E\+05'"),
        ("path,pid,camid,split\na.jpg,nan,1,train\na.jpg,7,1,train\n", "line 2: pid must be a whole number, got 'nan'"),
        ("path,pid,camid,split\na.jpg,anna,1,train\na.jpg,,1,train\n", "line 3: pid is empty"),
        ("path,pid,camid,split\na.jpg,1,front,train\na.jpg,1,,train\n", "line 3: camid is empty; give every line of train"),
        ("path,pid,camid,split,track\na.jpg,1,1,train,1_2\n", "line 2: track must be a whole number, got '1_2'"),
        (
            f"path,pid,camid,split\na.jpg,{2**63},1,train\n",
            "line 2: pid must be a whole number of 64 bits, got '9223372036854775808'",
        ),
        ("path,pid,camid,split\na.jpg,,1,train\n", "line 2: pid is empty"),
        ("path,pid,camid,split\na.jpg,1,1,test\n", "line 2: split must be 'train', 'query' or 'gallery', got 'test'"),
        ("path,pid,camid,split\na.jpg,1,1,train\ngone.jpg,1,1,train\n", r"line 3: there is no image .*gone\.jpg"),
        ("path,pid,camid,split\na.jpg,1\n", "line 2: split must be"),
        ("path,pid,camid,split,track\na.jpg,1,1,train,1\na.jpg,2,1,train,1\n", "line 3: track 1 has pid 1"),
        ("path,pid,camid,split,track\na.jpg,1,1,train,1\na.jpg,2,1,train,\n", "line 3: track is empty"),
        ("path,pid,camid,split\na.jpg,-1,,gallery\na.jpg,1,1,query\na.jpg,1,,gallery\n", "line 4: camid is empty"),
        ("path,pid,camid,split\na.jpg,1,1,train\na.jpg,1,,train\n", "line 3: camid is empty; give every line of train a camid"),
        ("path,pid,camid,split\na.jpg,1,-2,train\n", "line 2: camid must be 0 or more, or empty where it is unknown, got -2"),
    ],
)
def test_damaged_manifests(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(manifest(tmp_path, text))


def test_manifest_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(DataError, match="cannot read the manifest"):
        load_dataset(tmp_path / "x.csv")


def test_neither_folder_nor_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder or \.csv"):
        load_dataset(tmp_path / "nothing")
