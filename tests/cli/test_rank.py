"""`stcanet-runtime rank` on stored embeddings, in this process."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import call
from numpy.typing import NDArray
from PIL import Image

from stcanet_runtime import evaluate, rerank

Result = tuple[int, str, str]
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        return (call("rank", *arguments), *capsys.readouterr())

    return run


class People:
    """Eight people whose second camera shifts every embedding, so that re-ranking has something to mend."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        people, shift = rng.standard_normal((8, 32)), 1.5 * rng.standard_normal(32)
        self.q_pids, self.g_pids = np.arange(1, 9), np.repeat(np.arange(1, 9), 4)
        self.q_camids, self.g_camids = np.zeros(8, np.int64), np.tile([1, 1, 1, 0], 8)
        self.query = self._unit(people + 0.4 * rng.standard_normal((8, 32)))
        offsets = shift * self.g_camids[:, None] + 0.6 * rng.standard_normal((32, 32))
        self.gallery = self._unit(people[self.g_pids - 1] + offsets)
        self.write(folder / "query.npz", self.query, self.q_pids, self.q_camids)
        self.write(folder / "gallery.npz", self.gallery, self.g_pids, self.g_camids)

    @staticmethod
    def _unit(x: NDArray[np.float64]) -> NDArray[np.float32]:
        unit: NDArray[np.float32] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        return unit

    @staticmethod
    def write(path: Path, embeddings: NDArray[np.float32], pids: NDArray[np.int64], camids: NDArray[np.int64]) -> None:
        names = zip(pids, camids, strict=True)
        paths = np.array([f"{pid:04d}_c{camera + 1}s1_{i:06d}_00.jpg" for i, (pid, camera) in enumerate(names)])
        np.savez(path, embeddings=embeddings, paths=paths, pids=pids, camids=camids)

    def ranked(self, distances: NDArray[np.float32], top: int) -> list[list[str]]:
        """The names in the order that the Market protocol looks at."""
        own = (self.q_camids[:, None] == self.g_camids) & (self.q_pids[:, None] == self.g_pids)
        order = np.argsort(np.where(own, np.inf, distances), axis=1, kind="stable")[:, :top]
        return [[f"{self.g_pids[g]:04d}_c{self.g_camids[g] + 1}s1_{g:06d}_00.jpg" for g in row] for row in order]


@pytest.fixture
def people(tmp_path: Path) -> People:
    return People(tmp_path)


def fails(result: Result, message: str, status: int = 1) -> None:
    assert result[0] == status
    assert result[1] == ""
    assert result[2].count("\n") == 1
    assert message in result[2]


def paths(facts: dict[str, Any]) -> list[list[str]]:
    return [[match["path"] for match in entry["matches"]] for entry in facts["ranking"]]


def test_ranks_stored_embeddings(run: Run, people: People) -> None:
    code, out, _ = run("query.npz", "gallery.npz", "--json", "--top-k", 3)
    facts = json.loads(out)
    assert code == 0
    assert facts["gallery"] == 32
    assert facts["reranking"] is None
    assert [len(entry["matches"]) for entry in facts["ranking"]] == [3] * 8
    distances = 1.0 - people.query @ people.gallery.T
    assert paths(facts) == people.ranked(distances, 3)
    assert facts["hidden"] == "same identity on the same camera"
    expected = evaluate(distances, people.q_pids, people.g_pids, people.q_camids, people.g_camids)
    assert facts["evaluation"]["mAP"] == pytest.approx(expected.mAP)


def test_reranks(run: Run, people: People) -> None:
    code, out, _ = run("query.npz", "gallery.npz", "--rerank", "--k1", 5, "--k2", 2, "--lambda", 0.2, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["reranking"] == {"k1": 5, "k2": 2, "lambda_value": 0.2}
    distances = rerank(people.query, people.gallery, 5, 2, 0.2)
    expected = evaluate(distances, people.q_pids, people.g_pids, people.q_camids, people.g_camids)
    assert facts["evaluation"]["mAP"] == pytest.approx(expected.mAP)
    assert "re-ranked (k1 5, k2 2" in facts["evaluation"]["protocol"]["metric"]
    assert paths(facts) == people.ranked(distances, 10)


def test_tells_how_far_it_is(run: Run, people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stcanet_runtime.cli.progress.LINE_SECONDS", 0)
    assert "\nranking: 32\n" in "\n" + run("query.npz", "gallery.npz")[2]
    assert "\nre-ranking: 48\n" in run("query.npz", "gallery.npz", "--rerank")[2]


def test_prints_the_settings_with_the_figures(run: Run, people: People) -> None:
    code, out, _ = run("query.npz", "gallery.npz", "--rerank", "--k1", 5)
    assert code == 0
    assert "Market protocol, re-ranked (k1 5, k2 6, lambda 0.3): mAP" in out


def test_draws_a_sheet_of_the_crops(run: Run, people: People, tmp_path: Path) -> None:
    for name in ("query.npz", "gallery.npz"):
        for path in np.load(tmp_path / name)["paths"]:
            Image.new("RGB", (32, 64), (40, 90, 140)).save(tmp_path / str(path))
    code, out, err = run("query.npz", "gallery.npz", "--rerank", "--sheet", "ranks.png", "--top-k", 3)
    assert (code, err) == (0, "")
    assert "wrote ranks.png" in out
    with Image.open(tmp_path / "ranks.png") as sheet:
        assert sheet.format == "PNG"
    fails(run("query.npz", "gallery.npz", "--sheet", "ranks.txt", "--top-k", 3), "such as .png or .jpg, got 'ranks.txt'")
    assert not (tmp_path / "ranks.txt").exists()
    tracklet = tmp_path / str(path)
    tracklet.unlink()
    tracklet.mkdir()
    fails(run("query.npz", "gallery.npz", "--sheet", "s.png"), f"{path} is a folder of frames, and a sheet shows image files")


def test_a_sheet_says_which_distances_it_shows(run: Run, people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("stcanet_runtime.cli.ranked_lists.ranked_sheet", lambda *sheet: said.append(sheet[-1]))
    for how in (("--metric", "euclidean"), ("--metric", "euclidean", "--rerank")):
        assert run("query.npz", "gallery.npz", "--sheet", "ranks.png", *how)[0] == 0
    assert said == ["euclidean distance", "re-ranked (k1 20, k2 6, lambda 0.3)"]


def test_files_that_hold_no_embeddings(run: Run, people: People, tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "array.npy", people.query)
    np.savez(tmp_path / "other.npz", embeddings=people.query)
    np.savez(tmp_path / "short.npz", embeddings=people.query, paths=np.array(["a"]))
    np.savez(tmp_path / "wide.npz", embeddings=people.query[:, :5], paths=np.array(["a"] * 8))
    np.savez(tmp_path / "nan.npz", embeddings=people.query * np.nan, paths=np.array(["a"] * 8))
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps([1, 2]))
    for name in ("text.npz", "empty.npz", "array.npy", "pickle.npz"):
        fails(
            run(name, "gallery.npz"), f"{name} is not a .npz file of embeddings, as `stcanet infer -o` writes them: File is not"
        )
    np.savez(tmp_path / "ids.npz", embeddings=people.query, paths=np.array(["a"] * 8), pids=np.full(8, np.nan))
    fails(run("ids.npz", "gallery.npz"), "Cannot cast")
    fails(run("nan.npz", "gallery.npz"), "error: nan.npz: embeddings must be finite")
    fails(run("other.npz", "gallery.npz"), "lacks paths;")
    fails(run("short.npz", "gallery.npz"), "same length")
    fails(run("wide.npz", "gallery.npz"), "the same D")
    fails(run("none.npz", "gallery.npz"), "none.npz")


def test_names_that_are_no_names(run: Run, people: People, tmp_path: Path) -> None:
    for paths in (np.array([b"a"] * 8), np.arange(8), np.array(["a\0b"] * 8)):
        np.savez(tmp_path / "names.npz", embeddings=people.query, paths=paths)
        fails(run("names.npz", "gallery.npz"), "paths must be text, the name of a file each")
    fails(run("/dev/zero", "gallery.npz"), "a device")
    (tmp_path / "loop").symlink_to("loop")
    np.savez(tmp_path / "names.npz", embeddings=people.query, paths=np.array(["loop/a"] * 8))
    assert run("names.npz", "names.npz")[0] == 0


def test_junk_takes_no_part_in_re_ranking(run: Run, people: People, tmp_path: Path) -> None:
    """As in `evaluate`, which leaves it out when it reads the data; the figures of both are the same then."""
    options = ("--rerank", "--k1", 5, "--k2", 2, "--json")
    expected = json.loads(run("query.npz", "gallery.npz", *options)[1])
    junk = np.random.default_rng(1).standard_normal((9, 32)).astype(np.float32)
    pids, camids = np.append(people.g_pids, [-1] * 9), np.append(people.g_camids, [1] * 9)
    people.write(tmp_path / "gallery.npz", np.concatenate([people.gallery, junk]), pids, camids)
    assert json.loads(run("query.npz", "gallery.npz", *options)[1]) == expected
    assert run("query.npz", "gallery.npz", "--json", "--top-k", 99)[1].count("-001_") > 0  # and in lists of plain distances
    people.write(tmp_path / "gallery.npz", junk, pids[-9:], camids[-9:])
    fails(run("query.npz", "gallery.npz", "--rerank"), "all of the gallery is junk")


def test_who_does_not_say_who_it_is_is_named(run: Run, people: People, tmp_path: Path) -> None:
    paths = np.array([*(f"{i:04d}_c1s1_000001_00.jpg" for i in range(1, 8)), "me.jpg"])
    np.savez(tmp_path / "some.npz", embeddings=people.query, paths=paths)
    for options in ((), ("--rerank",)):
        assert "no evaluation: me.jpg does not say who it is" in run("some.npz", "gallery.npz", *options)[1]


def test_a_pipe_gets_whole_names(run: Run, people: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    name = "n" * 200 + ".jpg"
    np.savez(tmp_path / "long.npz", embeddings=people.query, paths=np.array([name] * 8))
    assert run("long.npz", "gallery.npz")[1].splitlines()[1].startswith(f"{name} ")


def test_a_terminal_obeys_no_name(run: Run, people: People, tmp_path: Path) -> None:
    np.savez(tmp_path / "red.npz", embeddings=people.query, paths=np.array(["\x1b[31mred\x07.jpg"] * 8))
    for query, gallery in (("red.npz", "gallery.npz"), ("query.npz", "red.npz")):
        code, out, _ = run(query, gallery)
        assert code == 0
        assert "\\x1b[31mred\\x07.jpg" in out
        assert "\x1b" not in out
    assert "\x1b" not in run("\x1b.npz", "gallery.npz")[2]


def test_an_image_does_not_count_as_its_own_match(run: Run, people: People, tmp_path: Path) -> None:
    known = {"embeddings": people.query, "paths": np.array([f"{i}.jpg" for i in range(8)]), "pids": people.q_pids}
    np.savez(tmp_path / "self.npz", **known)
    facts = json.loads(run("self.npz", "self.npz", "--json")[1])
    assert all(match["path"] != entry["query"] for entry in facts["ranking"] for match in entry["matches"])
    assert facts["evaluation"] is None
    assert "would find themselves" in facts["evaluation_note"]
    for arguments in (("self.npz", "gallery.npz"), ("query.npz", "gallery.npz", "--same-camera")):  # first: cameras of one side
        facts = json.loads(run(*arguments, "--json")[1])
        assert facts["hidden"] is None
        assert facts["evaluation"]["protocol"]["same_camera_rule"].startswith("off")
        assert "No camera rule: mAP " in run(*arguments)[1]


def test_all_of_a_camera_is_hidden_where_nobody_is_known(run: Run, people: People, tmp_path: Path) -> None:
    for name in ("query", "gallery"):
        with np.load(tmp_path / f"{name}.npz") as file:
            np.savez(tmp_path / f"{name}.npz", **{key: file[key] for key in file if key != "pids"})
    facts = json.loads(run("query.npz", "gallery.npz", "--json", "--top-k", 99)[1])
    assert facts["hidden"] == "same camera"
    assert {path.split("_")[1] for row in paths(facts) for path in row} == {"c2s1"}
    assert {len(row) for row in paths(facts)} == {24}


def test_embeddings_of_different_models(run: Run, people: People, tmp_path: Path) -> None:
    for name in ("one", "other"):
        np.savez(tmp_path / f"{name}.npz", embeddings=people.query, paths=np.array(["a"] * 8), model=np.array(name))
    fails(run("one.npz", "other.npz"), "the embeddings are of different models")
    assert run("one.npz", "gallery.npz")[0] == 0  # an older file, which does not say


def test_options_out_of_range(run: Run, people: People) -> None:
    for option, value in (("--k1", 0), ("--k2", -1), ("--lambda", 1.5), ("--top-k", 0), ("--metric", "manhattan")):
        fails(run("query.npz", "gallery.npz", "--rerank", option, value), option, status=2)


def test_reranks_people_that_nobody_knows(run: Run, people: People, tmp_path: Path) -> None:
    for name, embeddings in (("query", people.query), ("gallery", people.gallery)):
        np.savez(
            tmp_path / f"{name}.npz", embeddings=embeddings, paths=np.array([f"{name}{i}" for i in range(len(embeddings))])
        )
    code, out, _ = run("query.npz", "gallery.npz", "--rerank", "--top-k", 4, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["evaluation"] is facts["evaluation_note"] is None
    expected = rerank(people.query, people.gallery, top=4)
    for query, entry in enumerate(facts["ranking"]):
        assert [match["path"] for match in entry["matches"]] == [f"gallery{g}" for g in expected.indices[query]]
        assert [match["distance"] for match in entry["matches"]] == pytest.approx(expected.distances[query].tolist())
