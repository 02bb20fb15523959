"""`stcanet evaluate` and `stcanet cross` as a user runs them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stcanet.commands.evaluate import _kept_results
from stcanet.data.datasets import load_dataset
from stcanet.engine.checkpoint import Checkpoint, save_checkpoint
from stcanet.model import build_model


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of clips, whose batch normalisations do something."""
    torch.manual_seed(0)
    model = build_model("stcanet-video", backbone="resnet18", height=64, width=32)
    for module in model.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    path = tmp_path_factory.mktemp("video") / "video.pt"
    save_checkpoint(Checkpoint.of(model), path)
    return path


@pytest.fixture(scope="module")
def video_package(video: Path, tmp_path_factory: pytest.TempPathFactory, stcanet) -> Path:
    out = tmp_path_factory.mktemp("packages") / "video"
    done = stcanet("export", video, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def tracklets(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn people as tracklets of several lengths: the images of one person in one camera, some of them again."""
    dataset, path = load_dataset(people), tmp_path_factory.mktemp("tracklets") / "tracklets.csv"
    groups: dict[tuple[int, int], list[Path]] = {}
    for sample in (*dataset.query, *dataset.gallery):
        groups.setdefault((sample.pid, sample.camid), []).append(sample.path)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "pid", "camid", "split", "track", "frame"])
        for track, ((pid, camid), images) in enumerate(sorted(groups.items())):
            frames = (images * 3)[: 1 + 2 * track]
            for split in ["gallery", *(["query"] if pid and camid == 0 else [])]:
                rows.writerows([image, pid, camid, split, track, frame] for frame, image in enumerate(frames))
    return path


def result_of(done) -> dict:
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert done.stdout == json.dumps(result, indent=2) + "\n"  # as all commands lay it out
    return result


def figures(result: dict) -> tuple[float, ...]:
    return (result["mAP"], result["mINP"], *result["cmc"])


def test_tracklets_at_several_batch_sizes_and_as_a_package(stcanet, video: Path, video_package: Path, tracklets: Path) -> None:
    options = ("--data", tracklets, "--rerank", "--k1", 3, "--k2", 2, "--json")
    results = [result_of(stcanet("evaluate", video, *options, "--batch-size", size)) for size in (1, 12, 500)]
    results.append(result_of(stcanet("evaluate", video_package, *options, "--provider", "cpu", without=("torch",))))
    assert all(figures(result) == figures(results[0]) for result in results)
    assert all(result["protocol"] == results[0]["protocol"] for result in results)
    assert all(figures(result["reranked"]) == figures(results[0]["reranked"]) for result in results)
    assert results[0]["protocol"]["queries_in_gallery"] == results[0]["protocol"]["num_query"] == 4
    assert results[0]["protocol"]["clip_length"] == 4


def test_options_of_tracklets_mean_the_same_to_checkpoint_and_package(
    stcanet, video: Path, video_package: Path, tracklets: Path, tmp_path: Path
) -> None:
    options, rows = ("--frames", "quick", "--clip-length", 3, "--flip"), {}
    runs = {"torch": (video, *options), "runtime": (video_package, *options, "--provider", "cpu"), "plain": (video,)}
    for name, (model, *chosen) in runs.items():
        done = stcanet("evaluate", model, "--data", tracklets, "--save-embeddings", tmp_path / name, *chosen)
        assert done.returncode == 0, done.stderr
        with np.load(tmp_path / name / "gallery.npz") as stored:
            rows[name] = stored["embeddings"]
    np.testing.assert_allclose(rows["torch"], rows["runtime"], atol=1e-5)
    assert np.abs(rows["torch"] - rows["plain"]).max() > 1e-4


def test_any_model_on_any_data(stcanet, checkpoint: Path, package: Path, video: Path, people: Path, tracklets: Path) -> None:
    image_on_tracklets = result_of(stcanet("evaluate", checkpoint, "--data", tracklets, "--json"))
    assert image_on_tracklets["protocol"]["averaged"] == "unit embeddings of frames"
    package_on_tracklets = result_of(stcanet("evaluate", package, "--data", tracklets, "--json", without=("torch",)))
    assert package_on_tracklets["protocol"] == image_on_tracklets["protocol"]
    assert figures(package_on_tracklets) == figures(image_on_tracklets)
    video_on_images = result_of(stcanet("evaluate", video, "--data", people, "--json"))
    assert (video_on_images["protocol"]["frames"], video_on_images["protocol"]["clip_length"]) == ("single image", 4)
    done = stcanet("evaluate", checkpoint, "--data", people, "--clip-length", 4)
    assert done.returncode == 1
    assert "this model takes single images" in done.stderr


def test_saved_embeddings_rank_to_the_same_figures(stcanet, package: Path, people: Path, tmp_path: Path) -> None:
    options = ("--metric", "euclidean", "--flip", "--save-embeddings", tmp_path, "--json")
    result = result_of(stcanet("evaluate", package, "--data", people, *options, without=("torch",)))
    ranked = result_of(stcanet("rank", tmp_path / "query.npz", tmp_path / "gallery.npz", "--metric", "euclidean", "--json"))
    assert ranked["evaluation"]["mAP"] == pytest.approx(result["mAP"], abs=1e-6)
    assert result["protocol"]["flip"] is True
    assert result["protocol"]["metric"] == "euclidean"


def test_markdown_and_text(stcanet, package: Path, people: Path, tmp_path: Path) -> None:
    lines = stcanet("evaluate", package, "--data", people, "--rerank", "--ap", "trapezoid", "--markdown").stdout.splitlines()
    assert len(lines) == 4
    assert all("; AP trapezoid; " in line for line in lines[2:])
    assert lines[0].startswith("| model | data set | protocol | mAP |")
    files = ("--out", tmp_path / "r.json", "--save-embeddings", tmp_path)
    lines = stcanet("evaluate", package, "--data", people, *files).stdout.splitlines()
    assert lines[2:] == [f"wrote {tmp_path / name}" for name in ("r.json", "query.npz", "gallery.npz")]
    assert lines[0].startswith("mAP ")
    assert lines[1].startswith("protocol: 8 queries, ")
    done = stcanet("evaluate", package, "--data", people, "--markdown", "--json")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("options", [("--frames", "some"), ("--metric", "dot"), ("--clip-length", 0)])
def test_wrong_options(stcanet, package: Path, people: Path, options: tuple[object, ...]) -> None:
    done = stcanet("evaluate", package, "--data", people, *options)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert options[0] in done.stderr


def test_a_run_folder_and_its_state_lead_to_the_checkpoint(stcanet, checkpoint: Path, people: Path, tmp_path: Path) -> None:
    run = checkpoint.parent
    for command in (("evaluate", "--data", people, "--device", "cpu"), ("export", "--out", tmp_path / "package")):
        for model in (run, run / "resume.pt"):
            done = stcanet(command[0], model, *command[1:])
            assert done.returncode == 1
            (line,) = done.stderr.splitlines()
            assert str(checkpoint) in line
            assert "convert" not in line


def test_an_option_of_the_other_kind_of_model_is_refused(stcanet, checkpoint: Path, package: Path, people: Path) -> None:
    for model, option in ((checkpoint, ("--provider", "cpu")), (package, ("--device", "cpu"))):
        for command, more in (("evaluate", ()), ("cross", (model,))):
            done = stcanet(command, model, *more, "--data", people, *option)
            assert done.returncode == 2
            assert option[0] in done.stderr


def test_an_option_of_one_kind_of_model_is_taken_where_one_is_of_it(
    stcanet, checkpoint: Path, package: Path, people: Path, tmp_path: Path
) -> None:
    options = ("--device", "cpu", "--provider", "cpu", "--out", tmp_path / "cross.json")
    done = stcanet("cross", checkpoint, package, "--data", people, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"wrote {tmp_path / 'cross.json'}"


def test_cross(stcanet, checkpoint: Path, video_package: Path, people: Path, tracklets: Path, tmp_path: Path) -> None:
    files = ("--picture", tmp_path / "cross.png", "--out", tmp_path / "cross.json")
    done = stcanet("cross", checkpoint, video_package, "--data", people, "--data", tracklets, *files, "--json")
    matrix = result_of(done)
    assert json.loads((tmp_path / "cross.json").read_text()) == matrix
    assert matrix["datasets"] == ["people", "tracklets"]
    assert len(matrix["cells"]) == 4
    assert [cell["trained_there"] for cell in matrix["cells"]] == [True, False, False, False]
    alone = result_of(stcanet("evaluate", checkpoint, "--data", people, "--json"))
    assert json.loads((checkpoint.parent / "results.json").read_text()) == alone  # in its run folder
    assert figures(matrix["cells"][0]) == figures(alone)
    assert matrix["cells"][0]["protocol"] == alone["protocol"]
    with Image.open(tmp_path / "cross.png") as image:
        assert min(image.size) > 200


def test_results_of_a_package_in_a_run_folder_are_not_those_of_its_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "metrics.jsonl").touch()
    kept = [_kept_results(tmp_path / name) for name in ("best.pt", "int8.stcanet", "int8.zip", "model.onnx", "package")]
    assert kept == [tmp_path / "results.json", None, None, None, None]


def test_figures_that_are_replaced_in_a_run_folder_are_named(
    stcanet, checkpoint: Path, people: Path, tracklets: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    for name in ("best.pt", "metrics.jsonl"):
        shutil.copy(checkpoint.parent / name, tmp_path / "run" / name)
    kept = tmp_path / "run" / "results.json"
    kept.write_text("[]")

    def said(data: Path, *options: object) -> str:
        done = stcanet("evaluate", tmp_path / "run" / "best.pt", "--data", data, *options)
        assert done.returncode == 0, done.stderr
        return done.stderr

    assert said(people) == ""
    assert said(people, "--rerank") == ""  # the figures before stand beside the re-ranked ones
    replaced = f"note: {kept} has these figures now, in the place of those on people: "
    line = said(people)
    assert line.startswith(replaced)
    assert line.endswith("; re-ranked too\n")
    line = said(people, "--flip")
    assert line.startswith(replaced)
    assert "re-ranked" not in line
    assert said(tracklets).startswith(replaced)
    assert json.loads(kept.read_text())["data"] == "tracklets"


def test_cross_keeps_what_works(stcanet, package: Path, people: Path, tmp_path: Path) -> None:
    done = stcanet("cross", package, tmp_path / "none.pt", "--data", people, "--data", tmp_path / "nowhere")
    assert done.returncode == 1
    assert done.stdout.count("failed") == 3
    assert " / " in done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("error: ") for line in lines)


def test_figures_are_printed_where_the_run_folder_cannot_be_written(
    stcanet, checkpoint: Path, people: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(checkpoint.parent, run, ignore=shutil.ignore_patterns("results.json", "tensorboard"))
    (run / "results.json").mkdir()  # in the way, also for root, whom no permission stops
    done = stcanet("evaluate", run / "best.pt", "--data", people, "--json")
    assert 0 <= result_of(done)["mAP"] <= 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"warning: {run / 'results.json'} is not written")


def test_figures_are_printed_before_a_file_fails(
    stcanet, package: Path, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("stcanet_runtime.files.write_json", full)
    files = ("--out", tmp_path / "r.json", "--data", people)
    for command, shown in (("evaluate", "mAP "), ("cross", " / ")):
        done = stcanet(command, package, *files)
        assert done.returncode == 1
        assert shown in done.stdout
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert "No space left" in line


def test_embeddings_are_saved_whatever_becomes_of_the_figures(
    stcanet, package: Path, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(embeddings: object, path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    def large(*_: object) -> None:
        raise MemoryError("Unable to allocate")

    arguments = ("evaluate", package, "--data", people, "--save-embeddings", tmp_path / "saved")
    with monkeypatch.context() as patch:
        patch.setattr("stcanet_runtime.inference.crop_embeddings.save", full)
        done = stcanet(*arguments)
        assert (done.returncode, done.stdout[:4]) == (1, "mAP ")
        assert "No space left" in done.stderr
    monkeypatch.setattr("stcanet.evaluation.judge", large)
    assert stcanet(*arguments).returncode == 1
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["gallery.npz", "query.npz"]


@pytest.mark.parametrize(
    ("command", "option", "name", "word"),
    [
        ("cross", "--picture", "cross.txt", "known format"),
        ("cross", "--picture", "file/cross.png", "file"),
        ("cross", "--out", "file/cross.json", "file"),
        ("cross", "--out", "folder", "folder"),
        ("evaluate", "--out", "file/result.json", "file"),
        ("evaluate", "--save-embeddings", "file", "file"),
    ],
)
def test_files_are_checked_before_the_work(
    stcanet,
    package: Path,
    people: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    option: str,
    name: str,
    word: str,
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("stcanet.evaluation.models.PackageModel.embed", lambda *_: pytest.fail("worked first"))
    done = stcanet(command, package, "--data", people, option, tmp_path / name)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert word in line
