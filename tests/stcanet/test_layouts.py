"""Every published layout, made small; and what the reader says when it is damaged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stcanet.commands.datasets import _report
from stcanet.data.datasets import LAYOUTS, ReIDDataset, find_layout, load_dataset
from stcanet.data.datasets.check import check_dataset
from stcanet.engine.validation import choose_validation
from stcanet_runtime.errors import DataError, OptionError

scipy_io = pytest.importorskip("scipy.io")


def picture(path: Path) -> Path:
    """A small image whose pixels follow from its path, so that no two are the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = np.frombuffer(str(path).encode(), np.uint8)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 4, 3), dtype=np.uint8)).save(path)
    return path


def make_market(root: Path) -> Path:
    for name in ("bounding_box_train/0002_c1s1_000451_03.jpg", "bounding_box_train/0002_c12s1_000551_01.jpg"):
        picture(root / name)
    picture(root / "query/0007_c1s1_001051_00.jpg")
    for name in ("0007_c2s1_001051_01.jpg", "0000_c1s1_000151_01.jpg", "-1_c1s1_000401_03.jpg"):
        picture(root / "bounding_box_test" / name)
    return root


def make_duke(root: Path) -> Path:
    picture(root / "bounding_box_train/0001_c2_f0046182.jpg")
    picture(root / "bounding_box_train/0001_c3_f0046302.jpg")
    picture(root / "query/0005_c2_f0046985.jpg")
    picture(root / "bounding_box_test/0005_c7_f0044158.jpg")
    (root / "query/.DS_Store").touch()
    return root


def make_msmt(root: Path, version: str = "V1") -> Path:
    train, test = ("train", "test") if version == "V1" else ("mask_train_v2", "mask_test_v2")
    lists = {
        "train": ["0000/0000_000_01_0303morning_0008_0.jpg 0", "0001/0001_000_15_0303noon_0008_1.jpg 1"],
        "val": ["0000/0000_001_01_0303morning_0009_0.jpg 0", "0000/0000_002_04_0303morning_0010_0.jpg 0"],
        "query": ["0000/0000_000_02_0302morning_0009_0.jpg 0"],
        "gallery": ["0000/0000_001_11_0302morning_0012_2.jpg 0", "0001/0001_001_11_0302morning_0012_2.jpg 1"],
    }
    for split, lines in lists.items():
        for line in lines:
            picture(root / (train if split in ("train", "val") else test) / line.split()[0])
        (root / f"list_{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def make_cuhk(root: Path) -> Path:
    names = [f"1_{pid:03d}_{camera}_{number:02d}.png" for pid in (1, 2) for camera in (1, 2) for number in (1, 2)]
    for name in names:
        picture(root / "images_detected" / name)
    cells = np.empty((len(names), 1), object)
    cells[:, 0] = names
    scipy_io.savemat(
        root / "cuhk03_new_protocol_config_detected.mat",
        {
            "filelist": cells,
            "labels": np.array([[1, 1, 1, 1, 2, 2, 2, 2]], float).T,
            "camId": np.array([[1, 1, 2, 2, 1, 1, 2, 2]], float).T,
            "train_idx": np.array([[1, 2, 3, 4]], float).T,
            "query_idx": np.array([[5]], float).T,
            "gallery_idx": np.array([[6, 7, 8]], float).T,
        },
    )
    return root


def write_tracks(root: Path, side: str, tracks: list[tuple[str, int, int, int, int]]) -> None:
    """Tracklets as (name prefix, first frame, last frame, identity, camera)."""
    names: list[str] = []
    rows = []
    for prefix, frames, track, pid, camera in tracks:
        first = len(names) + 1
        for frame in range(1, frames + 1):
            names.append(f"{prefix}C{camera}T{track:04d}F{frame:03d}.jpg")
            picture(root / f"bbox_{side}" / prefix / names[-1])
        rows.append([first, len(names), pid, camera])
    info = root / "info"
    info.mkdir(parents=True, exist_ok=True)
    (info / f"{side}_name.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    scipy_io.savemat(
        info / f"tracks_{side}_info.mat", {f"track_{side}_info": np.array(rows, np.uint16 if side == "train" else float)}
    )


def make_mars(root: Path) -> Path:
    write_tracks(root, "train", [("0001", 3, 1, 1, 1), ("0001", 2, 1, 1, 6)])
    write_tracks(root, "test", [("0000", 2, 1, 0, 1), ("00-1", 1, 1, -1, 2), ("0002", 3, 1, 2, 1), ("0002", 1, 1, 2, 2)])
    scipy_io.savemat(root / "info" / "query_IDX.mat", {"query_IDX": np.array([[3]])})
    return root


def make_dukev(root: Path) -> Path:
    for split, pid, track, camera, frames in (
        ("train", 1, 1, 6, 70), ("train", 1, 2, 2, 3), ("query", 5, 1, 1, 3), ("gallery", 5, 2, 8, 12), ("gallery", 9, 1, 8, 1)
    ):  # fmt: skip
        for frame in range(1, frames + 1):
            name = f"{pid:04d}_C{camera}_F{frame:04d}_X{30000 + frame}.jpg"
            # The older spelling in one tracklet.
            name = name.replace("_", "") if split == "query" else name
            picture(root / split / f"{pid:04d}" / f"{track:04d}" / name)
    return root


MAKERS: dict[str, Callable[[Path], Path]] = {
    "market1501": make_market,
    "dukemtmcreid": make_duke,
    "msmt17": make_msmt,
    "cuhk03": make_cuhk,
    "mars": make_mars,
    "dukemtmcvidreid": make_dukev,
}


def numbers(dataset: ReIDDataset) -> dict[str, list[tuple[int, int, int]]]:
    """(identity, camera, frames) of every sample."""
    return {
        split: [(sample.pid, sample.camid, len(sample.frames)) for sample in getattr(dataset, split)]
        for split in ("train", "query", "gallery")
    }


EXPECTED = {
    "market1501": {"train": [(2, 11, 1), (2, 0, 1)], "query": [(7, 0, 1)], "gallery": [(0, 0, 1), (7, 1, 1)]},
    "dukemtmcreid": {"train": [(1, 1, 1), (1, 2, 1)], "query": [(5, 1, 1)], "gallery": [(5, 6, 1)]},
    "msmt17": {"train": [(0, 0, 1), (1, 14, 1)], "query": [(0, 1, 1)], "gallery": [(0, 10, 1), (1, 10, 1)]},
    "cuhk03": {
        "train": [(1, 0, 1), (1, 0, 1), (1, 1, 1), (1, 1, 1)],
        "query": [(2, 0, 1)],
        "gallery": [(2, 0, 1), (2, 1, 1), (2, 1, 1)],
    },
    "mars": {
        "train": [(1, 0, 3), (1, 5, 2)],
        "query": [(2, 0, 3)],
        "gallery": [(0, 0, 2), (2, 0, 3), (2, 1, 1)],
    },
    "dukemtmcvidreid": {"train": [(1, 5, 70), (1, 1, 3)], "query": [(5, 0, 3)], "gallery": [(5, 7, 12), (9, 7, 1)]},
}


PROTOCOLS = {
    "msmt17": {"version": "V1"},
    "cuhk03": {"boxes": "detected"},
    "mars": {"gallery": "MARS, official"},
    "dukemtmcvidreid": {"training": "sparse"},
}


@pytest.mark.parametrize("name", MAKERS)
def test_reads_the_published_structure(tmp_path: Path, name: str) -> None:
    root = MAKERS[name](tmp_path / "data")
    dataset = load_dataset(root)
    assert numbers(dataset) == EXPECTED[name]
    assert (dataset.name, dataset.root) == ("data", root)
    assert dataset.junk == (name in ("market1501", "mars"))
    assert {key: text.partition(":")[0] for key, text in dataset.protocol.items()} == PROTOCOLS.get(name, {})
    (tracklets,) = (layout.tracklets for layout in LAYOUTS if layout.name == name)
    assert dataset.tracklets == tracklets == (name in ("mars", "dukemtmcvidreid"))
    assert ("val" in dataset.describe()) == (name == "msmt17")
    assert dataset.notes == ()  # a folder that does not bear the name is not held to the published counts
    assert load_dataset(f"{name}={root}").notes  # one that is called so is
    assert numbers(load_dataset(tmp_path)) == EXPECTED[name]  # found from the folder around it


def test_every_layout_has_a_maker() -> None:
    assert [layout.name for layout in LAYOUTS] == list(MAKERS)


@pytest.mark.parametrize(
    ("folder", "name", "maker"),
    [
        ("Market-1501-v15.09.15", "market1501", make_market),
        ("dukemtmc-reid/DukeMTMC-reID", "dukemtmcreid", make_duke),
        ("msmt17/MSMT17_V1", "msmt17", make_msmt),
        ("dukemtmc-vidreid/DukeMTMC-VideoReID", "dukemtmcvidreid", make_dukev),
        ("MARS", "mars", make_mars),
    ],
)
def test_spellings_of_folders(tmp_path: Path, folder: str, name: str, maker: Callable[[Path], Path]) -> None:
    maker(tmp_path / folder)
    dataset = load_dataset(tmp_path / Path(folder).parts[0])
    assert dataset.name == name
    assert "instead of" in dataset.notes[0]


def test_aliases() -> None:
    for alias, name in {
        "Duke": "dukemtmcreid",
        "DUKEV": "dukemtmcvidreid",
        "Market-1501": "market1501",
        "msmt": "msmt17",
    }.items():
        layout = find_layout(alias)
        assert layout is not None
        assert layout.name == name
    assert find_layout("unknown") is None


def test_folders_in_any_case(tmp_path: Path) -> None:
    root = make_duke(tmp_path / "x")
    (root / "bounding_box_train").rename(root / "Bounding-Box-Train")
    assert len(load_dataset(root).train) == 2


def test_msmt17_version_2_and_its_validation_images(tmp_path: Path) -> None:
    dataset = load_dataset(make_msmt(tmp_path / "x", "V2"))
    assert dataset.protocol == {"version": "V2"}
    assert [(sample.pid, sample.camid) for sample in dataset.val] == [(0, 0), (0, 3)]
    more = replace(dataset, val=(*dataset.val, *(replace(sample, pid=1) for sample in dataset.val)))
    train, query, gallery, _ = choose_validation(more, 0.1, seed=1)
    assert train == dataset.train  # nobody is held back: the data set has its own images for that
    assert len(query) == 4
    assert set(gallery) == set(query)
    assert choose_validation(more, 0.0, seed=1)[1] == ()


def test_msmt17_of_two_versions_is_not_mixed_up(tmp_path: Path) -> None:
    make_msmt(make_msmt(tmp_path / "x"), "V2")
    with pytest.raises(DataError, match="the images of MSMT17 V1 and of V2"):
        load_dataset(tmp_path / "x")


def test_cuhk03_in_folders(tmp_path: Path) -> None:
    root = tmp_path / "CUHK03-NP"
    for boxes in ("detected", "labeled"):
        make_market(root / boxes)
    dataset = load_dataset(root)
    assert (dataset.name, dataset.protocol) == ("cuhk03", {"boxes": "detected"})
    assert "gallery 2 instead of 5,332" in dataset.notes[0]
    labeled = load_dataset(f"cuhk03:labeled={root}")
    assert labeled.query[0].path.parent.parent.name == "labeled"
    assert "gallery 2 instead of 5,328" in labeled.notes[0]


def test_cuhk03_in_folders_that_do_not_name_their_boxes(tmp_path: Path) -> None:
    root = make_market(tmp_path / "cuhk03")
    dataset = load_dataset(root)
    assert (dataset.name, dataset.protocol, len(dataset.notes)) == ("cuhk03", {}, 1)
    with pytest.raises(DataError, match="do not say whose boxes"):
        load_dataset(f"cuhk03:labeled={root}")


@pytest.mark.parametrize("name", ["market_people", "markethall", "dukes", "mars2"])
def test_a_name_that_only_begins_like_a_published_one_claims_nothing(tmp_path: Path, name: str) -> None:
    dataset = load_dataset({"dukes": make_duke, "mars2": make_mars}.get(name, make_market)(tmp_path / name))
    assert (dataset.name, dataset.notes) == (name, ())


def test_mars_doubled_folder_and_torchreid_gallery(tmp_path: Path) -> None:
    root = make_mars(tmp_path / "x")
    (root / "inner").mkdir()
    (root / "bbox_train").rename(root / "inner" / "bbox_train")
    (root / "inner").rename(root / "bbox_train")
    official, torchreid = load_dataset(root), load_dataset(f"mars:torchreid={root}")
    assert numbers(official) == EXPECTED["mars"]
    assert set(official.gallery) - set(torchreid.gallery) == set(official.query)
    assert official.protocol["gallery"].startswith("MARS, official")
    assert official.protocol != torchreid.protocol


def test_duke_video_dense(tmp_path: Path) -> None:
    root = make_dukev(tmp_path / "x")
    dense = load_dataset(f"dukev:dense={root}")
    assert [len(sample.frames) for sample in dense.train] == [32, 38, 3]  # the last piece takes the remainder
    assert "_F0033_" in dense.train[1].path.name
    assert numbers(dense)["gallery"] == EXPECTED["dukemtmcvidreid"]["gallery"]
    (root / "train/0001/0001" / "0001_C6_F0002_X30002.jpg").unlink()
    assert "1 tracklet lacks frames" in load_dataset(root).notes[0]


def test_order_does_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = {name: maker(tmp_path / name / "x") for name, maker in MAKERS.items()}
    scandir, iterdir, found = os.scandir, Path.iterdir, []
    for backwards in (False, True):

        @contextmanager
        def ordered(folder: Path, backwards: bool = backwards) -> Iterator[list[os.DirEntry[str]]]:
            with scandir(folder) as entries:
                yield sorted(entries, key=lambda entry: entry.name, reverse=backwards)

        monkeypatch.setattr(os, "scandir", ordered)
        monkeypatch.setattr(Path, "iterdir", lambda self, back=backwards: iter(sorted(iterdir(self), reverse=back)))
        found.append({name: load_dataset(root) for name, root in roots.items()})
    assert found[0] == found[1]


def delete(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def rename(name: str, new: str) -> Callable[[Path], None]:
    return lambda root: (root / name).rename(root / new)


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_text(text, encoding="utf-8")


def save_mat(name: str, **arrays: object) -> Callable[[Path], None]:
    return lambda root: scipy_io.savemat(root / name, arrays)


def save_cuhk(**arrays: object) -> Callable[[Path], None]:
    cells = np.array(["1_001_1_01.png"], object)
    others = {"filelist": cells, **{name: np.ones(1) for name in ("labels", "camId", "train_idx", "query_idx", "gallery_idx")}}
    return save_mat("cuhk03_new_protocol_config_detected.mat", **{**others, **arrays})


def truncate(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:100])


DAMAGE = {
    "missing folder": ("market1501", rename("query", "queries"), "missing 'query'"),
    "empty folder": ("market1501", delete("query/0007_c1s1_001051_00.jpg"), "no images found"),
    "bad image name": ("market1501", write("query/person.jpg", ""), "person.jpg: expected a name like"),
    "missing list": ("msmt17", delete("list_val.txt"), "missing 'list_val.txt'"),
    "list names a missing image": (
        "msmt17",
        delete("test/0000/0000_000_02_0302morning_0009_0.jpg"),
        "list_query.txt line 1: there is no",
    ),
    "malformed line": ("msmt17", write("list_query.txt", "0000/0000.jpg zero\n"), "line 1: expected 'PID/PID_NUMBER"),
    "camera 0 of MSMT17": ("msmt17", write("list_query.txt", "0000/0000_000_00_x.jpg 0\n"), "line 1: expected 'PID"),
    "camera in letters": ("msmt17", write("list_query.txt", "0000/0000_000_ab_x.jpg 0\n"), "line 1: expected 'PID"),
    "label with an exponent": ("msmt17", write("list_query.txt", "0000/0000_000_01_x.jpg ²\n"), "line 1: expected 'PID"),
    "list names a missing folder": ("msmt17", write("list_query.txt", "0009/0000_000_02_x.jpg 0\n"), "line 1: there is no"),
    "path that leaves the folder": (
        "msmt17",
        write("list_query.txt", "../../0000_000_02_x.jpg 0\n"),
        "points outside",
    ),
    "absolute path": ("msmt17", write("list_query.txt", "/etc/0000_000_02_x.jpg 0\n"), "points outside"),
    "missing image folder": ("msmt17", rename("train", "elsewhere"), "missing the image folder 'train'"),
    "truncated mat": ("mars", truncate("info/tracks_test_info.mat"), "cannot read .*tracks_test_info.mat"),
    "mat without its array": ("mars", save_mat("info/query_IDX.mat", other=np.ones(3)), "has no array 'query_IDX'"),
    "mat of the wrong shape": (
        "mars",
        save_mat("info/tracks_train_info.mat", track_train_info=np.ones((2, 3))),
        r"must be numbers in shape \[N, 4\], got float64 \[2, 3\]",
    ),
    "range past the names": (
        "mars",
        save_mat("info/tracks_train_info.mat", track_train_info=np.array([[1, 99, 1, 1]])),
        "has 99; expected 1 to 5",
    ),
    "identity below junk": (
        "mars",
        save_mat("info/tracks_train_info.mat", track_train_info=np.array([[1, 1, -2, 1]])),
        r"\(identities\)' has -2; expected -1 to",
    ),
    "camera 0 of MARS": (
        "mars",
        save_mat("info/tracks_train_info.mat", track_train_info=np.array([[1, 1, 1, 0]])),
        r"\(cameras\)' has 0; expected 1 to",
    ),
    "query out of range": ("mars", save_mat("info/query_IDX.mat", query_IDX=np.array([[5]])), "has 5; expected 1 to 4"),
    "fractions": ("mars", save_mat("info/query_IDX.mat", query_IDX=np.array([[1.5]])), "must hold whole numbers"),
    "no number": ("mars", save_mat("info/query_IDX.mat", query_IDX=np.array([[np.nan]])), "must hold whole numbers"),
    "few bytes that claim much memory": (
        "mars",
        lambda root: scipy_io.savemat(
            root / "info/query_IDX.mat", {"query_IDX": np.zeros((1, 20_000_001), np.uint8)}, do_compression=True
        ),
        "claims 20,000,001 values",
    ),
    "path that leaves the folder on Windows": (
        "msmt17",
        write("list_query.txt", "..\\..\\0000_000_02_x.jpg 0\n"),
        "points outside",
    ),
    "missing frame": ("mars", delete("bbox_test/0002/0002C1T0001F002.jpg"), "tracklet 3: there is no image"),
    "two people in a tracklet": (
        "mars",
        save_mat("info/tracks_test_info.mat", track_test_info=np.array([[1, 3, 0, 1]])),
        "frames of 0000C1 and of 00-1C2",
    ),
    "frame name that escapes": ("mars", write("info/test_name.txt", "../../a\n" * 7), "points outside|there is no image"),
    "no tracklet folder": ("dukemtmcvidreid", lambda root: (root / "gallery/0011").mkdir(), "0011 is empty"),
    "bad frame name": ("dukemtmcvidreid", write("train/0001/0001/frame.jpg", ""), "frame.jpg: expected a name like"),
    "two cameras in a tracklet": ("dukemtmcvidreid", write("train/0001/0001/0001_C2_F0099_X3.jpg", ""), "seen by one camera"),
    "folder that is no identity": ("dukemtmcvidreid", lambda root: (root / "query/abc").mkdir(), "named after an identity"),
    "folder that no int() reads": ("dukemtmcvidreid", lambda root: (root / "query/²").mkdir(), "named after an identity"),
    "mat names a missing image": ("cuhk03", delete("images_detected/1_002_1_01.png"), "'query_idx': there is no image"),
    "labels of another number": ("cuhk03", save_cuhk(labels=np.ones(2)), "1 names, 2 labels and 1 cameras"),
    "camera 0": ("cuhk03", save_cuhk(camId=np.zeros(1)), "'camId' has 0; expected 1 to"),
    "no images": ("cuhk03", rename("images_detected", "images"), "missing images_detected/"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_has_its_own_message(tmp_path: Path, kind: str) -> None:
    name, damage, message = DAMAGE[kind]
    root = MAKERS[name](tmp_path / "x")
    damage(root)
    with pytest.raises(DataError, match=message):
        load_dataset(f"{name}={root}")


def test_messages_differ() -> None:
    messages = [message for _, _, message in DAMAGE.values()]
    assert len(set(messages)) >= 20


def test_what_is_no_data_set(tmp_path: Path) -> None:
    for track in range(6):
        picture(tmp_path / "street" / str(track) / "1.jpg")
    with pytest.raises(DataError, match="do not say who is who"):
        load_dataset(tmp_path / "street")
    with pytest.raises(DataError, match="no such folder"):
        load_dataset(tmp_path / "nowhere")
    with pytest.raises(OptionError, match="data set must be 'market1501'"):
        load_dataset(f"imagenet={tmp_path}")
    with pytest.raises(OptionError, match="variant of mars must be 'official' or 'torchreid'"):
        load_dataset(f"mars:other={make_mars(tmp_path / 'mars')}")
    make_market(tmp_path / "both" / "a")
    make_mars(tmp_path / "both" / "b")
    with pytest.raises(DataError, match="holds several data sets"):
        load_dataset(tmp_path / "both")
    with pytest.raises(DataError, match="not in the layout of mars; expected\nmars/"):
        load_dataset(f"mars={tmp_path / 'both' / 'a'}")


def test_a_folder_with_an_equals_sign(tmp_path: Path) -> None:
    assert load_dataset(make_market(tmp_path / "a=b")).train


NO_MATCH = "queries have no match in the gallery; where there is one camera, leave camid empty in a .csv"


def levels(dataset: ReIDDataset) -> dict[str, tuple[str, int]]:
    return {finding.message: (finding.level, finding.cases) for finding in check_dataset(dataset)}


def test_check_finds_what_readers_cannot_see(tmp_path: Path) -> None:
    root = make_market(tmp_path / "x")
    assert levels(load_dataset(root)) == {}
    (root / "bounding_box_test" / "0007_c2s1_001051_01.jpg").unlink()
    picture(root / "bounding_box_test" / "0007_c1s1_000001_01.jpg")  # the query's own camera
    (root / "bounding_box_train" / "0003_c1s1_000001_01.jpg").write_bytes((root / "query/0007_c1s1_001051_00.jpg").read_bytes())
    (root / "bounding_box_train" / "0007_c1s1_000009_01.jpg").write_bytes(b"no picture")
    done: list[tuple[int, int]] = []
    dataset = load_dataset(root)
    check_dataset(dataset, lambda *step: done.append(step))
    assert done[-1] == (7, 7)
    assert levels(dataset) == {
        "images cannot be read": ("error", 1),
        "images are in training and test": ("error", 1),
        NO_MATCH: ("error", 1),
        "identities are in training and among the queries": ("warning", 1),
        "training identities are seen by one camera only": ("warning", 2),
    }


def test_check_of_files_that_are_listed_more_than_once(tmp_path: Path) -> None:
    def found(*lines: str) -> dict[str, tuple[str, int]]:
        (tmp_path / "crops.csv").write_text("\n".join(["path,pid,camid,split", *lines]))
        return levels(load_dataset(tmp_path / "crops.csv"))

    for name in "abcd":
        picture(tmp_path / f"{name}.jpg")
    several, twice = "images are listed in several splits", "images are listed twice in a split"
    sound = ("a.jpg,1,0,train", "b.jpg,1,1,train", "c.jpg,2,0,query", "d.jpg,2,1,gallery")
    assert found(*sound, "c.jpg,2,0,gallery") == {}  # the camera rule keeps it from finding itself
    assert found(*sound, "a.jpg,3,2,gallery")[several] == ("error", 1)
    assert found(*sound, "a.jpg,1,0,train")[twice] == ("warning", 1)
    bare = [line.replace(",0,", ",,").replace(",1,t", ",,t").replace(",1,g", ",,g") for line in sound]
    assert found(*bare) == {}
    assert load_dataset(tmp_path / "crops.csv").describe()["gallery"]["cameras"] == 0
    only = "training identities are seen by one camera only"
    assert found("a.jpg,1,,train", "b.jpg,1,,train", *sound[2:]) == {}  # who sees training is not known
    assert found("a.jpg,1,0,train", "b.jpg,1,0,train", *bare[2:])[only] == ("warning", 1)
    assert found(*bare, "c.jpg,2,,gallery") == {several: ("error", 1)}
    assert found(*(line.replace(",1,g", ",0,g") for line in sound))[NO_MATCH] == ("error", 1)
    people = [line.replace("d.jpg,2", "d.jpg,3") for line in sound]
    assert found(*people)["queries have no match in the gallery"] == ("error", 1)  # the cameras are not at fault


def test_check_knows_that_msmt17_counts_people_of_training_and_test_apart(tmp_path: Path) -> None:
    assert "identities are in training and among the queries" not in levels(load_dataset(make_msmt(tmp_path / "x")))


def test_copies_in_what_chooses_a_checkpoint_are_not_in_test(tmp_path: Path) -> None:
    dataset = load_dataset(make_msmt(tmp_path / "x"))
    dataset.val[0].path.write_bytes(dataset.train[0].path.read_bytes())
    found = levels(dataset)
    assert found["images are exact copies of others"] == ("warning", 1)
    assert "images are in training and test" not in found


def test_an_empty_split_is_said_once(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    (tmp_path / "crops.csv").write_text("path,pid,camid,split\na.jpg,\33[2J,0,train\n")
    dataset = load_dataset(tmp_path / "crops.csv")
    findings = check_dataset(dataset)
    report = _report(dataset, findings)
    assert report.startswith(f"crops (images), {tmp_path / 'crops.csv'}\n")
    assert "\nwarning: the query split is empty\nwarning: the gallery split" in report
    assert report.endswith(": 1 is \\x1b[2J\n0 kinds of error, 4 kinds of warning")
    assert _report(dataset, findings[:1]).endswith("\n0 kinds of error, 1 kind of warning")


@pytest.mark.parametrize(("name", "list_file"), [("msmt17", "list_train.txt"), ("mars", "info/train_name.txt")])
def test_lists_with_a_byte_order_mark(tmp_path: Path, name: str, list_file: str) -> None:
    path = MAKERS[name](tmp_path / "x") / list_file
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert numbers(load_dataset(tmp_path / "x")) == EXPECTED[name]


def test_check_of_copies_and_counts(tmp_path: Path) -> None:
    root = make_market(tmp_path / "market1501")
    (root / "bounding_box_train" / "0002_c1s1_000452_03.jpg").write_bytes(
        (root / "bounding_box_train" / "0002_c1s1_000451_03.jpg").read_bytes()
    )
    dataset = load_dataset(root)
    assert "\nwarning: images are exact copies of others (1)\n" in _report(dataset, check_dataset(dataset))
    found = levels(dataset)
    assert found.pop("images are exact copies of others") == ("warning", 1)
    (note,) = found
    assert note.startswith("this is not the published market1501: train 3 instead of 12,936")
