"""The commands `gallery` and `calibrate`, as a user types them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import call
from PIL import Image

from stcanet_runtime import Encoder, Gallery
from stcanet_runtime.cli.gallery_entries import describe
from stcanet_runtime.cli.gallery_options import age_limit, parse_time

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *args: (call(*args), *capsys.readouterr())


@pytest.fixture
def site(tmp_path: Path, package: Path, cli: Run) -> Path:
    """An empty gallery of the package's embeddings."""
    path = tmp_path / "site.gallery"
    assert cli("gallery", "create", path, package)[0] == 0
    return path


@pytest.fixture
def filled(site: Path, package: Path, crops: Path, cli: Run) -> Path:
    status, out, err = cli("gallery", "enrol", site, crops, "--package", package, "--meta", "zone=3", "--time", "1000")
    assert (status, out, err) == (0, f"enrolled 6 of 3 identities; {site} has 6 entries\n", "")
    return site


def test_enrolled_people_are_found(filled: Path, package: Path, crops: Path, tmp_path: Path, cli: Run) -> None:
    sheet = tmp_path / "found.png"
    options = ["--package", package, "--threshold", "0.5", "--other-cameras", "--top-k", "2", "--sheet", sheet, "--json"]
    status, out, _ = cli("gallery", "search", filled, crops, *options)
    found = json.loads(out)
    assert status == 0
    assert found["threshold"] == 0.5
    assert len(found["queries"]) == 6
    for query in found["queries"]:
        pid = str(int(Path(query["query"]).name[:4]))
        assert query["identity"] == pid
        assert [hit["rank"] for hit in query["hits"]] == [1, 2]
        assert query["hits"][0]["identity"] == pid
        assert query["hits"][0]["camera"] != f"c{Path(query['query']).name.split('_c')[1][0]}"
        assert query["hits"][0]["metadata"]["zone"] == 3
    with Image.open(sheet) as picture:
        assert picture.height > 1000  # six rows


def test_what_a_filter_names_and_is_not_there_is_said(
    filled: Path, package: Path, crops: Path, tmp_path: Path, cli: Run
) -> None:
    options = ("--package", package, "--camera", "yard", "--identity", "anna")
    status, out, err = cli("gallery", "search", filled, crops, *options, "--json")
    assert (status, [query["hits"] for query in json.loads(out)["queries"]]) == (0, [[]] * 6)
    assert "no entry of camera 'yard'; there are 'c1' or 'c2'" in err
    assert "no identity 'anna'" in err
    status, _, err = cli("gallery", "search", filled, crops, *options, "--sheet", tmp_path / "a.png")
    assert status == 1
    assert err.splitlines()[-1] == "error: there is nothing to draw: the gallery has no entry that these options allow"


def test_a_sheet_says_who_it_is_and_by_which_threshold(
    filled: Path, package: Path, crops: Path, tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("stcanet_runtime.cli.gallery_search.ranked_sheet", lambda *sheet: drawn.append(sheet))
    for threshold in (2, 0):
        options = ("--package", package, "--threshold", threshold, "--other-cameras", "--sheet", tmp_path / "a.png")
        status, out, _ = cli("gallery", "search", filled, crops, *options)
        assert (status, out.splitlines()[-1]) == (0, f"wrote {tmp_path / 'a.png'}")
    options = ("--package", package, "--threshold", 2, "--rerank", "--k1", 3, "--k2", 2, "--top-k", 2)
    status, out, _ = cli("gallery", "search", filled, crops, *options, "--sheet", tmp_path / "a.png")
    first, query, hit, *_ = out.splitlines()
    assert (status, first) == (0, "distances are re-ranked (k1 3, k2 2, lambda 0.3); who it is goes by the plain one")
    assert query.endswith(": 1 (0.0000)")
    found = json.loads(cli("gallery", "search", filled, crops, *options, "--json")[1])
    assert found["reranking"] == {"k1": 3, "k2": 2, "lambda_value": 0.3}
    assert [query["nearest_distance"] for query in found["queries"]] == pytest.approx([0.0] * 6, abs=1e-6)
    assert hit.split()[0] == f"{found['queries'][0]['hits'][0]['distance']:.4f}"
    near, far, reranked = drawn
    assert reranked[3] == "6 queries, who is within 2.0000 (plain distance); re-ranked (k1 3, k2 2, lambda 0.3)"
    assert reranked[0][0].label == "1 (0.0000)"
    assert [row.label for row in near[0]] == [str(int(row.query.name[:4])) for row in near[0]]
    assert {row.label for row in far[0]} == {"unknown"}
    assert near[3] == "6 queries, who is within 2.0000"


def test_a_sheet_knows_the_number_of_a_folder(
    site: Path, package: Path, crops: Path, tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("stcanet_runtime.cli.gallery_search.ranked_sheet", lambda *sheet: drawn.append(sheet))
    for crop in crops.iterdir():
        folder = tmp_path / "people" / crop.name[:4]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(crop, folder)
    cli("gallery", "enrol", site, tmp_path / "people", "--package", package, "--by-folder")
    cli("gallery", "search", site, crops, "--package", package, "--top-k", 6, "--sheet", tmp_path / "a.png")
    for row in drawn[0][0]:
        assert [match.correct for match in row.matches] == [True, True] + [False] * 4


def test_a_stranger_is_unknown(filled: Path, package: Path, tmp_path: Path, cli: Run) -> None:
    Image.new("RGB", (20, 40), (255, 0, 255)).save(tmp_path / "stranger.png")
    _, out, _ = cli("gallery", "search", filled, tmp_path / "stranger.png", "--package", package, "--threshold", "0.0001")
    assert out.splitlines()[0] == "stranger.png: unknown"
    assert len(out.splitlines()) == 6


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--camera", "c1"], 3),
        (["--camera", "c1", "--identity", "2"], 1),
        (["--meta", "zone=3"], 6),
        (["--meta", "zone=4"], 0),
        (["--after", "1000"], 6),
        (["--before", "1000"], 0),
        (["--templates", "mean"], 3),
        (["--templates", "1", "--rerank", "--k1", "3"], 3),
    ],
)
def test_filters(filled: Path, package: Path, crops: Path, cli: Run, options: list[str], count: int) -> None:
    one = next(crops.iterdir())
    status, out, _ = cli("gallery", "search", filled, one, "--package", package, "--top-k", 99, "--json", *options)
    assert status == 0
    (query,) = json.loads(out)["queries"]
    assert len(query["hits"]) == count


def test_names_that_do_not_tell_enough_are_seen_before_the_work(
    filled: Path, package: Path, crops: Path, tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(next(crops.iterdir()), tmp_path / "query.png")
    np.savez(tmp_path / "query.npz", embeddings=np.ones((1, 8), np.float32), paths=np.array(["query.png"]))
    monkeypatch.setattr(Encoder, "load", lambda _: pytest.fail("a model is opened"))
    commands = {
        ("gallery", "enrol", filled): "who they are is not known",
        ("gallery", "search", filled, "--other-cameras"): "the cameras of the queries are not known",
        ("calibrate",): "the identities are not known",
    }
    for command, message in commands.items():
        for source in (crops, tmp_path / "query.png"), (tmp_path / "query.npz",):
            status, out, err = cli(*command, *source, *(() if len(source) == 1 else ("--package", package)))
            assert (status, out) == (1, "")
            assert message in err


def test_names_from_folders(site: Path, package: Path, crops: Path, tmp_path: Path, cli: Run) -> None:
    for number, crop in enumerate(sorted(crops.iterdir())):
        folder = tmp_path / "people" / ("anna", "ben")[number // 3]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(crop, folder / f"{number}.png")
    cli("gallery", "enrol", site, tmp_path / "people", "--package", package, "--by-folder", "--camera", "door")
    facts = json.loads(cli("gallery", "stats", site, "--json", "--check")[1])
    assert (facts["entries"], facts["identities"], facts["cameras"]) == (6, {"anna": 3, "ben": 3}, ["door"])
    assert "\nidentities: anna (3), ben (3)\n" in cli("gallery", "stats", site)[1]


def test_names_from_folders_are_not_those_of_another_place(
    site: Path, package: Path, crops: Path, tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, elsewhere, store = (tmp_path / name for name in ("people/anna", "elsewhere", "store"))
    for folder in (anna, elsewhere, store):
        folder.mkdir(parents=True)
    shutil.copy(next(crops.iterdir()), store / "1.png")
    (anna / "1.png").symlink_to(store / "1.png")
    monkeypatch.chdir(anna)
    cli("infer", package, ".", "-o", elsewhere / "alone.npz")
    assert cli("gallery", "enrol", site, ".", "--package", package, "--by-folder")[0] == 0
    monkeypatch.chdir(anna.parent)
    cli("infer", package, "anna", "-o", elsewhere / "named.npz")
    monkeypatch.chdir(elsewhere)
    status, _, err = cli("gallery", "enrol", site, "alone.npz", "--by-folder")
    assert (status, err.startswith("error: 1.png does not say its folder, for --by-folder; ")) == (1, True)
    assert cli("gallery", "enrol", site, "named.npz", "--by-folder")[0] == 0
    with Gallery.open(site) as gallery:
        assert gallery.stats()["identities"] == {"anna": 2}
        paths = [entry.metadata["path"] for entry in gallery.rows()[1]]
    assert paths == [str((store / "1.png").resolve()), "anna/1.png"]


def test_statistics_name_the_first_of_many(site: Path) -> None:
    with Gallery.open(site) as gallery:
        gallery.enrol(np.ones((22, gallery.space.dim)), [f"p{i:02}" for i in range(22)])
        text = describe(gallery.stats())
    assert "\nidentities: p00 (1), " in text
    assert " p19 (1), … and 2 more (--json prints all)\n" in text


def test_junk_and_distractors_are_nobody(site: Path, package: Path, crops: Path, cli: Run) -> None:
    first = next(iter(sorted(crops.iterdir())))
    for name in ("-1_c1s1_000001_00.png", "0000_c2s1_000001_00.png"):
        shutil.copy(first, crops / name)
    status, out, _ = cli("gallery", "enrol", site, crops, "--package", package)
    assert (status, out) == (
        0,
        f"enrolled 6 of 3 identities; {site} has 6 entries; left out 2 that are junk or distractors by their names\n",
    )
    for path in crops.iterdir():
        if not path.name.startswith(("-1", "0000")):
            path.unlink()
    status, _, err = cli("gallery", "enrol", site, crops, "--package", package)
    assert status == 1
    assert "all crops are junk" in err


def test_one_of_everything(site: Path, package: Path, crops: Path, tmp_path: Path, cli: Run) -> None:
    shutil.copytree(crops, tmp_path / "one")
    first, *others = sorted((tmp_path / "one").iterdir())
    for path in others:
        path.unlink()
    shutil.copy(first, tmp_path / "one" / "-1_c1s1_000001_00.png")
    _, out, _ = cli("gallery", "enrol", site, tmp_path / "one", "--package", package)
    assert out == f"enrolled 1 of 1 identity; {site} has 1 entry; left out 1 that is junk or a distractor by its name\n"
    assert f"{site}: 1 entry, 1 identity, " in cli("gallery", "stats", site)[1]
    assert cli("gallery", "forget", site, "1")[1] == "forgot 1: 1 entry, proved gone\n"
    cli("gallery", "enrol", site, first, "--package", package)
    assert cli("gallery", "expire", site, "--before", "2999-01-01")[1] == f"deleted 1 entry from {site}\n"


def test_a_value_that_metadata_cannot_have(filled: Path, package: Path, crops: Path, cli: Run) -> None:
    for value, message in ((2**63, "of 64 bits"), ("\udcff", "text of Unicode")):
        status, _, err = cli("gallery", "search", filled, crops, "--package", package, "--meta", f"n={value}")
        assert (status, message in err) == (1, True)


def test_other_cameras_that_the_gallery_does_not_have_are_said(site: Path, package: Path, crops: Path, cli: Run) -> None:
    cli("gallery", "enrol", site, crops, "--package", package, "--camera", "door")
    status, _, err = cli("gallery", "search", site, crops, "--package", package, "--other-cameras")
    notes = [f"note: the gallery has no entry of camera '{camera}'; there are 'door'" for camera in ("c1", "c2")]
    assert (status, err.splitlines()) == (0, notes)


def test_stored_embeddings(site: Path, package: Path, crops: Path, tmp_path: Path, cli: Run) -> None:
    stored = tmp_path / "crops.npz"
    assert cli("infer", package, crops, "-o", stored)[0] == 0
    assert cli("gallery", "enrol", site, stored)[0] == 0
    assert cli("gallery", "export", site, "-o", tmp_path / "out.npz", "--camera", "c2")[:2] == (
        0,
        f"wrote 3 entries to {tmp_path / 'out.npz'}\n",
    )
    assert json.loads(cli("gallery", "export", site, "--out", tmp_path / "all.npz", "--json")[1]) == {
        "exported": 6,
        "out": str(tmp_path / "all.npz"),
    }
    with np.load(stored) as before, np.load(tmp_path / "out.npz", allow_pickle=False) as after:
        np.testing.assert_array_equal(after["embeddings"], before["embeddings"][1::2])
        assert after["identities"].tolist() == ["1", "2", "3"]
        assert str(after["model"]) == str(before["model"])


def test_an_export_goes_into_another_gallery_with_all_that_is_known(
    site: Path, package: Path, tmp_path: Path, cli: Run
) -> None:
    other, file, own = tmp_path / "other.gallery", tmp_path / "all.npz", tmp_path / "own.npz"
    with Gallery.open(site) as gallery:
        x = np.random.default_rng(0).standard_normal((4, gallery.space.dim)).astype(np.float16)
        metadata = [{"path": "gone/1.jpg", "zone": [3]}, {}, {"note": "é"}, {}]
        gallery.enrol(
            x, ["anna", "0", "-1", "ben"], ["door", None, "yard", None], [1.5, 2, 3, 4], ["t1", None, None, "t4"], metadata
        )
        np.savez(own, embeddings=x[:1].astype(np.float32), paths=["7.jpg"], identities=["carl"])
        np.savez(
            tmp_path / "crops.npz", embeddings=x[:1].astype(np.float32), paths=["0001_c2s1_000004_00.jpg"], pids=[1], camids=[1]
        )
    cli("gallery", "export", site, "-o", file)
    cli("gallery", "create", other, package, "--float16")
    assert cli("gallery", "enrol", other, file)[:2] == (0, f"enrolled 4 of 4 identities; {other} has 4 entries\n")
    with Gallery.open(site) as before, Gallery.open(other) as after:
        for left, right in zip(before.rows(), after.rows(), strict=True):
            assert left == right if isinstance(left, list) else np.array_equal(left.embeddings, right.embeddings)
    options = ("--identity", "eve", "--camera", "hall", "--time", "9", "--meta", "zone=4")
    assert cli("gallery", "enrol", other, file, own, *options)[0] == 0
    assert cli("gallery", "enrol", other, own)[0] == 0
    for who in ((), ("--identity", "eve")):  # the camera of the crop would be lost
        code, _, error = cli("gallery", "enrol", other, file, tmp_path / "crops.npz", *who)
        assert (code, "one after the other" in error) == (1, True)
    with Gallery.open(other) as gallery:
        first, *_, last, carl = gallery.rows()[1][4:]
    assert (first.identity, first.camera, first.time, first.track) == ("eve", "hall", 9.0, "t1")
    assert (first.metadata, last.metadata) == ({"path": "gone/1.jpg", "zone": 4}, {"path": "7.jpg", "zone": 4})
    assert (carl.identity, carl.camera, carl.track, carl.metadata) == ("carl", None, None, {"path": "7.jpg"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("identities", ["anna"]),
        ("identities", [1, 2]),
        ("cameras", [[1, 2]]),
        ("times", ["1", "2"]),
        ("metadata", np.frombuffer(b"[{}]", np.uint8)),
        ("metadata", np.frombuffer(b"[1, 2]", np.uint8)),
        ("metadata", np.frombuffer(b"[" * 100_000, np.uint8)),
    ],
)
def test_an_export_that_was_altered_is_refused(site: Path, tmp_path: Path, cli: Run, name: str, value: Any) -> None:
    arrays: dict[str, Any] = {"embeddings": np.ones((2, 8), np.float32), "paths": ["1", "2"], "identities": ["anna", "ben"]}
    np.savez(tmp_path / "all.npz", **{**arrays, name: value})
    status, out, err = cli("gallery", "enrol", site, tmp_path / "all.npz")
    assert (status, out) == (1, "")
    assert err.startswith(
        f"error: {tmp_path / 'all.npz'} does not say whose its embeddings are as `stcanet gallery export` does: "
    )


def test_an_export_takes_the_room_of_its_metadata(site: Path, tmp_path: Path, cli: Run) -> None:
    notes = ["é" * 50_000, *map(str, range(99))]
    with Gallery.open(site) as gallery:
        gallery.enrol(np.ones((100, gallery.space.dim)), "anna", metadata=[{"note": note} for note in notes])
    assert cli("gallery", "export", site, "-o", tmp_path / "all.npz")[0] == 0
    assert (tmp_path / "all.npz").stat().st_size < 1_000_000
    with np.load(tmp_path / "all.npz") as file:
        assert [entry["note"] for entry in json.loads(file["metadata"].tobytes())] == notes


def test_another_model_is_refused(site: Path, clip_package: Path, crops: Path, cli: Run) -> None:
    status, _, err = cli("gallery", "enrol", site, crops, "--package", clip_package)
    assert status == 1
    assert err.startswith("error: gallery")
    assert "it holds embeddings of model" in err


def test_expire_and_forget(filled: Path, cli: Run) -> None:
    assert cli("gallery", "forget", filled, "2")[:2] == (0, "forgot 2: 2 entries, proved gone\n")
    status, _, err = cli("gallery", "forget", filled, "2")
    assert (status, err) == (1, f"error: gallery {filled}: it has no identity '2'\n")
    assert cli("gallery", "expire", filled, "--before", "1000")[1] == f"deleted 0 entries from {filled}\n"
    assert cli("gallery", "expire", filled, "--older-than", "1d")[1] == f"deleted 4 entries from {filled}\n"
    assert "times: none" in cli("gallery", "stats", filled)[1]


def test_a_name_gives_no_orders_to_the_terminal(site: Path, package: Path, crops: Path, cli: Run) -> None:
    name, shown = "\x1b[31mred\nthreshold: 0", "\\x1b[31mred\\nthreshold: 0"
    cli("gallery", "enrol", site, crops, "--package", package, "--identity", name, "--camera", name)
    assert f"\nidentities: {shown} (6)\ncameras: {shown}\n" in cli("gallery", "stats", site)[1]
    assert cli("gallery", "forget", site, name)[1] == f"forgot {shown}: 6 entries, proved gone\n"


@pytest.mark.parametrize(
    "args",
    [
        ["expire", "GALLERY"],
        ["expire", "GALLERY", "--older-than", "soon"],
        ["expire", "GALLERY", "--before", "noon"],
        ["search", "GALLERY", "--meta", "zone", "x.npz"],
        ["search", "GALLERY", "--meta", "zone=" + "[" * 100_000, "x.npz"],
        ["search", "GALLERY", "--templates", "9" * 5000, "x.npz"],
        ["search", "GALLERY", "--after", "now", "x.npz"],
        ["enrol", "GALLERY", "--time", "today", "x.npz"],
        ["enrol", "GALLERY", "x.npz", "--identity", "a", "--by-folder"],
        ["enrol", "GALLERY", "--meta", "path=mine", "x.npz"],
        ["search", "GALLERY"],
        ["export", "GALLERY"],
        ["export", "GALLERY", "out.npz"],
    ],
)
def test_wrong_options_have_status_two(site: Path, cli: Run, args: list[str]) -> None:
    status, out, err = cli("gallery", *(site if arg == "GALLERY" else arg for arg in args))
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert all(arg in err for arg in args[2:3] if arg.startswith("--")), err


def test_a_folder_needs_a_model(site: Path, crops: Path, cli: Run) -> None:
    status, _, err = cli("gallery", "search", site, crops)
    assert (status, "add --package" in err) == (1, True)


@pytest.mark.parametrize("command", ["enrol", "search"])
def test_a_gallery_that_is_not_there_is_told_before_the_work(tmp_path: Path, crops: Path, cli: Run, command: str) -> None:
    status, out, err = cli("gallery", command, tmp_path / "none.gallery", crops)  # without a model, too
    assert (status, out) == (1, "")
    assert "none.gallery" in err
    assert "--package" not in err


@pytest.mark.parametrize("command", ["enrol", "search", "calibrate"])
def test_a_gallery_of_another_model_is_told_before_the_work(
    site: Path, clip_package: Path, crops: Path, cli: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("stcanet_runtime.inference.encoder.Encoder.load", lambda *_: pytest.fail("worked first"))
    words = ("calibrate", crops, "--gallery", site) if command == "calibrate" else ("gallery", command, site, crops)
    status, out, err = cli(*words, "--package", clip_package)
    assert (status, out) == (1, "")
    assert "it holds embeddings of model" in err


def test_calibrate_checks_the_gallery_before_the_work(site: Path, tmp_path: Path, cli: Run) -> None:
    assert "error: gallery none" in cli("calibrate", tmp_path / "none.npz", "--gallery", "none")[2]
    status, _, err = cli("calibrate", tmp_path / "none.npz", "--gallery", site, "--metric", "euclidean")
    assert (status, "metric must be 'cosine', which the gallery uses" in err) == (1, True)


def test_times() -> None:
    assert parse_time(None) is None
    assert parse_time("12.5") == 12.5
    assert parse_time("2026-11-25T13:00:00+00:00") == 1795611600
    assert age_limit("2h") - age_limit("1d") == pytest.approx(22 * 3600, abs=5)


def write_embeddings(path: Path, **extra: Any) -> Path:
    rng = np.random.default_rng(0)
    pids = np.repeat(np.arange(1, 41), 6)
    x = rng.standard_normal((41, 8))[pids] + 0.2 * rng.standard_normal((240, 8))
    arrays = {"paths": np.array([f"{i}.png" for i in range(240)]), "pids": pids, "camids": np.tile([0, 1], 120), **extra}
    np.savez(path, embeddings=x.astype(np.float32), **arrays)
    return path


def test_calibrate(filled: Path, tmp_path: Path, cli: Run) -> None:
    source = write_embeddings(tmp_path / "labelled.npz")
    places = {"--out": tmp_path / "t.json", "--picture": tmp_path / "curves.png", "--gallery": filled}
    status, out, err = cli("calibrate", source, "--far", "0.05", *[x for pair in places.items() for x in pair])
    assert (status, err) == (0, "")
    written = json.loads((tmp_path / "t.json").read_text())
    assert out.startswith(f"threshold {written['threshold']:.4f} (cosine): FAR {100 * written['far']:.3g} % of 240 searches, ")
    assert out.splitlines()[1:] == [f"wrote {places[name]}" for name in ("--picture", "--out", "--gallery")]
    assert (written["impostor"], written["cross_camera"], written["kind"]) == (240, True, "search")
    assert (tmp_path / "curves.png").stat().st_size > 5000
    with Gallery.open(filled) as gallery:
        assert gallery.calibration == written
    assert f"threshold: {written['threshold']:.4f}" in cli("gallery", "stats", filled)[1]


def test_calibrate_refuses(filled: Path, tmp_path: Path, cli: Run) -> None:
    source = write_embeddings(tmp_path / "labelled.npz", model=np.array("f" * 64))
    assert "needs at least 1,000,000 comparisons" in cli("calibrate", source, "--far", "1e-6")[2]
    assert "embeddings of model" in cli("calibrate", source, "--far", "0.1", "--gallery", filled)[2]
    with Gallery.open(filled) as gallery:
        assert gallery.calibration is None
