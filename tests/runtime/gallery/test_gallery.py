"""Galleries: what is enrolled is found, decided, forgotten; files of strangers are refused."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

if sys.platform != "win32":
    import resource

import numpy as np
import pytest
from numpy.typing import NDArray

from stcanet_runtime import Gallery, Where, rerank, search
from stcanet_runtime.errors import GalleryError, OptionError, ShapeError
from stcanet_runtime.gallery import database, erasure, held, lineage
from stcanet_runtime.gallery import templates as template_making
from stcanet_runtime.gallery.entry import Entry
from stcanet_runtime.gallery.erasure import find_traces, needles
from stcanet_runtime.gallery.gallery import Reranking
from stcanet_runtime.gallery.mirror import Column, Vocabulary
from stcanet_runtime.gallery.sqlite import SqliteStore

DIM, MODEL = 48, "a" * 64
Embeddings = NDArray[np.float32]


def nested(depth: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(depth - 1):
        made = [made]
    return made


def make_people(count: int = 60, identities: int = 6, seed: int = 0, noise: float = 0.6) -> tuple[Embeddings, list[str]]:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((identities, DIM))
    whose = np.arange(count) % identities
    x = centres[whose] + noise * rng.standard_normal((count, DIM))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x.astype(np.float32), [f"p{i}" for i in whose]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "site.gallery"


@pytest.fixture
def gallery(path: Path) -> Iterator[Gallery]:
    with Gallery.create(path, DIM, MODEL) as made:
        yield made


@pytest.fixture
def filled(gallery: Gallery) -> Gallery:
    x, identities = make_people()
    cameras = [f"c{i % 4}" for i in range(len(x))]
    extra = [{"zone": i % 3, "path": f"{i}.png", "shop": "north" if i % 2 else "south", "at": [i]} for i in range(len(x))]
    gallery.enrol(x, identities, cameras, times=np.arange(len(x)), tracks=[f"t{i}" for i in range(len(x))], metadata=extra)
    return gallery


# ---- search ----


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_search_is_that_of_the_kernels(path: Path, dtype: str) -> None:
    x, identities = make_people(1500)
    q, _ = make_people(9, seed=0, noise=0.9)
    with Gallery.create(path, DIM, MODEL, dtype=dtype) as gallery:
        ids = gallery.enrol(x[:700], identities[:700]) + gallery.enrol(x[700:], identities[700:])
        hits = gallery.search(q, 7)
    expected = search(q, x.astype(dtype), 7)
    assert ids == list(range(1, 1501))
    assert [[hit.entry.id - 1 for hit in row] for row in hits] == expected.indices.tolist()
    np.testing.assert_array_equal([[hit.distance for hit in row] for row in hits], expected.distances)


def test_entries_come_back_as_they_were(filled: Gallery) -> None:
    x, _ = make_people()
    (hit,) = filled.search(x[[17]], 1)[0]
    entry = hit.entry
    assert (entry.identity, entry.camera, entry.time, entry.track, entry.id) == ("p5", "c1", 17.0, "t17", 18)
    assert entry.metadata == {"zone": 2, "path": "17.png", "shop": "north", "at": [17]}
    assert hit.distance == 0.0


WHERES: list[tuple[Where, Callable[[int], bool]]] = [
    (Where(cameras=("c1", "c2")), lambda i: i % 4 in (1, 2)),
    (Where(cameras=("c1", "nowhere")), lambda i: i % 4 == 1),
    (Where(identities=("p3",)), lambda i: i % 6 == 3),
    (Where(after=10, before=20), lambda i: 10 <= i < 20),
    (Where(metadata={"zone": 2}), lambda i: i % 3 == 2),
    (Where(metadata={"zone": 1, "shop": "north"}), lambda i: i % 3 == 1 and i % 2 == 1),
    (Where(metadata={"missing": None}), lambda _: False),
    (Where(metadata={"zone": True}), lambda _: False),
    (Where(metadata={"at": "[5]"}), lambda _: False),
    (Where(metadata={"zone": -(2**63), "missing": 2**63 - 1}), lambda _: False),
    (Where(cameras=("c0",), after=30, metadata={"shop": "south"}), lambda i: i % 4 == 0 and i >= 30),
    (Where(before=55), lambda i: i < 55),
    (Where(identities=()), lambda _: False),
    (Where(), lambda _: True),
]


@pytest.mark.parametrize(("where", "meant"), WHERES, ids=[str(where) for where, _ in WHERES])
@pytest.mark.parametrize("own_camera", [True, False])
def test_filters(filled: Gallery, where: Where, meant: Callable[[int], bool], own_camera: bool) -> None:
    q, _ = make_people(5, seed=3)
    cameras = ["c0", "c1", None, "elsewhere", "c3"]
    hits = filled.search(q, 100, where, None if own_camera else cameras)
    assert filled.search(np.tile(q, (3, 1)), 100, where, None if own_camera else cameras * 3) == hits * 3
    for camera, row in zip(cameras, hits, strict=True):
        expected = {i for i in range(60) if meant(i) and (own_camera or f"c{i % 4}" != camera)}
        assert {hit.entry.id - 1 for hit in row} == expected
        assert [hit.distance for hit in row] == sorted(hit.distance for hit in row)


def test_an_unknown_camera_hides_nothing(gallery: Gallery) -> None:
    x, identities = make_people(4)
    gallery.enrol(x, identities, [None, None, "c0", "c1"])
    assert [len(hits) for hits in gallery.search(x[:3], 9, cameras=[None, "c0", "c7"])] == [4, 3, 4]
    for wrong in (np.arange(3), ["c0", 0, None], ["c0", "", None]):
        with pytest.raises(OptionError, match=r"^cameras must be names"):
            gallery.search(x[:3], cameras=wrong)  # type: ignore[arg-type]


def test_an_empty_gallery_finds_nobody(gallery: Gallery) -> None:
    q, _ = make_people(3)
    assert gallery.search(q) == [[], [], []]
    assert gallery.search(q, templates="mean") == [[], [], []]
    assert gallery.search(q, reranking=Reranking()) == [[], [], []]
    assert [d.identity for d in gallery.decide(q, 0.5)] == [None] * 3
    assert gallery.search(q[:0]) == []
    assert gallery.enrol(q[:0], []) == []


def test_the_shortlist_is_reranked(filled: Gallery) -> None:
    x, _ = make_people()
    q, _ = make_people(4, noise=0.9)
    settings = Reranking(5, 2, 0.3)
    hits = filled.search(q, 5, reranking=settings, shortlist=20)
    for query, row in zip(q, hits, strict=True):
        short = np.sort(search(query[None], x, 20).indices[0])
        expected = rerank(query[None], x[short], 5, 2, 0.3, top=5)
        assert [hit.entry.id - 1 for hit in row] == short[expected.indices[0]].tolist()
        np.testing.assert_array_equal([hit.distance for hit in row], expected.distances[0])


# ---- templates and decisions ----


def test_the_mean_stands_for_an_identity(gallery: Gallery) -> None:
    x, identities = make_people()
    gallery.enrol(x * (1 + np.arange(len(x)) % 5)[:, None], identities)  # lengths do not matter
    q, _ = make_people(4, noise=0.9)
    names = sorted(set(identities))
    means = np.stack([x[np.array(identities) == name].astype(np.float64).mean(axis=0) for name in names])
    expected = search(q, means, 6)
    hits = gallery.search(q, 10, templates="mean")
    assert [[hit.identity for hit in row] for row in hits] == [[names[i] for i in row] for row in expected.indices]
    np.testing.assert_allclose([[hit.distance for hit in row] for row in hits], expected.distances, atol=1e-6)
    with pytest.raises(OptionError, match="templates must be 'all', 'mean' or a number"):
        gallery.search(q, templates="median")


def test_distinct_templates_cover_an_identity(gallery: Gallery) -> None:
    rng = np.random.default_rng(0)
    poses = np.repeat(np.eye(3, DIM), 5, axis=0) + 0.01 * rng.standard_normal((15, DIM))
    gallery.enrol(poses, "anna")
    gallery.enrol(-poses[:2], "ben")
    entries = [hit.entry for hit in gallery.search(poses[:1], 99, templates=3)[0]]
    assert {(entry.id - 1) // 5 for entry in entries if entry.identity == "anna"} == {0, 1, 2}
    assert [entry.identity for entry in entries].count("ben") == 2
    assert len(gallery.search(poses[:1], 99, templates=100)[0]) == 17


def test_copies_are_no_templates(gallery: Gallery) -> None:
    x = np.eye(3, DIM)
    gallery.enrol(x[[0, 0, 0, 1]], "anna")
    gallery.enrol(np.zeros((3, DIM)), "nobody")
    hits = [hit.entry for hit in gallery.search(x[:1], 99, templates=4)[0]]
    assert len({entry.id for entry in hits}) == len(hits)
    assert sorted(entry.id for entry in hits if entry.identity == "anna") == [1, 4]


def test_templates_follow_the_gallery(filled: Gallery) -> None:
    x, _ = make_people()
    assert {hit.identity for hit in filled.search(x[:1], 99, templates="mean")[0]} == {f"p{i}" for i in range(6)}
    filled.enrol(x[:1], "new")
    assert len(filled.search(x[:1], 99, templates="mean")[0]) == 7
    filled.forget("p0")
    assert filled.search(x[:1], 99, templates="mean")[0][0].identity == "new"
    assert {hit.identity for hit in filled.search(x[:1], 99, Where(cameras=("c1",)), templates="mean")[0]} == {"p1", "p3", "p5"}


@pytest.mark.parametrize("templates", ["mean", 2])
@pytest.mark.parametrize("where", [Where(), Where(cameras=("c0", "c1"))])
def test_templates_are_made_anew_of_those_who_changed(
    filled: Gallery, path: Path, templates: str | int, where: Where, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, _ = make_people(20, seed=5)
    made = mock.Mock(side_effect=template_making._of_one)
    monkeypatch.setattr(template_making, "_of_one", made)

    def found(gallery: Gallery) -> list[tuple[float, Entry]]:
        made.reset_mock()
        return [(hit.distance, hit.entry) for hit in gallery.search(x[:1], 99, where, templates=templates)[0]]

    def swap(gallery: Gallery, *names: str) -> None:
        """One entry of each of two people goes to the other: they have as many as before."""
        ids = [int(gallery.store.rows(Where(identities=(name,), cameras=("c0", "c1"))).ids[0]) for name in names]
        for i, name in zip(ids, reversed(names), strict=True):
            gallery.rename([i], name)

    with Gallery.open(path) as other:
        changes: list[tuple[Callable[[], object], int]] = [
            (lambda: filled.search(x, templates="all"), 6),
            (lambda: filled.enrol(x[1:2], "p1", "c1"), 1),
            (lambda: other.enrol(x[2:4], ["p2", "new"], "c0"), 2),
            (lambda: other.enrol(x[4:5], "p2", "c9"), 0 if where.cameras else 1),
            (lambda: other.rename([62], "p4"), 2),
            (lambda: swap(other, "p0", "p1"), 2),
            (lambda: other.forget("p3"), 0),
            (lambda: other.expire(7), 4 if where.cameras else 5),
            (lambda: filled.search(x, templates="all"), 0),
        ]
        for change, changed in changes:
            change()
            kept, count = found(filled), made.call_count
            with Gallery.open(path) as fresh:
                assert kept == found(fresh)
            assert count == changed


def test_templates_are_those_of_the_filter(gallery: Gallery) -> None:
    x, _ = make_people(2)
    gallery.enrol(x, ["anna", "ben"], metadata=[{"vip": True}, {"vip": 1}])
    metadata: dict[str, Any] = {"vip": True}
    for value, whose in ((True, "anna"), (1, "ben")):
        metadata["vip"] = value
        for where in (Where(metadata={"vip": value}), Where(metadata=metadata)):
            assert [hit.identity for hit in gallery.search(x[:1], where=where, templates="mean")[0]] == [whose]


def test_many_names_in_an_array_are_a_filter_of_their_own(gallery: Gallery) -> None:
    x, _ = make_people(2)
    gallery.enrol(x, ["anna", "bert"])
    for whose in ("anna", "bert"):
        names = np.array(["x"] * 1000 + [whose] + ["x"] * 1000)  # its repr leaves the middle out
        found = gallery.search(x[:1], where=Where(identities=names), templates="mean")[0]  # type: ignore[arg-type]
        assert [hit.identity for hit in found] == [whose]


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -0.1, "0.3"])
def test_thresholds_that_recognise_nobody_are_refused(filled: Gallery, threshold: Any) -> None:
    x, _ = make_people(1)
    with pytest.raises(OptionError, match="threshold must be a finite number that is not negative"):
        filled.decide(x, threshold)
    with pytest.raises(OptionError, match="threshold must be"):
        filled.calibration = {"threshold": threshold}
    with pytest.raises(OptionError, match="same_camera_margin must be"):
        filled.calibration = {"threshold": 0.3, "same_camera_margin": threshold}
    with pytest.raises(OptionError, match="threshold must be"):
        filled.calibration = {"far": 0.01}
    if threshold == -0.1:
        for damaged in ({"threshold": threshold}, {"threshold": 0.3, "same_camera_margin": threshold}, [0.3]):
            filled.store.set_setting("calibration", damaged)
            with pytest.raises(GalleryError, match="calibration is damaged"):
                filled.decide(x)


@pytest.mark.parametrize(
    "values",
    [
        *({"metadata": {"x": value}} for value in (np.nan, np.inf, 2**63, -(2**63) - 1, "\udcff", "a\0b")),
        *({"metadata": {key: 1}} for key in ("\udcff", "a\0b", 1)),
        {"before": np.nan},
        {"after": datetime.now(UTC)},
        {"identities": "anna"},
    ],
)
def test_filters_that_choose_nobody_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(
        OptionError, match=r"must be (compared with finite numbers|compared by keys|of 64 bits|a time in|a tuple of names)"
    ):
        Where(**values)


def test_decisions_and_unknown(filled: Gallery) -> None:
    x, _ = make_people()
    stranger = np.random.default_rng(9).standard_normal((1, DIM))
    known, unknown = filled.decide(np.concatenate([x[[8]], stranger]), threshold=0.3)
    assert known.identity == "p2"
    assert unknown.identity is None
    assert unknown.nearest is not None
    assert unknown.nearest.distance > 0.3
    assert filled.decide(stranger, threshold=unknown.nearest.distance)[0].identity == unknown.nearest.identity  # at most


def test_the_calibrated_threshold_is_taken(filled: Gallery, path: Path) -> None:
    x, _ = make_people()
    with pytest.raises(GalleryError, match="has no threshold"):
        filled.decide(x[:1])
    filled.calibration = {"threshold": np.float32(0.25), "far": 0.001}
    with Gallery.open(path, read_only=True) as reader:
        assert reader.threshold == 0.25
        assert reader.decide(x[:1])[0].threshold == 0.25
    filled.calibration = {"threshold": 0.5, "metric": "cosine", "model": MODEL}
    for wrong, error in (({"metric": "euclidean"}, OptionError), ({"model": "b" * 64}, GalleryError)):
        with pytest.raises(error, match=r"metric must be 'cosine'|embeddings of model aaaaaaaa"):
            filled.calibration = {"threshold": 0.25, **wrong}
    assert filled.threshold == 0.5
    filled.calibration = {"threshold": 0.75, "metric": None, "model": None}
    assert filled.threshold == 0.75
    filled.calibration = None
    assert filled.threshold is None


# ---- retention ----


def test_expire(filled: Gallery) -> None:
    x, _ = make_people()
    before = filled.store.rows(Where())
    with pytest.raises(OptionError, match="before must be a time in seconds, got None"):
        filled.expire(before=None)  # type: ignore[arg-type]
    assert filled.expire(before=40) == 40
    assert filled.expire(before=40) == 0
    np.testing.assert_array_equal(before.embeddings, x)  # a copy: what has gone from memory is overwritten there
    assert {hit.entry.id for hit in filled.search(x[:1], 99)[0]} == set(range(41, 61))
    assert filled.enrol(x[:1], "p0") == [61]  # ids are never given again


def test_expired_bytes_are_overwritten(path: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((40, DIM)).astype(np.float32)
    with Gallery.create(path, DIM, MODEL) as gallery:
        gallery.enrol(x, "p", times=np.arange(40))
        gallery.expire(before=20)
        for file in tmp_path.iterdir():
            found = [row.tobytes() in file.read_bytes() for row in x]
            assert found == [False] * 20 + [file == path] * 20, file


def test_memory_is_overwritten() -> None:
    column = Column("float32", (2,))
    column.append(np.arange(1, 5001).reshape(2500, 2))
    column.keep(np.arange(2500) % 3 == 0)
    np.testing.assert_array_equal(column.values[:, 0], np.arange(2500)[::3] * 2 + 1)
    assert not column._array[len(column.values) : 2500].any()


def test_forgotten_is_gone_from_every_file(path: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with Gallery.create(path, DIM, MODEL) as gallery:
        rows: dict[str, list[Embeddings]] = {}
        for step in range(120):  # single rows and rewritten pages: what SQLite rearranges, it leaves copies of
            name = f"somebody-{step % 5}"
            rows.setdefault(name, []).append(rng.standard_normal((3, DIM)).astype(np.float32))
            gallery.enrol(rows[name][-1], name, tracks=f"track of {name}", metadata={"note": f"seen {name}"})
            if step % 40 == 39:
                gallery.rename([1, 2], f"somebody-{step % 3}")
        wanted = [x.tobytes() for x in np.concatenate(rows["somebody-4"])]
        assert find_traces(database.sidecars(path), wanted)
        assert gallery.forget("somebody-4") == 72
        for file in tmp_path.iterdir():
            data = file.read_bytes()
            assert b"somebody-4" not in data, file
            assert not any(x[start : start + 16] in data for x in wanted for start in range(0, len(x) - 16, 16)), file
        assert {hit.identity for hit in gallery.search(rows["somebody-4"][0], 400)[0]} == {f"somebody-{i}" for i in range(4)}
        with pytest.raises(GalleryError, match="no identity 'somebody-4'"):
            gallery.forget("somebody-4")


def test_names_that_moved_from_page_to_page_are_gone(path: Path) -> None:
    with Gallery.create(path, 4, MODEL) as gallery:
        for step in range(8):
            gallery.enrol(np.ones((400, 4)), f"person {step}", metadata={"note": "x" * 80})
        gallery.rename(range(1, 3000, 5), "somebody else")
        for step in range(8):
            assert gallery.forget(f"person {step}") > 300
            assert f"person {step}".encode() not in path.read_bytes()
        gallery.store.check()
        assert gallery.stats()["identities"] == {"somebody else": 600}
        assert gallery.enrol(np.ones((1, 4)), "anna") == [3201]


@pytest.mark.parametrize("length", [3, 14, 15, 16, 23, 32, 192])
def test_pieces_are_found_wherever_they_lie(length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "_CHUNK", 256)
    rng, path = np.random.default_rng(length), tmp_path / "file"
    pieces = [rng.integers(0, 256, length, np.uint8).tobytes() for _ in range(9)]
    pieces[0] = bytes(length)
    for place in range(0, 600 - length, 1 if length == 32 else 7):
        data = rng.integers(1, 256, 600, np.uint8)
        data[place : place + length] = np.frombuffer(pieces[place % 9], np.uint8)
        path.write_bytes(data.tobytes())
        assert find_traces([path, tmp_path / "none"], [*pieces, b"short"]) == [path]
        data[place + (length - 1) * (place % 2)] ^= 1  # all but one bit of its first or last byte
        path.write_bytes(data.tobytes())
        assert find_traces([path], [piece for piece in pieces if piece not in data.tobytes()]) == []
    assert find_traces([path], []) == []


def test_any_end_or_the_middle_of_a_row_is_a_trace(tmp_path: Path) -> None:
    x, path = np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32), tmp_path / "file"
    for start in (0, 128, 224):
        path.write_bytes(x[0].tobytes()[start : start + 32])
        assert find_traces([path], needles(x[:1], x[1:])) == [path]
    assert needles(x[:1], x) == []


def test_rows_of_one_word_are_told_apart(tmp_path: Path) -> None:
    x = np.eye(40, dtype=np.float32) + np.float32(0.5)
    x[0, 1] = 1.5
    (tmp_path / "file").write_bytes(b"\0" * 3 + x[1:].tobytes())
    assert find_traces([tmp_path / "file"], [x[0].tobytes()]) == []
    assert find_traces([tmp_path / "file"], [x[0].tobytes(), x[17].tobytes()]) == [tmp_path / "file"]


@pytest.mark.parametrize("way", ["link", "folder"])
def test_the_proof_looks_at_the_files_that_there_are(
    filled: Gallery, path: Path, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if way == "link":
        (elsewhere / "link").symlink_to(path)
    monkeypatch.chdir(elsewhere if way == "link" else tmp_path)
    looked: list[list[Path]] = []
    right = erasure.find_traces

    def look(paths: list[Path], wanted: list[bytes]) -> list[Path]:
        looked.append([place for place in paths if place.exists()])
        return right(paths, wanted)

    monkeypatch.setattr(erasure, "find_traces", look)
    with Gallery.open("link" if way == "link" else path.name) as gallery:
        monkeypatch.chdir(tmp_path.parent)
        assert gallery.stats()["bytes"] == sum(place.stat().st_size for place in database.sidecars(path))
        assert gallery.forget("p1") == 10
        gallery.store.check()
    assert looked == [database.sidecars(path)[:2]]  # the index of the log holds numbers of pages


def test_a_proof_without_the_file_is_none(filled: Gallery, path: Path) -> None:
    path.unlink()
    with pytest.raises(GalleryError, match="not the file any more that was opened"):
        filled.store._prove_gone([bytes(range(32))])  # type: ignore[attr-defined]


@pytest.mark.parametrize("way", ["forget", "expire"])
def test_what_comes_before_the_deletion_goes_with_it(
    filled: Gallery, path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(5).standard_normal((2, DIM)).astype(np.float32)
    writing, late = SqliteStore._writing, [x[:1]]
    with Gallery.open(path) as other:

        def meanwhile(store: SqliteStore, edit: bool) -> Any:
            if store is filled.store and late:
                other.enrol(late.pop(), "p1", times=3.0)
            return writing(store, edit)

        monkeypatch.setattr(SqliteStore, "_writing", meanwhile)
        assert (filled.forget("p1") if way == "forget" else filled.expire(before=10)) == 11
        assert [len(rows.ids) for rows, _ in (filled.rows(), other.rows())] == [50, 50]
    assert not find_traces(database.sidecars(path), [x[0].tobytes()])
    filled.enrol(x[1:], "p1")
    assert filled.decide(x[1:], 0.1)[0].identity == "p1"


def test_nothing_of_the_forgotten_stays_in_memory(filled: Gallery, path: Path) -> None:
    x, _ = make_people()
    filled.enrol(x[:1], "anna", "hall")
    with Gallery.open(path) as other:
        for gallery in (filled, other):
            gallery.search(x[:1], templates="mean")
        filled.forget("anna")
        assert filled._prepared is None
        assert len(other.search(x[:1], 99)[0]) == 60
        assert other._prepared is None
        for gallery in (filled, other):
            mirror = gallery.store._follower.mirror  # type: ignore[attr-defined]
            assert "anna" not in mirror._identity_names._codes
            assert set(mirror._camera_names._codes) == {None, "c0", "c1", "c2", "c3"}
            assert {hit.entry.camera for hit in gallery.search(x[:1], 99, Where(cameras=("c1", "c3")))[0]} == {"c1", "c3"}
            assert len(gallery.search(x[:1], 99, cameras=["c2"])[0]) == 45
    filled.expire(before=1)
    assert filled._prepared is None


def test_a_file_that_was_not_overwritten_is_written_anew(filled: Gallery, path: Path) -> None:
    x, _ = make_people()
    wanted = [row.tobytes() for row in x[::6]]
    filled.store._connection.execute("PRAGMA secure_delete = OFF")  # type: ignore[attr-defined]
    filled.expire(before=12)
    assert find_traces([path], wanted[:2])
    assert filled.forget("p0") == 8
    assert not find_traces(database.sidecars(path), wanted[2:])


def test_forgetting_needs_no_temporary_files(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be copies of names, maybe on another disk, and where there is little room."""
    x = np.ones((5000, 1), np.float16)
    with Gallery.create(path, 1, MODEL, dtype="float16") as gallery:
        gallery.enrol(x, [f"{i} {'name' * 300}" for i in range(len(x))])
        seen: list[set[str]] = []
        anew = SqliteStore._write_entries_anew

        def watched(store: SqliteStore) -> None:
            before = open_files()
            store._connection.set_progress_handler(lambda: seen.append(open_files() - before), 100)
            anew(store)
            store._connection.set_progress_handler(None, 0)

        monkeypatch.setattr(SqliteStore, "_write_entries_anew", watched)
        gallery.forget(f"7 {'name' * 300}")
        assert len(seen) > 100
        assert set().union(*seen) == set()


def open_files() -> set[str]:
    found = set()
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the folder itself
            found.add(str(file.readlink()))
    return {name for name in found if "(deleted)" in name}


def test_forgetting_says_when_bytes_remain_and_can_be_done_again(filled: Gallery, path: Path) -> None:
    other = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM entries").fetchall()
    filled.store._connection.execute("PRAGMA busy_timeout = 50")  # type: ignore[attr-defined]
    x, _ = make_people()
    wanted = [row.tobytes() for row in x[1::6]]
    with pytest.raises(GalleryError, match=r"another process reads.*; the entries are gone"):
        filled.forget("p1")
    with pytest.raises(GalleryError, match="of an earlier deletion the entries are gone"):
        filled.expire(before=0)  # nothing is as old, and the bytes are still there
    with pytest.raises(GalleryError, match="; the entries are gone"):
        filled.forget("p2")
    with pytest.raises(GalleryError, match="; the entries are gone"):
        filled.expire(before=4)
    assert {hit.entry.id for hit in filled.search(x[:1], 99)[0]} == {i + 1 for i in range(4, 60) if i % 6 not in (1, 2)}
    filled.close()
    other.close()  # the last one, and it may not write
    assert find_traces(database.sidecars(path), wanted)
    with Gallery.open(path) as again:
        assert again.forget("p1") == 0
        assert not find_traces(database.sidecars(path), wanted)
        with pytest.raises(GalleryError, match="no identity 'p1'"):
            again.forget("p1")


def test_processes_that_forget_at_once_do_not_take_over_what_is_unfinished(
    filled: Gallery, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, _ = make_people()
    wanted = [row.tobytes() for row in x[1::6]]
    with Gallery.open(path, timeout=0.05) as other:
        prove = SqliteStore._prove_gone

        def meanwhile(store: SqliteStore, pieces: list[bytes]) -> None:
            prove(store, pieces)
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM entries").fetchall()
            with pytest.raises(GalleryError, match="; the entries are gone"):
                other.forget("p1")

        filled.store._connection.execute("PRAGMA busy_timeout = 50")  # type: ignore[attr-defined]
        reader = sqlite3.connect(path, isolation_level=None)
        with monkeypatch.context() as patch:
            patch.setattr(SqliteStore, "_prove_gone", meanwhile)
            with pytest.raises(GalleryError, match="of an earlier deletion"):
                filled.forget("p0")  # which is gone
        reader.close()
        assert find_traces(database.sidecars(path), wanted)
        assert other.forget("p1") == 0
        assert not find_traces(database.sidecars(path), wanted)
        with pytest.raises(GalleryError, match="no identity 'p1'"):
            other.forget("p1")


def test_another_process_that_empties_the_log_is_waited_for() -> None:
    connection = mock.Mock()  # SQLite answers at once that it is busy then
    for wait, answers, emptied in ((10_000, [(1, -1, -1), (0, 0, 0)], True), (0, [(1, -1, -1)], False)):
        connection.execute.return_value.fetchone.side_effect = [(wait,), *answers]
        assert database.empty_log(connection) == emptied


def test_rename_merges_and_splits(filled: Gallery) -> None:
    x, _ = make_people()
    assert filled.decide(x[[0]], 0.1)[0].identity == "p0"
    filled.rename(np.array([1]), "p1")  # as `rows` gives ids
    filled.rename({7: "a track"}, "p1")  # type: ignore[arg-type]
    assert filled.decide(x[[0]], 0.1)[0].identity == "p1"
    assert filled.decide(x[[12]], 0.1)[0].identity == "p0"
    for unknown in ([13, 61], [13, -1]):
        with pytest.raises(GalleryError, match=f"it has no entry {unknown[1]}; take ids of"):
            filled.rename(unknown, "p1")
    for none in ([13, 2**70], [13.7], ["13"], [True]):
        with pytest.raises(ShapeError, match="ids must hold integers"):
            filled.rename(none, "p1")  # type: ignore[arg-type]
    assert filled.decide(x[[12]], 0.1)[0].identity == "p0"  # all or none


def test_rows_that_go_while_they_are_read_are_left_out(filled: Gallery, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = filled.store.entries
    with Gallery.open(path) as other:

        def entries(ids: list[int]) -> dict[int, Entry]:
            other.expire(before=10)
            return right(ids)

        monkeypatch.setattr(filled.store, "entries", entries)
        rows, found = filled.rows()
    assert rows.ids.tolist() == [entry.id for entry in found] == list(range(11, 61))
    x, identities = make_people()
    assert rows.identities.tolist() == identities[10:]
    np.testing.assert_array_equal(rows.embeddings, x[10:])


@pytest.mark.parametrize("options", [{}, {"templates": "mean"}, {"reranking": Reranking(5, 2), "shortlist": 5}], ids=str)
def test_who_comes_next_is_found_where_the_nearest_goes_meanwhile(
    filled: Gallery, path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    x, _ = make_people()
    right, where = filled.store.entries, Where(after=0)
    with Gallery.open(path) as other:

        def entries(ids: list[int]) -> dict[int, Entry]:
            other.expire(before=50)
            return right(ids)

        monkeypatch.setattr(filled.store, "entries", entries)
        found = filled.search(x[:1], 5, where, **options)
        assert found == other.search(x[:1], 5, where, **options)
        assert len(found[0]) == 5
        monkeypatch.setattr(filled.store, "entries", lambda _: {})
        with pytest.raises(GalleryError, match="an entry that is found is not there"):
            filled.decide(x[:1], 0.5)


# ---- processes and threads ----


def test_a_reader_follows_the_writer(filled: Gallery, path: Path) -> None:
    x, _ = make_people()
    with Gallery.open(path, MODEL, read_only=True) as reader:
        assert len(reader.search(x[:1], 99)[0]) == 60
        filled.enrol(x[:2], "late")
        assert len(reader.search(x[:1], 99)[0]) == 62
        filled.forget("p0")
        assert reader.search(x[6:7], 1)[0][0].identity == "late"
        assert {hit.identity for hit in reader.search(x[:1], 99)[0]} == {"p1", "p2", "p3", "p4", "p5", "late"}
        filled.rename([2], "late")
        assert reader.decide(x[[1]], 0.01)[0].identity == "late"
        with pytest.raises(GalleryError, match="reading only"):
            reader.enrol(x[:1], "p0")


@pytest.mark.parametrize("loaded", [False, True], ids=["first", "later"])
def test_a_gallery_is_whole_after_an_interrupted_search(
    filled: Gallery, path: Path, monkeypatch: pytest.MonkeyPatch, loaded: bool
) -> None:
    x, identities = make_people()
    with Gallery.open(path) as reader:
        if loaded:
            reader.search(x[:1])
            filled.expire(before=30)
        with monkeypatch.context() as patch:
            patch.setattr(Vocabulary, "codes", interrupt)
            with pytest.raises(KeyboardInterrupt):
                reader.search(x[:1])
        found = reader.search(x[30:], 99)
        assert [hits[0].identity for hits in found] == identities[30:]
        assert {len(hits) for hits in found} == {30 if loaded else 60}


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


class Interrupted:
    """A connection that Ctrl-C meets right after a statement."""

    def __init__(self, connection: sqlite3.Connection, after: str) -> None:
        self._connection, self._after = connection, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *values: Any) -> Any:
        done = self._connection.execute(statement, *values)
        if statement.startswith(self._after):
            interrupt()
        return done


@pytest.mark.parametrize(("after", "count"), [("BEGIN", 60), ("COMMIT", 61)])
def test_an_interrupted_enrolment_is_over(
    filled: Gallery, path: Path, monkeypatch: pytest.MonkeyPatch, after: str, count: int
) -> None:
    x, _ = make_people()
    assert len(filled.search(x[:1], 99)[0]) == 60
    with monkeypatch.context() as patch:
        patch.setattr(filled.store, "_connection", Interrupted(filled.store._connection, after))  # type: ignore[attr-defined]
        with pytest.raises(KeyboardInterrupt):
            filled.enrol(x[:1], "late")
    assert len(filled.search(x[:1], 99)[0]) == count
    with Gallery.open(path, timeout=0.1) as other:
        other.enrol(x[:1], "other")


def test_a_file_that_was_replaced_is_not_used_any_more(
    filled: Gallery, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, _ = make_people()
    with Gallery.create(tmp_path / "other", DIM, MODEL) as other:
        other.enrol(x[:1], "somebody else")
    monkeypatch.chdir(tmp_path)
    with Gallery.open(path.name) as near:
        monkeypatch.chdir(tmp_path.parent)
        assert len(near.search(x[:1], 99)[0]) == 60
    (tmp_path / "other").replace(path)
    with pytest.raises(GalleryError, match="not the file any more that was opened; open it again"):
        filled.search(x[:1])
    for use in (lambda: filled.enrol(x[:1], "p0"), lambda: filled.threshold, filled.store.facts, filled.store.check):
        with pytest.raises(GalleryError, match="not the file any more"):
            use()
    path.unlink()
    with pytest.raises(GalleryError, match="not the file any more"):
        filled.search(x[:1])


def test_a_writer_empties_the_log_when_it_closes(filled: Gallery, path: Path, tmp_path: Path) -> None:
    x, _ = make_people()
    with Gallery.create(tmp_path / "other", DIM, MODEL) as other:
        other.enrol(x[:2], ["ben", "carl"])
    filled.close()
    with Gallery.open(path, read_only=True) as reader:
        reader.search(x[:1])
        with Gallery.open(path) as writer:
            writer.enrol(x[:1], "eve")
        shutil.copy(path, tmp_path / "copy")
        assert reader.stats()["entries"] == 61
    with Gallery.open(tmp_path / "copy") as copy:
        assert copy.stats()["entries"] == 61
    (tmp_path / "other").replace(path)
    with Gallery.open(path) as now:
        assert now.stats()["identities"] == {"ben": 1, "carl": 1}


@pytest.mark.parametrize("last", ["enrol", "calibrate", "forget", "began anew", "written anew"])
@pytest.mark.parametrize("old", ["another", "a copy from before"])
def test_the_log_of_another_file_is_refused(filled: Gallery, path: Path, tmp_path: Path, last: str, old: str) -> None:
    x, _ = make_people()
    filled.close()
    shutil.copy(path, tmp_path / "old")
    with Gallery.open(path) as before:
        before.enrol(x[:1], "eve")
    if old == "another":
        (tmp_path / "old").unlink()
        with Gallery.create(tmp_path / "old", DIM, MODEL) as other:
            other.enrol(-x, "somebody else")
    anew = last in ("began anew", "written anew")
    if anew and old != "another":
        shutil.copy(path, tmp_path / "old")
    with Gallery.open(path) as writer:
        connection = writer.store._connection  # type: ignore[attr-defined]
        if last == "began anew":
            assert writer.expire(before=1) == 1
        elif last == "written anew":
            writer.store._vacuum()  # type: ignore[attr-defined]
            assert database.empty_log(connection)
        shutil.copy(path, tmp_path / "own")
        if last == "calibrate":
            writer.calibration = {"threshold": 0.5}
        elif last == "forget":
            with writer.store._writing(edit=True):  # type: ignore[attr-defined]
                connection.execute("DELETE FROM entries WHERE id = 1")
                connection.execute("DELETE FROM embeddings WHERE id = 1")
        else:
            writer.enrol(x[:1], "eve")
        shutil.copy(database.sidecars(path)[1], tmp_path / "log")  # as a writer leaves it that is killed
    for name in ("old", "own"):
        shutil.copy(tmp_path / "log", tmp_path / f"{name}-wal")
    for read_only in (True, False):
        with pytest.raises(
            GalleryError, match="the log beside it, old-wal, is that of another file; remove the log, or put back"
        ):
            Gallery.open(tmp_path / "old", read_only=read_only)
    with Gallery.open(tmp_path / "own") as own:
        assert own.stats()["entries"] == {"calibrate": 61, "forget": 60, "began anew": 61}.get(last, 62)
        assert own.threshold == (0.5 if last == "calibrate" else None)
        own.store.check()
    data = bytearray((tmp_path / "log").read_bytes())
    data[16:24] = bytes(8)  # it began anew, and no frame is of this time: SQLite replays nothing
    (tmp_path / "old-wal").write_bytes(data)
    Gallery.open(tmp_path / "old").close()


@pytest.mark.parametrize("look", ["in_file", "read"])
@pytest.mark.parametrize("opened", [False, True])
def test_a_file_that_others_write_between_two_looks_is_looked_at_again(
    filled: Gallery, path: Path, monkeypatch: pytest.MonkeyPatch, look: str, opened: bool
) -> None:
    x, _ = make_people()
    right = getattr(lineage, look)
    with Gallery.open(path, read_only=True) if opened else nullcontext() as reader, ExitStack() as stack:
        if opened:
            filled.close()  # which changes the time of the file
            stack.enter_context(Gallery.open(path)).enrol(x[:1], "anna")

        def late(of: Any) -> Any:
            monkeypatch.setattr(lineage, look, right)
            found = right(of)
            with Gallery.open(path) as other:  # which empties the log
                other.enrol(x[:1], "anna")
            stack.enter_context(Gallery.open(path)).enrol(x[:1], "ben")
            return found

        monkeypatch.setattr(lineage, look, late)
        gallery = reader or stack.enter_context(Gallery.open(path))
        assert gallery.stats()["entries"] == 62 + opened
        assert getattr(lineage, look) is right


def limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of files")
@pytest.mark.parametrize("read_only", [True, False])
def test_a_log_that_is_in_the_file_in_part_is_its_own(gallery: Gallery, path: Path, read_only: bool) -> None:
    """SQLite writes page 1 first, which says how long the file is, and then there is no room for the rest."""
    rng = np.random.default_rng(0)
    for _ in range(3):
        gallery.enrol(rng.standard_normal((600, DIM)), "anna")
    limit_files(path.stat().st_size)
    try:
        gallery.close()
    finally:
        limit_files(resource.RLIM_INFINITY)
    with pytest.raises(sqlite3.DatabaseError), closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as alone:
        alone.execute("SELECT count(*) FROM entries")
    with Gallery.open(path, read_only=read_only) as again:
        assert again.stats()["entries"] == 1800
        again.store.check()


@pytest.mark.parametrize("where", ["file", "log"])
def test_a_page_that_was_written_in_part_says_nothing(filled: Gallery, path: Path, tmp_path: Path, where: str) -> None:
    x, _ = make_people()
    connection = filled.store._connection  # type: ignore[attr-defined]
    if where == "log":
        assert connection.execute("PRAGMA wal_checkpoint").fetchone()[0] == 0
    last = lineage.in_file(path)
    assert last
    filled.enrol(x[:1], "eve")  # into a log that begins anew, without being cut off, where all of it is in the file
    shutil.copy(path, tmp_path / "torn")
    shutil.copy(database.sidecars(path)[1], tmp_path / "torn-wal")
    torn = tmp_path / ("torn" if where == "file" else "torn-wal")
    data = torn.read_bytes()
    torn.write_bytes(data.replace(last.encode(), b"0" * 32, 1) if where == "file" else data.replace(last.encode(), b"0" * 32))
    with Gallery.open(tmp_path / "torn") as gallery:
        assert gallery.stats()["entries"] == {"file": 61, "log": 60}[where]


@pytest.mark.parametrize("old", ["another", "a copy from before"])
def test_a_file_that_was_copied_over_is_noticed(filled: Gallery, path: Path, tmp_path: Path, old: str) -> None:
    x, _ = make_people()
    filled.close()
    shutil.copy(path, tmp_path / "old")
    if old == "another":
        (tmp_path / "old").unlink()
        with Gallery.create(tmp_path / "old", DIM, MODEL) as other:
            other.enrol(x[:2], "ben")
    with Gallery.open(path, read_only=True) as reader, Gallery.open(path, read_only=True) as second:
        for step in range(3):
            with Gallery.open(path) as writer:  # whose checkpoints change size or time of the file, too
                writer.enrol(x[:3], f"late {step}")
            assert [len(gallery.search(x[:1], 99)[0]) for gallery in (reader, second)] == [63 + 3 * step] * 2
        shutil.copy(tmp_path / "old", path)  # it is the same file, by its number
        for use in (lambda: reader.search(x[:1]), reader.stats, lambda: second.threshold, lambda: reader.search(x[:1])):
            with pytest.raises(GalleryError, match="not the file any more that was opened"):
                use()


@pytest.mark.parametrize("entries", [2, 5000])
@pytest.mark.parametrize("old", ["another", "another with its log", "a copy from before"])
def test_a_file_that_was_copied_over_one_with_a_log_is_noticed(
    filled: Gallery, path: Path, tmp_path: Path, old: str, entries: int
) -> None:
    x, _ = make_people()
    rows = np.random.default_rng(0).standard_normal((entries, DIM))
    if old == "a copy from before":
        filled.enrol(rows, "ben")
        filled.expire(before=1)  # the log is empty now
        shutil.copy(path, tmp_path / "old")
        filled.expire(before=2)
    filled.enrol(x[:1], "eve")
    with ExitStack() as stack:
        if old != "a copy from before":
            other = stack.enter_context(Gallery.create(tmp_path / "old", DIM, MODEL))
            other.enrol(rows, "ben")
        if old == "another":
            other.close()
        shutil.copy(tmp_path / "old", path)
        if old == "another with its log":
            shutil.copy(database.sidecars(tmp_path / "old")[1], database.sidecars(path)[1])
        for use in (lambda: filled.enrol(x[:1], "eve"), filled.stats):
            with pytest.raises(GalleryError, match="not the file any more that was opened"):
                use()
        copied = path.read_bytes()
        filled.close()
    assert path.read_bytes() == copied
    if old == "another with its log":
        with Gallery.open(path) as gallery:
            assert gallery.stats()["identities"] == {"ben": entries}
    else:
        with pytest.raises(GalleryError, match="is that of another file"):
            Gallery.open(path)


def test_what_others_still_have_open_is_named(filled: Gallery, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.close()
    break_sqlite(sqlite3.SQLITE_CORRUPT, monkeypatch)  # by the index that they share it is longer than it is
    with pytest.raises(GalleryError, match=r"still has open what had the name site.gallery before; end such programs"):
        Gallery.open(path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX locks")
@pytest.mark.parametrize("way", ["open", "forget"])
def test_other_processes_see_that_it_is_open(filled: Gallery, path: Path, way: str) -> None:
    """POSIX drops all locks of a process on a file that it closes, whoever took them."""
    x, _ = make_people()
    if way == "open":
        Gallery.open(path, read_only=True).close()
    else:
        filled.enrol(-x[:1], "eve")
        filled.forget("eve")
        filled.enrol(-x[:1], "eve")
        assert filled.forget("eve") == 1
    take = (  # what SQLite takes before it removes the log, as the last that has the file open
        "import fcntl, sys\n"
        "with open(sys.argv[1], 'rb+') as file: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)"
    )
    for closed in (False, True):
        if closed:
            filled.close()
            assert (held._files, held._galleries) == ({}, {})
        done = subprocess.run([sys.executable, "-c", take, str(path)], timeout=60, check=False, capture_output=True, text=True)
        assert (done.returncode == 0) == closed, done.stderr


def test_a_link_that_leads_elsewhere_is_noticed(filled: Gallery, path: Path, tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "other", DIM, MODEL):
        pass
    (tmp_path / "link").symlink_to(path)
    with Gallery.open(tmp_path / "link") as gallery:
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to(tmp_path / "other")
        with pytest.raises(GalleryError, match="not the file any more"):
            gallery.stats()


def test_a_second_name_of_the_file_is_not_written(filled: Gallery, path: Path, tmp_path: Path) -> None:
    filled.close()
    (tmp_path / "second").hardlink_to(path)
    for name in (path, tmp_path / "second"):
        with pytest.raises(GalleryError, match="it has two names, that is a hard link"):
            Gallery.open(name)
        with Gallery.open(name, read_only=True) as reader:
            assert reader.stats()["entries"] == 60
    (tmp_path / "second").unlink()
    with Gallery.open(path) as writer:
        assert writer.enrol(make_people()[0][:1], "late") == [61]


def test_a_closed_gallery_says_so(filled: Gallery) -> None:
    x, _ = make_people()
    filled.close()
    filled.close()
    for use in (lambda: filled.search(x[:1]), lambda: filled.enrol(x[:1], "p0"), lambda: filled.forget("p0"), filled.stats):
        with pytest.raises(GalleryError, match="it is closed; open it again"):
            use()


CHILD = """
import os, sys, threading
from stcanet_runtime import Gallery, GalleryError
gallery = Gallery.open(sys.argv[1])
writer = threading.Thread(target=gallery.store._lock.acquire)  # and never released, as of a thread that writes at the fork
writer.start()
writer.join()
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    with gallery:
        gallery.forget("p0")
except GalleryError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_does_not_use_the_gallery_of_its_parent(filled: Gallery, path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    assert "it was opened before this process was forked; open it again in each process" in done.stdout
    assert filled.stats()["entries"] == 60


def test_a_gallery_where_nothing_can_be_written(filled: Gallery, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = make_people()
    right = sqlite3.connect

    def connect(database: str, **options: Any) -> sqlite3.Connection:
        if database.endswith("?mode=ro"):  # as SQLite where it cannot make its files; tests may be root, who always can
            raise sqlite3.OperationalError("attempt to write a readonly database")
        return right(database, **options)

    def refuse(path: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(sqlite3, "connect", connect)
    filled.close()
    with pytest.raises(GalleryError, match="attempt to write"):  # something else is wrong: others may write
        Gallery.open(path, read_only=True)
    monkeypatch.setattr(database, "check_writable", refuse)
    (path.parent / "elsewhere").mkdir()
    (path.parent / "elsewhere" / "link").symlink_to(path)
    Gallery.open(path.parent / "elsewhere" / "link", read_only=True).close()
    with Gallery.open(path, read_only=True) as gallery:
        assert len(gallery.search(x[:1], 99)[0]) == 60
        with Gallery.open(path) as writer:  # by another mount
            writer.enrol(x[:1], "p0")
            with pytest.raises(GalleryError, match="not the file any more"):
                gallery.search(x[:1])
            for name in (path, path.parent / "elsewhere" / "link"):
                with pytest.raises(GalleryError, match="attempt to write"):  # what is in the log would not be seen
                    Gallery.open(name, read_only=True)
        with pytest.raises(GalleryError, match="not the file any more"):
            gallery.search(x[:1])


def break_sqlite(code: int, patch: pytest.MonkeyPatch) -> None:
    """Let it open no file with its log."""
    right = sqlite3.connect

    def connect(database: str, **options: Any) -> sqlite3.Connection:
        if not database.endswith(("?mode=ro", "?mode=rw")):
            return right(database, **options)
        error = sqlite3.OperationalError("what SQLite says")
        error.sqlite_errorcode = code
        raise error

    patch.setattr(sqlite3, "connect", connect)


def test_a_gallery_on_a_full_disk_can_be_read(filled: Gallery, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.close()
    break_sqlite(sqlite3.SQLITE_IOERR_SHMSIZE, monkeypatch)  # there is no room for the index of its log
    with Gallery.open(path, read_only=True) as gallery:
        assert gallery.stats()["entries"] == 60
    with pytest.raises(GalleryError, match="the disk is full"):
        Gallery.open(path)
    database.sidecars(path)[1].write_bytes(b"log")
    with pytest.raises(GalleryError, match="the disk is full"):  # what is in the log would not be seen
        Gallery.open(path, read_only=True)


def test_a_gallery_beside_which_no_log_can_be_made(filled: Gallery, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.close()
    break_sqlite(sqlite3.SQLITE_CANTOPEN, monkeypatch)
    with pytest.raises(GalleryError, match="see who may write the folder"):
        Gallery.open(path)


def test_a_second_writer_waits_and_then_says_so(filled: Gallery, path: Path) -> None:
    x, _ = make_people()
    with Gallery.open(path, timeout=0.05) as other:
        filled.store._connection.execute("BEGIN IMMEDIATE")  # type: ignore[attr-defined]
        with pytest.raises(GalleryError, match="another process is writing"):
            other.enrol(x[:1], "p0")
        assert len(other.search(x[:1], 99)[0]) == 60  # readers do not wait
        filled.store._connection.execute("ROLLBACK")  # type: ignore[attr-defined]
        other.enrol(x[:1], "p0")
        assert len(filled.search(x[:1], 99)[0]) == 61
    with Gallery.create(path.with_name("new"), DIM, MODEL, timeout=0.05) as new:
        assert new.store._connection.execute("PRAGMA busy_timeout").fetchone() == (50,)  # type: ignore[attr-defined]


def test_threads_share_a_gallery(filled: Gallery) -> None:
    x, identities = make_people()
    wrong: list[Any] = []

    def work(number: int) -> None:
        try:
            for i in range(number, 60, 6):
                filled.enrol(x[[i]], f"extra{number}")
                if filled.search(x[[i]], 1)[0][0].identity != identities[i]:
                    wrong.append(i)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert filled.stats()["entries"] == 120


WRITER = """
import sys, numpy as np
from stcanet_runtime import Gallery
gallery = Gallery.open(sys.argv[1])
rng, step = np.random.default_rng(int(sys.argv[2])), 0
while True:
    x = rng.standard_normal((int(rng.integers(1, 9)), gallery.space.dim)).astype(np.float32)
    ids = gallery.enrol(x, f"p{step % 7}")
    step += 1
    print(ids[-1], flush=True)
"""


@pytest.mark.parametrize("seed", range(3))
def test_kill_during_enrolment(path: Path, seed: int) -> None:
    """All that was acknowledged is there, and of the call that was killed all or nothing."""
    Gallery.create(path, DIM, MODEL).close()
    command = [sys.executable, "-c", WRITER, str(path), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3 + 25 * seed)]
        process.kill()
        lines += process.stdout.read().splitlines()
    acknowledged = int(lines[-1])
    rng = np.random.default_rng(seed)
    with Gallery.open(path) as gallery:
        gallery.store.check()
        rows, _ = gallery.rows()
        count = 0
        while count < len(rows.ids):
            x = rng.standard_normal((int(rng.integers(1, 9)), DIM)).astype(np.float32)
            np.testing.assert_array_equal(rows.embeddings[count : count + len(x)], x)
            count += len(x)
        assert acknowledged <= count == len(rows.ids) <= acknowledged + 8
        gallery.enrol(x, "after")


# ---- what is refused ----


def test_another_model_is_refused(filled: Gallery, path: Path) -> None:
    with pytest.raises(GalleryError, match="embeddings of model aaaaaaaa"):
        Gallery.open(path, "b" * 64)
    with pytest.raises(ShapeError, match=f"must have {DIM} columns"):
        filled.enrol(np.ones((1, DIM + 1)), "p0")
    with pytest.raises(ShapeError, match=f"must have {DIM} columns"):
        filled.search(np.ones((1, DIM - 1)))


@pytest.mark.parametrize("wrong", [{"model": ""}, {"model": 5}, {"dim": 2**16 + 1}, {"dtype": "float64"}, {"metric": "l1"}])
def test_galleries_that_cannot_be(path: Path, wrong: dict[str, Any]) -> None:
    (option,) = wrong
    with pytest.raises(OptionError, match=f"^{option} must be"):
        Gallery.create(path, **{"dim": 2**16, "model": MODEL, **wrong})
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"identities": ["a"]}, ShapeError),
        ({"identities": ["a", ""]}, OptionError),
        ({"identities": ["a", 3]}, OptionError),
        ({"identities": "\udcff"}, OptionError),
        ({"identities": "a", "times": [1.0, np.nan]}, OptionError),
        ({"identities": "a", "times": [1.0, [2.0, 3.0]]}, OptionError),
        ({"identities": "a", "times": datetime.now(UTC)}, OptionError),
        ({"identities": "a", "times": np.array(["2026-01-01", "2026-01-02"], "datetime64[ns]")}, OptionError),
        ({"identities": {"a", "b"}}, OptionError),
        ({"identities": "a", "metadata": {"x": np.nan}}, OptionError),
        ({"identities": "a", "metadata": {"x": object()}}, OptionError),
        ({"identities": "a", "cameras": ["c", "d", "e"]}, ShapeError),
        *(({"identities": "a", "metadata": {"x": deep}}, OptionError) for deep in (nested(101), nested(50_000))),
    ],
)
def test_what_cannot_be_kept(gallery: Gallery, arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        gallery.enrol(np.ones((2, DIM)), **arguments)
    assert gallery.stats()["entries"] == 0


def test_a_call_is_kept_whole_or_not_at_all(filled: Gallery) -> None:
    x, _ = make_people()
    bad = [Entry("a", 0.0), Entry("b", 0.0, metadata={"x": {1, 2}})]
    with pytest.raises(TypeError):
        filled.store.add(bad, x[:2])
    assert filled.stats()["entries"] == 60
    assert len(filled.search(x[:1], 99)[0]) == 60


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_of_two_that_create_a_gallery_the_second_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    x, identities = make_people()

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "not on this file system")

    def be_faster(_: Path) -> None:
        monkeypatch.undo()
        if not links:
            monkeypatch.setattr(os, "link", refuse)
        with Gallery.create(path, DIM, MODEL) as first:
            first.enrol(x, identities)

    monkeypatch.setattr(database, "check_writable", be_faster)
    with pytest.raises(GalleryError, match=r"site.gallery exists already; open it"):
        Gallery.create(path, DIM, MODEL)
    with Gallery.open(path) as first:
        assert first.stats()["entries"] == 60
    assert {file.name.removeprefix(path.name) for file in path.parent.iterdir()} <= {"", "-wal", "-shm"}


def test_float16_says_what_it_cannot_hold(path: Path) -> None:
    with Gallery.create(path, DIM, MODEL, dtype="float16") as gallery, pytest.raises(ShapeError, match="65504"):
        gallery.enrol(np.full((1, DIM), 1e5), "a")


def test_no_gallery(tmp_path: Path, path: Path) -> None:
    with pytest.raises(GalleryError, match="no such file"):
        Gallery.open(path)
    with pytest.raises(GalleryError, match="it is no file"):
        Gallery.open(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(GalleryError, match="not a gallery"):
        Gallery.open(path)
    with pytest.raises(GalleryError, match="exists already"):
        Gallery.create(path, DIM, MODEL)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE entries (id)")
    connection.close()
    with pytest.raises(GalleryError, match="not a gallery"):
        Gallery.open(other)


def alter(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("PRAGMA user_version = 2", "newer version"),
        ("PRAGMA application_id = 7", "not a gallery"),
        ("CREATE TRIGGER run AFTER INSERT ON entries BEGIN DELETE FROM embeddings; END", "not those of a gallery"),
        ("CREATE VIEW more AS SELECT 1", "not those of a gallery"),
        ("DROP TABLE embeddings", "not those of a gallery"),
        ("UPDATE settings SET value = '{' WHERE name = 'space'", "damaged"),
        ('UPDATE settings SET value = \'{"model": "m", "dim": -4}\' WHERE name = \'space\'', "whose embeddings"),
        ("DELETE FROM settings WHERE name = 'space'", "whose embeddings"),
        ("DELETE FROM settings WHERE name = 'edits'", "a part of it is missing"),
        ("DELETE FROM embeddings WHERE id = 30", "do not belong together"),
        ("UPDATE embeddings SET row = x'00' WHERE id = 60", "do not belong together"),
        ("UPDATE embeddings SET row = 'text'", "do not belong together"),
        (f"UPDATE embeddings SET row = x'{'ff' * 4 * DIM}' WHERE id = 2", "damaged: stored embeddings must be finite"),
        ("UPDATE entries SET identity = 7 || x'ff'", "cannot be used"),
        ("UPDATE entries SET time = 'noon'", "do not belong together"),
        ("UPDATE entries SET metadata = '[1'", "not JSON"),
    ],
)
def test_damaged_and_foreign_files(filled: Gallery, path: Path, statement: str, message: str) -> None:
    filled.close()
    alter(path, statement)

    def use() -> None:
        with Gallery.open(path) as gallery:
            gallery.search(np.ones((1, DIM)), 99)

    with pytest.raises(GalleryError, match=message):
        use()


def test_a_newer_version_may_be_in_the_log(filled: Gallery, path: Path) -> None:
    connection = filled.store._connection  # type: ignore[attr-defined]
    connection.execute("CREATE TABLE more (id INTEGER)")
    connection.execute("PRAGMA user_version = 2")
    with pytest.raises(GalleryError, match="newer version"):
        Gallery.open(path)


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_damaged_pages(filled: Gallery, path: Path, damage: str) -> None:
    filled.close()
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    else:
        data[70_000:200_000] = bytes(range(256)) * 507 + bytes(208)
    path.write_bytes(data)

    def use() -> None:
        with Gallery.open(path) as gallery:
            gallery.search(np.ones((1, DIM)), 99)
            gallery.store.check()

    with pytest.raises(GalleryError):
        use()


def test_stats(filled: Gallery, path: Path) -> None:
    stats = filled.stats()
    assert {key: stats[key] for key in ("entries", "identities", "cameras", "first_time", "last_time", "dim")} == {
        "entries": 60,
        "identities": dict.fromkeys(sorted({*make_people()[1]}), 10),
        "cameras": ["c0", "c1", "c2", "c3"],
        "first_time": 0.0,
        "last_time": 59.0,
        "dim": DIM,
    }
    assert stats["memory_bytes"] == 60 * DIM * 4
    assert stats["bytes"] >= path.stat().st_size
