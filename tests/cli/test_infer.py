"""`stcanet-runtime infer` as a user runs it: in a process, with its exit status and its two streams."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from commands import call
from PIL import Image

import stcanet_runtime
from stcanet_runtime import Encoder

SOURCES = Path(stcanet_runtime.__file__).parents[1]
"""The tree under test, also where it is not installed."""
Run = Callable[..., subprocess.CompletedProcess[str]]


def load_helpers() -> ModuleType:
    """The runtime tests' conftest: its package is the one to test with, and fixtures do not reach over here."""
    path = Path(__file__).parents[1] / "runtime" / "conftest.py"
    spec = importlib.util.spec_from_file_location("runtime_conftest", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = load_helpers().write_package(tmp_path_factory.mktemp("infer") / "package")
    return folder


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Three people on two cameras; the two crops of one person are nearly the same."""
    folder = tmp_path / "crops"
    folder.mkdir()
    for pid in (1, 2, 3):
        person = np.random.default_rng(pid).integers(0, 250, (40, 20, 3), dtype=np.uint8)
        for camera in (1, 2):
            Image.fromarray(person + np.uint8(camera)).save(folder / f"{pid:04d}_c{camera}s1_000000_00.png")
    return folder


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in this process, which is faster; the first test starts a real one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        return subprocess.CompletedProcess(["infer"], call("infer", *arguments), *capsys.readouterr())

    return run


def fails(done: subprocess.CompletedProcess[str], message: str, status: int = 1) -> None:
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert message in done.stderr


def test_a_real_process_without_warnings(package: Path, crops: Path, tmp_path: Path) -> None:
    def start(*arguments: object) -> subprocess.CompletedProcess[str]:
        code = "from stcanet_runtime.cli import main; main()"
        command = [sys.executable, "-W", "error", "-c", code, "infer", str(package), *map(str, arguments)]
        environment = os.environ | {"COLUMNS": "200", "PYTHONPATH": str(SOURCES), "PYTHONIOENCODING": "ascii"}
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)

    (crops / "0003_c2s1_000000_00.png").rename(crops / os.fsdecode(b"0003_c2s1_\xff.png"))  # a name that is not UTF-8
    done = start(crops, "--gallery", crops, "-o", "out.npz")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Market protocol: mAP 100.00" in done.stdout
    fails(start(tmp_path / "none"), "no such file or folder")
    fails(start(crops, "--top-k", "-1"), "--top-k", status=2)


def test_embeds_a_folder(run: Run, package: Path, crops: Path, tmp_path: Path) -> None:
    done = run(package, crops, "--provider", "cpu")
    assert done.returncode == 0, done.stderr
    assert "6 images → 8 dimensions with test on cpu" in done.stdout
    assert "\n1 image → 8 dimensions" in "\n" + run(package, next(crops.iterdir()), "-o", "one.npz").stdout
    assert "wrote embeddings.npz" in done.stdout
    with np.load(tmp_path / "embeddings.npz", allow_pickle=False) as file:
        assert set(file) == {"embeddings", "paths", "pids", "camids", "model"}
        assert file["embeddings"].shape == (6, 8)
        assert file["embeddings"].dtype == np.float32
        assert file["pids"].tolist() == [1, 1, 2, 2, 3, 3]
        assert file["camids"].tolist() == [0, 1, 0, 1, 0, 1]
        assert [Path(path).name for path in file["paths"]] == sorted(path.name for path in crops.iterdir())


def test_files_that_are_no_images_here_are_counted(run: Run, package: Path, crops: Path) -> None:
    for name in ("a.gif", "b.AVIF", ".hidden.gif"):
        (crops / name).touch()
    done = run(package, crops, "--json")
    assert json.loads(done.stdout)["images"] == 6
    assert done.stderr == f"note: {crops}: 2 files were not looked at, of kinds that are no images here: .avif, .gif\n"


def test_embeds_several_files_and_folders_in_their_order(run: Run, package: Path, crops: Path, tmp_path: Path) -> None:
    """As a shell makes them of *.png."""
    first, second = sorted(crops.iterdir())[:2]
    assert "8 images" in run(package, second, first, crops).stdout
    with np.load(tmp_path / "embeddings.npz") as file:
        assert file["paths"].tolist() == [str(path) for path in (second, first, *sorted(crops.iterdir()))]
        assert file["embeddings"][0].tolist() == file["embeddings"][3].tolist()
    fails(run(package, first, crops / "none.png"), "none.png: no such file")
    fails(run(package, "a.mp4", "b.mp4", "--boxes", "a.txt"), "one video or camera at a time", status=2)


@pytest.mark.parametrize("clip_length", [None, 4])
def test_embeds_folders_of_frames_as_tracklets(run: Run, crops: Path, tmp_path: Path, clip_length: int | None) -> None:
    package = load_helpers().write_package(tmp_path / "package", clip_length)
    frames = sorted(crops.iterdir())
    tracks = {"0002_c1": frames[:5], "0001_c2/deeper": frames[3:], "0001_c2": frames[2:3]}
    for name, chosen in tracks.items():
        (tmp_path / "tracks" / name).mkdir(parents=True, exist_ok=True)
        for frame in chosen:
            shutil.copy(frame, tmp_path / "tracks" / name)
    done = run(package, "tracks", frames[0], "--tracklets", "--provider", "cpu")
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 tracklets → 8 dimensions" in done.stdout
    encoder = Encoder.load(package, "cpu")
    with np.load(tmp_path / "embeddings.npz", allow_pickle=False) as file:
        assert file["paths"].tolist() == ["tracks/0001_c2", "tracks/0001_c2/deeper", "tracks/0002_c1", str(frames[0])]
        expected = encoder.encode_tracklets([frames[2:3], frames[3:], frames[:5], frames[:1]])
        np.testing.assert_allclose(file["embeddings"], expected, atol=1e-6)
    ranked = run(package, "tracks/0002_c1", "--gallery", "tracks", "--tracklets", "--json")
    assert {match["path"] for match in json.loads(ranked.stdout)["ranking"][0]["matches"]} <= {
        f"tracks/{name}" for name in tracks
    }
    note = (
        "note: the model takes clips of 4 frames, and each image is one that repeats it; --tracklets embeds folders of frames\n"
    )
    assert run(package, "tracks").stderr == ("" if clip_length is None else note)
    fails(run(package, "none", "--tracklets"), "none: no such file or folder")
    fails(run(package, "tracks", "--tracklets", "--skip-bad"), "'--skip-bad': leaves out images", status=2)
    fails(run(package, "a.mp4", "--tracklets", "--boxes", "b"), "'--tracklets': are folders of frames", status=2)
    fails(run(package, "tracks", "--tracklets", "--gallery", "tracks", "--sheet", "s.png"), "draws image files", status=2)


def test_names_that_tell_nothing_give_no_ids(run: Run, package: Path, crops: Path, tmp_path: Path) -> None:
    (crops / "0001_c1s1_000000_00.png").rename(crops / "somebody.png")
    assert run(package, crops, "-o", "out.npz").returncode == 0
    with np.load(tmp_path / "out.npz", allow_pickle=False) as file:
        assert set(file) == {"embeddings", "paths", "model"}


def test_ranks_a_gallery(run: Run, package: Path, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stcanet_runtime.cli.progress.LINE_SECONDS", 0)
    done = run(package, crops, "--gallery", crops, "--top-k", 2, "--sheet", "ranks.png")
    assert done.returncode == 0, done.stderr
    assert "Market protocol: mAP 100.00, rank-1 100.00" in done.stdout
    assert "\nranking: " in done.stderr
    assert done.stdout.count("✓") == done.stdout.count("✗") == 5  # the table shows five queries
    assert "… and 1 more query (--json" in done.stdout
    assert not (tmp_path / "embeddings.npz").exists()
    with Image.open(tmp_path / "ranks.png") as sheet:
        assert sheet.format == "PNG"


def test_json(run: Run, package: Path, crops: Path) -> None:
    done = run(package, crops, "--gallery", crops, "--json", "--top-k", 100)
    facts = json.loads(done.stdout)
    assert facts["images"] == facts["gallery"] == 6
    assert facts["out"] is None
    assert json.loads(run(package, crops, "--json").stdout)["out"] == "embeddings.npz"
    assert facts["evaluation"]["mAP"] == 1
    assert facts["evaluation"]["protocol"]["metric"] == "cosine"
    for entry in facts["ranking"]:
        query, matches = Path(entry["query"]), entry["matches"]
        assert [match["rank"] for match in matches] == [1, 2, 3, 4, 5]
        assert matches[0]["correct"]
        assert Path(matches[0]["path"]).name[:4] == query.name[:4]
        assert entry["query"] not in [match["path"] for match in matches]


def test_same_camera_shows_the_own_camera_but_never_the_file_itself(run: Run, package: Path, crops: Path) -> None:
    shutil.copy(crops / "0001_c1s1_000000_00.png", crops / "0001_c1s1_000001_00.png")
    query = crops / "0001_c1s1_000000_00.png"
    for options, count in (((), 5), (("--same-camera",), 6)):
        facts = json.loads(run(package, query, "--gallery", crops, "--json", *options).stdout)
        assert len(facts["ranking"][0]["matches"]) == count
        assert str(query) not in [match["path"] for match in facts["ranking"][0]["matches"]]
    assert "would find themselves" in facts["evaluation_note"]


def test_unknown_names_rank_without_verdict_and_without_the_file_itself(run: Run, package: Path, crops: Path) -> None:
    for index, path in enumerate(sorted(crops.iterdir())):
        path.rename(crops / f"{index}.png")
    done = run(package, crops / "0.png", "--gallery", crops, "--json")
    facts = json.loads(done.stdout)
    assert facts["evaluation"] is None
    matches = facts["ranking"][0]["matches"]
    assert Path(matches[0]["path"]).name == "1.png"
    assert len(matches) == 5
    assert {match["correct"] for match in matches} == {None}


def test_a_gallery_of_the_own_camera_only_is_said(run: Run, package: Path, crops: Path) -> None:
    query = crops / "0001_c1s1_000000_00.png"
    done = run(package, query, "--gallery", query)
    assert done.returncode == 0, done.stderr
    assert "nothing left: the gallery is all of the same identity on the same camera" in done.stdout
    assert "no evaluation: none of 1 query has a true match" in done.stdout
    assert "Data of one camera is judged without camera ids: with --same-camera\n" in done.stdout


def test_a_bad_image_is_an_error_or_listed(run: Run, package: Path, crops: Path, tmp_path: Path) -> None:
    bad = crops / "0002_c1s1_000000_00.png"
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    fails(run(package, crops), "0002_c1s1_000000_00.png")
    assert not (tmp_path / "embeddings.npz").exists()
    done = run(package, crops, "--skip-bad")
    assert done.returncode == 0, done.stderr
    assert f"skipped {bad}" in done.stdout.replace("\n", "")
    with np.load(tmp_path / "embeddings.npz") as file:
        assert file["pids"].tolist() == [1, 1, 2, 3, 3]
    assert [entry["path"] for entry in json.loads(run(package, crops, "--skip-bad", "--json").stdout)["skipped"]] == [str(bad)]
    fails(run(package, bad, "--skip-bad"), "none of 1 image can be read")


def test_names_are_printed_as_they_are(run: Run, package: Path, crops: Path) -> None:
    shutil.copy(crops / "0002_c1s1_000000_00.png", crops / ":cat:.png")  # that is an emoji to rich
    (crops / "x:cat:.png").write_bytes(b"")
    done = run(package, crops, "--gallery", crops, "--skip-bad", "-o", ":dog:.npz")
    for text in (f"skipped {crops}/x:cat:.png: ", "no evaluation: :cat:.png does not", "wrote :dog:.npz"):
        assert text in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top-k", "-1"], "--top-k"),
        (["--top-k", "0"], "--top-k"),
        (["--top-k", "x"], "--top-k"),
        (["--provider", "gpu"], "'gpu' is not known; take 'auto', 'cpu', 'openvino', 'openvino-bf16', 'cuda' or 'tensorrt'"),
        (["--threads", "0"], "--threads"),
        (["--batch-size", "0"], "--batch-size"),
        (["--sheet", "ranks.png"], "needs --gallery"),
        (["--colour"], "--colour"),
    ],
)
def test_wrong_options(run: Run, package: Path, crops: Path, options: list[str], message: str) -> None:
    fails(run(package, crops, *options), message, status=2)


def test_embeddings_bear_their_own_name(run: Run, package: Path, crops: Path, tmp_path: Path) -> None:
    fails(run(package, crops, "-o", tmp_path / "q.csv"), "must be a name that ends with .npz")
    (tmp_path / "a.npz").mkdir()
    fails(run(package, crops, "-o", tmp_path / "a.npz"), "Is a directory")
    fails(run(tmp_path / "no package", crops, "-o", tmp_path / "a.npz"), "Is a directory")  # before anything is opened


def test_missing_argument(run: Run, package: Path) -> None:
    fails(run(package), "Missing argument", status=2)


def test_bad_input(run: Run, package: Path, crops: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("not an image")
    fails(run(package, tmp_path / "empty"), "no images found")
    fails(run(package, tmp_path / "none"), "no such file or folder")
    fails(run(package, tmp_path / "text.jpg"), "text.jpg: not an image of a known format")
    fails(run(package, crops, "--gallery", tmp_path / "empty", "-o", "crops.npz"), "no images found")
    fails(run(package, crops, "--gallery", tmp_path / "gone", "-o", "crops.npz"), "gone: no such file or folder")
    assert not (tmp_path / "crops.npz").exists()  # said before the work
    fails(run(tmp_path / "none", crops), "no such file or folder")
    fails(run(tmp_path / "text.jpg", crops), "text.jpg is not an ONNX model")
    fails(run(crops, crops), "no manifest.json")
    fails(run(package, crops, "-o", tmp_path / "empty"), "empty")


def test_an_altered_package(run: Run, crops: Path, tmp_path: Path) -> None:
    package = load_helpers().write_package(tmp_path / "package")
    with (package / "model.onnx").open("ab") as file:
        file.write(b"\0")
    fails(run(package, crops), "was altered")


def test_a_provider_that_cannot_run(run: Run, package: Path, crops: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA can run here")
    fails(run(package, crops, "--provider", "cuda"), "provider 'cuda' cannot run")
