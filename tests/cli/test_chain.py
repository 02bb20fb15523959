"""The whole chain through the command line, and what it says when something is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stcanet.commands.training_progress import TrainingProgress
from stcanet.engine.trainer import TrainResult

Done = subprocess.CompletedProcess[str]


def assert_one_line_error(done: Done, *words: str) -> None:
    assert done.returncode not in (0, None), done.stdout
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0], lines[0]


def test_package_and_checkpoint_retrieve_the_same(
    stcanet, checkpoint: Path, package: Path, people: Path, tmp_path: Path
) -> None:
    torch = json.loads(stcanet("evaluate", checkpoint, "--data", people, "--json").stdout)
    done = stcanet(
        "evaluate", package, "--data", people, "--provider", "cpu", "--json", "--out", tmp_path / "r.json", without=("torch",)
    )
    assert done.returncode == 0, done.stderr
    runtime = json.loads(done.stdout)
    assert json.loads((tmp_path / "r.json").read_text()) == runtime
    assert runtime["runs_on"].startswith("onnxruntime")
    assert runtime["mAP"] == pytest.approx(torch["mAP"], abs=1e-3)
    assert runtime["cmc"][0] == pytest.approx(torch["cmc"][0], abs=1e-3)
    assert 0.05 < runtime["mAP"] < 1.0  # neither nothing nor everything, so that equality means something
    assert runtime["protocol"] == torch["protocol"]
    assert runtime["protocol"]["num_distractors"] == 2


def test_infer_ranks_without_torch(stcanet, package: Path, people: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "ranks.png"
    done = stcanet(
        "infer",
        package,
        people / "query",
        "--gallery",
        people / "bounding_box_test",
        "--sheet",
        sheet,
        "--json",
        without=("torch",),
    )
    assert done.returncode == 0, done.stderr
    ranks = json.loads(done.stdout)
    result = json.loads(stcanet("evaluate", package, "--data", people, "--json").stdout)
    assert ranks["evaluation"]["mAP"] == pytest.approx(result["mAP"], abs=1e-6)
    with Image.open(sheet) as image:
        assert min(image.size) > 100


def test_infer_equals_training_from_the_image_files(
    stcanet, checkpoint: Path, package: Path, people: Path, tmp_path: Path
) -> None:
    from stcanet.data.datasets import load_dataset
    from stcanet.engine.checkpoint import load_checkpoint
    from stcanet.engine.embedding import embed

    done = stcanet("infer", package, people / "query", "-o", tmp_path / "q.npz", "--provider", "cpu")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "q.npz") as stored:
        embeddings = stored["embeddings"]
    expected = embed(load_checkpoint(checkpoint).build(), load_dataset(people).query)
    assert (embeddings * expected).sum(axis=1).min() > 0.99999


def test_parity_command(stcanet, checkpoint: Path, package: Path, people: Path) -> None:
    done = stcanet("parity", package, "--checkpoint", checkpoint, "--images", people / "query", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passed"] is True


def test_train_resolves_and_reports(stcanet, checkpoint: Path) -> None:
    run = checkpoint.parent
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["epoch"] == 1
    assert 'preset = "stcanet-tiny"' in (run / "config.toml").read_text()
    page = run / "report.html"
    assert "Hardest mistakes" in page.read_text(encoding="utf-8")
    page.unlink()
    assert stcanet("report", run).stdout == f"{page}\n"
    facts = json.loads(stcanet("report", run, "--json").stdout)
    results = run / "results.json"  # where a test before has evaluated
    assert facts == {"report": str(page), "results": json.loads(results.read_text()) if results.exists() else None}
    assert page.is_file()


@pytest.mark.parametrize(
    "command",
    [(), ("train",), ("evaluate",), ("cross",), ("convert",), ("export",), ("parity",), ("infer",), ("synth",), ("info",)],
)
def test_help_works_without_torch(stcanet, command: tuple[str, ...]) -> None:
    done = stcanet(*command, "--help", without=("torch", "onnx", "onnxruntime", "numba"))
    assert done.returncode == 0, done.stderr


def test_info_runs_without_torch(stcanet) -> None:
    done = stcanet("info", "--json", without=("torch",))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["backends"]["available"]["reference"] is None


@pytest.mark.parametrize(("command", "package_name"), [("train", "torch"), ("evaluate", "torch"), ("export", "torch")])
def test_commands_that_need_torch_say_so(
    stcanet, checkpoint: Path, people: Path, tmp_path: Path, command: str, package_name: str
) -> None:
    args = {
        "train": ("--data", people, "--out", tmp_path / "run"),
        "evaluate": (checkpoint, "--data", people),
        "export": (checkpoint, "--out", tmp_path / "p"),
    }
    assert_one_line_error(stcanet(command, *args[command], without=("torch",)), package_name, "pip install 'stcanet[")


def test_a_package_that_is_there_and_does_not_fit(stcanet, checkpoint: Path, tmp_path: Path) -> None:
    done = stcanet("export", checkpoint, "--out", tmp_path / "p", without=("onnxscript._framework_apis",))
    assert_one_line_error(done, "onnxscript has no onnxscript._framework_apis", "pip install --upgrade onnxscript")


def test_folder_without_images(stcanet, package: Path, tmp_path: Path) -> None:
    assert_one_line_error(stcanet("infer", package, tmp_path), str(tmp_path))


def test_truncated_jpeg(stcanet, package: Path, people: Path, tmp_path: Path) -> None:
    source = next((people / "query").iterdir()).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(source[: len(source) // 2])
    assert_one_line_error(stcanet("infer", package, tmp_path / "cut.jpg"), "cut.jpg")


def test_text_named_jpg(stcanet, package: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("not an image")
    assert_one_line_error(stcanet("infer", package, tmp_path), "a.jpg")


def test_corrupt_image_in_a_training_set_is_named(stcanet, people: Path, tmp_path: Path) -> None:
    shutil.copytree(people, tmp_path / "people")
    victim = next((tmp_path / "people" / "bounding_box_train").iterdir())
    victim.write_bytes(victim.read_bytes()[:200])
    options = (
        "--preset",
        "stcanet-tiny",
        "--backbone-weights",
        "none",
        "--set",
        "identities=4",
        "--set",
        "val_fraction=0",
        "--epochs",
        9,
    )
    done = stcanet("train", "--data", tmp_path / "people", "--out", tmp_path / "run", *options)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(f"error: cannot read image {victim}")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("content", ["hello", ""])
def test_checkpoint_that_is_not_one(stcanet, people: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "x.pt").write_text(content)
    assert_one_line_error(stcanet("export", tmp_path / "x.pt", "--out", tmp_path / "p"), "x.pt")
    assert_one_line_error(stcanet("evaluate", tmp_path / "x.pt", "--data", people), "x.pt")
    assert not (tmp_path / "p").exists()


def test_altered_model(stcanet, package: Path, people: Path, tmp_path: Path) -> None:
    shutil.copytree(package, tmp_path / "p")
    model = tmp_path / "p" / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    assert_one_line_error(stcanet("infer", tmp_path / "p", people / "query"), "model.onnx", "was altered")


def test_manifest_with_a_missing_column(stcanet, package: Path, tmp_path: Path) -> None:
    (tmp_path / "crops.csv").write_text("path,pid,split\n")
    assert_one_line_error(stcanet("evaluate", package, "--data", tmp_path / "crops.csv"), "missing 'camid'")


def test_unknown_provider(stcanet, package: Path, people: Path) -> None:
    assert_one_line_error(stcanet("infer", package, people / "query", "--provider", "tpu"), "tpu")
    assert_one_line_error(stcanet("evaluate", package, "--data", people, "--provider", "tpu"), "tpu")


def test_provider_that_is_not_here(stcanet, package: Path, people: Path) -> None:
    assert_one_line_error(stcanet("infer", package, people / "query", "--provider", "tensorrt"), "tensorrt")


def test_negative_top_k(stcanet, package: Path, people: Path) -> None:
    assert_one_line_error(
        stcanet("infer", package, people / "query", "--gallery", people / "query", "--top-k", -1),
        "top-k",
        "greater than or equal to 1",
    )


def test_missing_data(stcanet, tmp_path: Path) -> None:
    assert_one_line_error(stcanet("train", "--out", tmp_path / "run"), "--data")
    assert_one_line_error(stcanet("train", "--out", tmp_path / "run", "--data", tmp_path / "none"), "none")


def test_paths_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    facts: dict[str, object] = dict.fromkeys(("dataset", "kind", "device", "precision", "images_from"), "")
    facts |= dict.fromkeys(("train_images", "train_identities", "val_queries", "val_gallery"), 0)
    facts["resumed"] = None
    said = {"init": "runs/[old]/best.pt: all", "dataset_notes": ["runs[/old] \33[2J"], "notes": ["nothing is held back"]}
    TrainingProgress(1).on_start({**facts, **said})
    assert capsys.readouterr().err.splitlines() == [
        ": 0  of 0 identities, no validation; , , images from ",
        "starts from runs/[old]/best.pt: all",
        "note: runs[/old] \\x1b[2J",
        "note: nothing is held back",
    ]


def test_epochs_are_told_in_the_percents_of_evaluate(capsys: pytest.CaptureFixture[str]) -> None:
    values = {"loss": 1.5, "accuracy": 0.5, "lr": 1e-3, "images_per_second": 9.6, "seconds": 20.4}
    for validated in ({}, {"val_mAP": 0.25074, "val_rank1": 0.3}):
        TrainingProgress(3).on_epoch(2, {**values, **validated})
    line = "epoch   2/3  loss 1.500  acc 0.500  lr 1.00e-03  10 img/s  20 s"
    assert capsys.readouterr().err.splitlines() == [line, f"{line}  validation mAP 25.07, rank-1 30.00"]


def test_interrupted_training_says_how_to_go_on(stcanet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(_: object, folder: Path, *__: object, **___: object) -> None:
        if folder.name == "my run":
            folder.mkdir()
            (folder / "config.toml").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("stcanet.engine.trainer.train", train)
    done = stcanet("train", "--out", tmp_path / "my run", "--data", "people")
    assert done.returncode == 130
    assert done.stderr.splitlines()[0] == f"stopped; to go on: stcanet train --resume '{tmp_path}/my run'"
    assert "resume" not in stcanet("train", "--out", tmp_path / "nothing", "--data", "people").stderr


def test_of_several_processes_the_first_speaks(stcanet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []

    def train(_: object, folder: Path, progress: object, resume: bool) -> TrainResult:
        told.append(progress)
        return TrainResult(folder / "last.pt", 1, 1, {}, 0.0)

    monkeypatch.setattr("stcanet.engine.trainer.train", train)
    monkeypatch.setattr("stcanet.report.write.write_report", lambda folder, **_: folder / "report.html")
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, to rich
    for rank, lines in (("0", 2), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        done = stcanet("train", "--out", tmp_path / "run", "--data", "people")
        assert (done.returncode, len(done.stdout.splitlines()), bool(done.stderr)) == (0, lines, rank == "0")
    assert isinstance(told[0], TrainingProgress)
    assert told[1] is None


def test_the_result_is_told_where_its_page_cannot_be_written(stcanet, checkpoint: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(checkpoint.parent, run)
    (run / "report.html").unlink()
    (run / "report.html").mkdir()  # in the way, also for root, whom no permission stops
    done = stcanet("train", "--resume", run)
    assert done.returncode == 0
    assert "nothing was trained" in done.stdout
    assert f"{run}/best.pt (best of 1 epoch: 1; validation mAP " in done.stdout
    warned = f"warning: {run}/report.html is not written"
    assert done.stderr.splitlines()[-1].startswith(warned)
    done = stcanet("train", "--resume", run, "--json")
    facts = json.loads(done.stdout)
    assert (facts["checkpoint"], facts["report"]) == (f"{run}/best.pt", None)
    assert done.stderr.splitlines()[-1].startswith(warned)


def test_the_page_of_a_finished_run_stays(stcanet, checkpoint: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(checkpoint.parent, run)
    page = run / "report.html"
    page.write_text("of the test set, by stcanet report --data")
    lines = stcanet("train", "--resume", run).stdout.splitlines()
    assert lines[0] == f"{run} is finished: nothing was trained"
    assert not lines[1].endswith("min)")
    assert lines[2] == str(page)
    assert json.loads(stcanet("train", "--resume", run, "--json").stdout)["report"] == str(page)
    assert page.read_text().startswith("of the test set")
    page.unlink()  # killed before it was written
    assert stcanet("train", "--resume", run).returncode == 0
    assert "Hardest mistakes" in page.read_text(encoding="utf-8")


def test_resume_of_what_is_no_run(stcanet, tmp_path: Path) -> None:
    assert_one_line_error(stcanet("train", "--resume", tmp_path / "nowhere"), "must be the folder of a run")


def test_unknown_setting(stcanet, people: Path, tmp_path: Path) -> None:
    done = stcanet("train", "--out", tmp_path / "run", "--data", people, "--set", "optim.rate=3")
    assert_one_line_error(done, "optim.rate")


def test_a_gpu_without_memory_is_told_in_one_line(stcanet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB of which 1.20 GiB is free."

    def train(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError(said)

    monkeypatch.setattr("stcanet.engine.trainer.train", train)
    done = stcanet("train", "--data", "none", "--out", tmp_path / "run")
    assert_one_line_error(done, "CUDA out of memory. Tried to allocate 2.00 GiB; take smaller batches")
