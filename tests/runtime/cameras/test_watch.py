"""Cameras without end: lines, health, metrics, the options in one file, and logging."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from commands import call
from detectors import write_detector
from numpy.typing import NDArray

from stcanet_runtime import AsyncEncoder, DataError, Encoder, Gallery, GalleryError, MissingDependencyError, OptionError
from stcanet_runtime.cameras import health as health_module
from stcanet_runtime.cameras import video as video_module
from stcanet_runtime.cameras import watch as watch_module
from stcanet_runtime.cameras.detector import Detector
from stcanet_runtime.cameras.health import check_health, report_loading
from stcanet_runtime.cameras.lines import append_line, appending
from stcanet_runtime.cameras.metrics import Metrics
from stcanet_runtime.cameras.video import VideoFrame, read_video, video_writer, without_login
from stcanet_runtime.cameras.watch import Watch
from stcanet_runtime.cli import app
from stcanet_runtime.cli.config import load_config
from stcanet_runtime.inference.encoder import BoxEmbeddings
from stcanet_runtime.logs import JsonLines, log_to_stderr
from stcanet_runtime.package.contents import package_sha256

ONE = [[8, 4, 24, 40, 0.9, 0], [-9, -9, -1, -1, 0.9, 0]]  # the second lies outside
FRAMES = 4


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    return write_detector(tmp_path / "person.onnx", ONE)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    pytest.importorskip("av")
    with video_writer(tmp_path / "door.mp4", Fraction(10)) as write:
        for number in range(FRAMES):
            write(np.full((64, 64, 3), (220 - 60 * number, 60, 40 + 60 * number), np.uint8))
    return tmp_path / "door.mp4"


@pytest.fixture
def logged() -> Iterator[None]:
    """Leaves the logger as it was."""
    logger = logging.getLogger("stcanet_runtime")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def test_a_video_is_watched_to_its_end(package: Path, detector: Path, clip: Path, tmp_path: Path) -> None:
    out, health = tmp_path / "seen.jsonl", tmp_path / "health.json"
    options = ["--detector", detector, "-o", out, "--health", health, "--provider", "cpu", "--threads", 1]
    assert call("watch", package, f"door={clip}", *options) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["camera"], row["frame"], row["box"]) for row in rows] == [("door", n, [8, 4, 24, 40]) for n in (1, 2, 3, 4)]
    assert np.isclose(np.linalg.norm(rows[0]["embedding"]), 1)
    counts = json.loads(health.read_text())["cameras"]["door"]
    assert 0 <= json.loads(health.read_text())["time"] - counts["last_done"] < 60
    assert (counts["submitted"], counts["done"], counts["dropped"], counts["ended"]) == (FRAMES, FRAMES, 0, True)
    assert call("health", health) == 0


def test_people_of_a_gallery_are_named(package: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = write_detector(tmp_path / "two.onnx", [ONE[1], ONE[0], ONE[0]])
    encoder = Encoder.load(package, "cpu", 1)
    first = encoder.encode_boxes(next(read_video(clip)).image, [ONE[0][:4]], "rgb").embeddings
    assert encoder.model_sha256 is not None
    with Gallery.create(tmp_path / "g", encoder.dim, encoder.model_sha256) as gallery:
        gallery.enrol(first, "anna")
        searched, right = list[int](), gallery.decide

        def decide(queries: Any, *options: Any) -> Any:
            searched.append(len(queries))
            return right(queries, *options)

        monkeypatch.setattr(gallery, "decide", decide)
        lines: list[dict[str, Any]] = []
        Watch(encoder, Detector.load(detector, "cpu", 1), {"door": str(clip)}, lines.append, gallery, 1e-4).run(interval=0.05)
    assert [line["identity"] for line in lines] == ["anna", "anna", *[None] * 6]
    assert [line["box"] for line in lines] == [ONE[0][:4]] * 8
    assert lines[-1]["distance"] > 1e-4
    assert searched == [2] * FRAMES  # one search for all in a frame


def watch_camera(
    package: Path,
    detector: Path,
    read: Callable[[str], Iterator[VideoFrame]],
    lines: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> Watch:
    """A watch of one live camera, whose frames come from `read`; it is tried again at once."""
    monkeypatch.setattr(watch_module, "read_video", read)
    monkeypatch.setattr(watch_module, "import_av", lambda: None)
    monkeypatch.setattr(watch_module, "_FIRST_WAIT", 0.01)
    return Watch(Encoder.load(package, "cpu", 1), Detector.load(detector, "cpu", 1), {"door": "rtsp://here/1"}, lines.append)


def test_a_camera_that_is_lost_is_tried_again(package: Path, detector: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []
    back: list[float] = []

    def read(source: str) -> Iterator[VideoFrame]:
        tries.append(source)
        if len(tries) == 2:
            raise DataError("no route")
        back.append(time.time())
        yield VideoFrame(1, 0.0, np.full((64, 64, 3), 99, np.uint8))
        if len(tries) == 3:
            watch.stop.set()

    times: list[Any] = []
    watch = watch_camera(package, detector, read, [], monkeypatch)
    watch._write = lambda _: times.append(watch._cameras[0].last_done)
    counts = watch.run(interval=0.05)["door"]
    assert tries == ["rtsp://here/1"] * 3
    assert counts["submitted"] == 2 == counts["done"] == len(times)
    assert back[1] <= times[1] <= counts["last_done"]  # from its return, while its first frame is under way


def test_a_camera_that_stays_lost_is_tried_ever_less_often(
    package: Path, detector: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[str] = []

    def read(source: str) -> Iterator[VideoFrame]:
        tries.append(source)
        if len(tries) == 5:
            watch.stop.set()
        raise DataError("no route")

    watch = watch_camera(package, detector, read, [], monkeypatch)
    monkeypatch.setattr(watch_module, "_LONGEST_WAIT", 0.03)
    watch.run(interval=0.05)
    assert [vars(record)["retry_s"] for record in caplog.records if "retry_s" in vars(record)] == [0.01, 0.02, 0.03, 0.03, 0.03]


def test_a_camera_that_is_faster_than_the_model_is_shown_as_it_is_now(
    package: Path, detector: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = threading.Event()

    def read(source: str) -> Iterator[VideoFrame]:
        for number in range(1, 21):
            yield VideoFrame(number, 0.0, np.full((64, 64, 3), 99, np.uint8))
        submitted.set()
        watch.stop.wait(0.1)
        watch.stop.set()

    lines: list[dict[str, Any]] = []
    watch = watch_camera(package, detector, read, lines, monkeypatch)
    detect = watch.detector.detect

    def wait(*frame: Any) -> Any:
        assert submitted.wait(10)
        return detect(*frame)

    monkeypatch.setattr(watch.detector, "detect", wait)
    counts = watch.run(interval=0.05)["door"]
    assert counts["submitted"] == 20 == counts["done"] + counts["dropped"]
    assert counts["dropped"] >= 16
    assert lines[-1]["frame"] == 20


def test_a_bug_in_the_thread_of_a_camera_does_not_end_it(
    package: Path, detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[str] = []

    def read(source: str) -> Iterator[VideoFrame]:
        tries.append(source)
        if len(tries) == 1:
            raise ValueError("odd")
        yield VideoFrame(1, 0.0, np.full((64, 64, 3), 99, np.uint8))
        watch.stop.set()

    lines: list[dict[str, Any]] = []
    watch = watch_camera(package, detector, read, lines, monkeypatch)
    health = tmp_path / "health.json"
    counts = watch.run(health, interval=0.05)["door"]
    assert (len(tries), counts["done"]) == (2, 1)
    assert "door is lost: ValueError: odd" in caplog.text
    assert "Traceback" in caplog.text
    assert not counts["ended"]  # its thread is over; a camera never is
    now = json.loads(health.read_text())["time"]
    assert "camera door has done nothing for 99 s: it ended" in check_health(health, 60, now=counts["last_done"] + 99)
    assert check_health(health, 60, now=now) == []


def test_a_file_that_cannot_be_read_is_said_and_the_others_go_on(
    package: Path,
    detector: Path,
    clip: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    none, out, health = tmp_path / "none.mp4", tmp_path / "seen.jsonl", tmp_path / "health.json"
    options = ["--detector", detector, "-o", out, "--health", health, "--provider", "cpu", "--threads", 1]
    with caplog.at_level("WARNING", "stcanet_runtime"):
        assert call("watch", package, f"gone={none}", f"door={clip}", *options) == 1
    assert [record.getMessage() for record in caplog.records] == [f"gone: {none}: no such file"]
    assert capsys.readouterr().err == f"error: gone: {none}: no such file\n"
    assert len(out.read_text().splitlines()) == FRAMES
    assert check_health(health, 60) == [f"camera gone failed: {none}: no such file"]


def test_a_gallery_without_a_threshold_is_refused_at_the_start(
    package: Path, detector: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder, finder = Encoder.load(package, "cpu", 1), Detector.load(detector, "cpu", 1)
    assert encoder.model_sha256 is not None
    with Gallery.create(tmp_path / "g", encoder.dim, encoder.model_sha256) as gallery:
        with pytest.raises(GalleryError, match="it has no threshold"):
            Watch(encoder, finder, {"door": str(clip)}, print, gallery)
        gallery.calibration = {"threshold": 0.25}
        assert Watch(encoder, finder, {}, print, gallery).threshold == 0.25
        assert Watch(encoder, finder, {}, print, gallery, 0.5).threshold == 0.5
        gallery.calibration = None
    options = ["--detector", detector, "--provider", "cpu", "--threads", 1]
    assert call("watch", package, f"door={clip}", *options, "--gallery", tmp_path / "g") == 1
    assert "it has no threshold; give one, or run `stcanet calibrate`" in capsys.readouterr().err
    assert call("watch", package, f"door={clip}", *options, "--threshold", 0.3) == 2
    assert "'--threshold': needs --gallery" in capsys.readouterr().err
    assert call("watch", package, f"door={clip}", *options, "--metrics-address", "0.0.0.0") == 2
    assert "'--metrics-address': needs --metrics-port" in capsys.readouterr().err


def test_what_is_quickly_seen_goes_before_the_models(
    package: Path,
    detector: Path,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("prometheus_client")
    order: list[object] = []

    def load(*args: Any, **options: Any) -> Encoder:
        order.append(json.loads((tmp_path / "health.json").read_text())["loading"])
        return right(*args, **options)

    right = Encoder.load
    monkeypatch.setattr(Encoder, "load", load)
    monkeypatch.setattr(Encoder, "warm_up", lambda _, callers: order.append(f"warm for {callers}"))
    monkeypatch.setattr(Detector, "warm_up", lambda _, callers: order.append(f"detector for {callers}"))
    monkeypatch.setattr(Metrics, "serve", lambda *_: order.append("metrics"))
    cameras, health = [f"door={clip}", f"yard={clip}"], ["--health", tmp_path / "health.json"]
    options = ["--detector", detector, "--provider", "cpu", "--threads", 1, "--metrics-port", 1, *health]
    with Gallery.create(tmp_path / "other", 8, "another model"):
        pass
    assert call("watch", package, *cameras, *options, "--gallery", tmp_path / "other", "--threshold", 0.5) == 1
    assert "it holds embeddings of model another model" in capfd.readouterr().err
    assert not (tmp_path / "health.json").exists()  # which would say that models are being loaded
    with Gallery.create(tmp_path / "g", 8, package_sha256(package)):
        pass
    assert call("watch", package, *cameras, *options, "--gallery", tmp_path / "g") == 1
    assert "it has no threshold" in capfd.readouterr().err
    assert call("watch", package, *cameras, *options, "--health", tmp_path / "g" / "health.json") == 1
    assert "health.json: Not a directory" in capfd.readouterr().err
    assert order == []
    assert call("watch", package, *cameras, *options, "--gallery", tmp_path / "g", "--threshold", 0.5) == 0
    assert order == ["metrics", True, "warm for 2", "detector for 2"]


def test_a_package_that_is_replaced_while_it_is_loaded_is_compared_with_the_gallery(
    package: Path,
    detector: Path,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Gallery.create(tmp_path / "g", 8, package_sha256(package)):
        pass
    other = Encoder.load(package, "cpu")
    other.model_sha256 = "b" * 64
    monkeypatch.setattr(Encoder, "load", lambda *_, **__: other)
    options = ["--detector", detector, "--provider", "cpu", "--gallery", tmp_path / "g", "--threshold", 0.5]
    assert call("watch", package, f"door={clip}", *options) == 1
    assert "this one is bbbbbbbbbbbbbbbb" in capfd.readouterr().err


def test_a_frame_that_fails_is_counted_and_the_next_is_taken(
    package: Path,
    detector: Path,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    finder = Detector.load(detector, "cpu", 1)
    right, calls = finder.detect, [0]

    def detect(image: Any, format: str) -> NDArray[np.float64]:
        calls[0] += 1
        return right(image[..., :2] if calls[0] == 2 else image, format)

    monkeypatch.setattr(finder, "detect", detect)
    lines: list[dict[str, Any]] = []
    with caplog.at_level("WARNING", "stcanet_runtime"):
        counts = Watch(Encoder.load(package, "cpu", 1), finder, {"door": str(clip)}, lines.append).run(interval=0.05)["door"]
    assert (counts["submitted"], counts["done"], counts["failed"]) == (FRAMES, FRAMES - 1, 1)
    assert [line["frame"] for line in lines] == [1, 3, 4]
    (record,) = caplog.records
    assert record.getMessage().startswith("door: frame 2 failed: ")
    assert (vars(record)["event"], vars(record)["camera"], vars(record)["frame"]) == ("frame_failed", "door", 2)
    calls[0] = 0
    monkeypatch.setattr(Detector, "load", lambda *_, **__: finder)
    health = tmp_path / "health.json"
    assert call("watch", package, f"door={clip}", "--detector", detector, "--provider", "cpu", "--health", health) == 1
    assert capfd.readouterr().err.splitlines()[-1] == "error: door: 1 frame failed"
    assert check_health(health, 60) == ["camera door failed: 1 frame of it failed"]
    assert check_health(health, 60, alive=True) == []


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        (["door=a.mp4", "door=b.mp4"], "'door' names two cameras"),
        (["a.mp4"], "'a.mp4' must be NAME=SOURCE"),
    ],
)
def test_cameras_that_would_be_dropped_are_refused(
    cameras: list[str], message: str, package: Path, detector: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("watch", package, *cameras, "--detector", detector) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["a", "w"])  # "w" as the shell opens stdout
def test_a_full_disk_leaves_whole_lines(tmp_path: Path, mode: str) -> None:
    class Full(io.FileIO):
        room = 40

        def write(self, data: Any) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            done = super().write(data[: self.room])
            self.room -= done
            return done

    with Full(tmp_path / "out.jsonl", mode) as file:
        append_line(file, {"frame": 1})
        with pytest.raises(OSError, match=r"No space.*out\.jsonl"):
            append_line(file, {"frame": 2, "text": "x" * 99})
        file.room = 1000
        append_line(file, {"frame": 3})
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [{"frame": 1}, {"frame": 3}]


def test_lines_go_into_a_new_file_when_the_old_one_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, folder = tmp_path / "logs" / "seen.jsonl", tmp_path / "logs"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with appending(Path("seen.jsonl")) as write:
        monkeypatch.chdir(tmp_path)
        write({"frame": 1})
        out.rename(folder / "seen.jsonl.1")
        write({"frame": 2})
        write({"frame": 3})
        out.unlink()
        out.write_text('{"frame": 4}\n')
        write({"frame": 5})
        folder.rename(tmp_path / "away")
        with pytest.raises(OSError, match=r"seen\.jsonl"):
            write({"frame": 6})
        folder.mkdir()
        write({"frame": 7})
    found = {path: path.read_text() for path in (tmp_path / "away" / "seen.jsonl.1", tmp_path / "away" / "seen.jsonl", out)}
    assert list(found.values()) == ['{"frame": 1}\n', '{"frame": 4}\n{"frame": 5}\n', '{"frame": 7}\n']


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_stdout_gets_whole_lines_of_a_full_disk(package: Path, detector: Path, clip: Path, tmp_path: Path) -> None:
    watch = ["-m", "stcanet_runtime", "watch", package, f"door={clip}", "--detector", detector, "--provider", "cpu"]
    command = ["sh", "-c", 'ulimit -f 1; exec "$0" "$@" > out.jsonl', sys.executable, *watch]
    done = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 1
    lines = (tmp_path / "out.jsonl").read_text().splitlines(keepends=True)
    assert [json.loads(line)["frame"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[-1].endswith("\n")
    *_, reason, error = done.stderr.splitlines()
    assert reason.endswith("door: [Errno 27] File too large: 'stdout'")
    assert error == f"error: door: lines of {FRAMES - len(lines)} frames were lost"


def test_a_file_of_which_a_line_was_lost_is_not_whole(
    package: Path, detector: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    written: list[int] = []

    def write(_: object, line: dict[str, Any]) -> None:
        if line["frame"] == 2:
            raise OSError(errno.ENOSPC, "no room")
        written.append(line["frame"])

    monkeypatch.setattr("stcanet_runtime.cameras.lines.append_line", write)
    assert call("watch", package, f"door={clip}", "--detector", detector, "--provider", "cpu") == 1
    assert written == [1, 3, 4]
    assert capfd.readouterr().err.splitlines()[-1] == "error: door: lines of 1 frame were lost"


def test_a_frame_whose_line_is_lost_is_not_done(
    package: Path, detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish(people: int) -> list[str]:
        done, boxes = Future[BoxEmbeddings](), np.zeros((people, 4))
        done.set_result(BoxEmbeddings(np.zeros((people, 8), np.float32), np.ones(people, np.bool_)))
        camera._finish(done, 0.0, 1, [boxes])
        watch._report(path, 0.0)
        assert check_health(path, 10, now=99.0, alive=True) == []  # another process would find no more room
        return check_health(path, 10, now=99.0)

    def write(line: dict[str, Any]) -> None:
        if full:
            raise OSError(errno.ENOSPC, "no room")

    watch, path = watch_camera(package, detector, lambda _: iter(()), [], monkeypatch), tmp_path / "health.json"
    (camera,), watch._write = watch._cameras, write
    monkeypatch.setattr(time, "time", lambda: 99.0)
    full = True
    lost = ["camera door has done nothing yet: [Errno 28] no room"]
    assert [finish(1), finish(0)] == [lost, lost]  # nobody in a frame says nothing about the disk
    full = False
    assert [finish(0), finish(1), finish(0)] == [lost, [], []]
    camera.stream.close()


def test_health(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "health.json"
    monkeypatch.setattr(health_module, "_clock_zero", lambda: 0.0)
    assert check_health(path, 10) == [f"{path} cannot be read: No such file or directory"]
    cameras = {
        "door": {"last_done": 95.0, "ended": False, "error": None, "unwritten": None, "failed": 1},
        "yard": {"last_done": None, "ended": False, "error": None, "unwritten": None, "failed": 0},
        "file": {"last_done": 1.0, "ended": True, "error": None, "unwritten": None, "failed": 0},
    }
    monkeypatch.setattr(health_module, "_BOOT", tmp_path / "boot_id")
    facts = {"time": 99.0, "clock_zero": 0.0, "boot": None, "started": 92.0, "cameras": cameras}
    path.write_text(json.dumps(facts))
    assert check_health(path, 10, now=100) == []  # the yard has its time from the start
    assert check_health(path, 10, now=103) == ["camera yard has done nothing yet"]
    assert check_health(path, 10, now=106.5) == ["camera door has done nothing for 12 s", "camera yard has done nothing yet"]
    assert len(check_health(path, 10, now=106.5, alive=True)) == 2  # their frames come, and nothing becomes of them
    for camera in ("door", "yard"):
        cameras[camera]["error"] = "it is off"
    path.write_text(json.dumps(facts))
    assert check_health(path, 10, now=106.5, alive=True) == []
    assert check_health(path, 10, now=103) == ["camera yard has done nothing yet: it is off"]
    assert check_health(path, 10, now=200)[0] == "the watch has done nothing for 101 s"
    assert check_health(path, 10, now=200, alive=True) == ["the watch has done nothing for 101 s"]
    assert check_health(path, 10, now=60, alive=True) == ["the watch reports from 39 s in the future; look at the clock"]
    (tmp_path / "boot_id").write_text("another\n")
    assert check_health(path, 10, now=100, alive=True) == []  # one of the two may not see it
    facts["boot"] = "that of before"
    path.write_text(json.dumps(facts))
    assert check_health(path, 10, now=100, alive=True) == ["the watch is over: the machine has started anew since"]
    facts["boot"] = "another"
    path.write_text(json.dumps(facts))
    assert check_health(path, 10, now=100, alive=True) == []
    for damaged in ("", "[]", "[" * 5000, json.dumps({**facts, "time": "now"}), json.dumps({**facts, "cameras": []})):
        path.write_text(damaged)
        assert "cannot be read" in check_health(path, 10)[0]
    path.write_text("{}")
    assert check_health(path, 10) == [f"{path} cannot be read: it has no field 'started'"]
    assert call("health", path) == 1
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("jump", [0, 86400, -86400])
def test_a_watch_is_alive_while_its_models_load(
    jump: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, right = tmp_path / "health.json", time.time
    with report_loading(path):
        started = json.loads(path.read_text())["time"] + jump
        monkeypatch.setattr(time, "time", lambda: right() + jump)  # the clock is set
        assert call("health", path, "--alive", "--max-age", 60) == 0
        assert check_health(path, 60, now=started + 1700) == []
        assert check_health(path, 60, now=started + 1801, alive=True) == ["the watch has done nothing for 1801 s"]
    assert capsys.readouterr().out == "healthy\n"


@pytest.mark.parametrize("jump", [86400, -86400])
def test_a_watch_is_alive_when_the_clock_is_set(
    jump: int, package: Path, detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, path, right = (
        watch_camera(package, detector, lambda _: iter(()), [], monkeypatch),
        tmp_path / "health.json",
        time.time,
    )
    watch._report(path, time.time())
    monkeypatch.setattr(time, "time", lambda: right() + jump)
    assert check_health(path, 60) == []
    watch._cameras[0].stream.close()


def test_a_health_file_that_cannot_be_written_is_said_and_the_watch_goes_on(
    package: Path, detector: Path, clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder, finder, lines = Encoder.load(package, "cpu", 1), Detector.load(detector, "cpu", 1), list[dict[str, Any]]()
    Watch(encoder, finder, {"door": str(clip)}, lines.append).run(tmp_path, interval=0.01)  # a folder
    assert len(lines) == FRAMES
    assert f"{tmp_path} cannot be written: " in caplog.text


def test_a_watch_ends_when_nobody_reads_it(package: Path, detector: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(source: str) -> Iterator[VideoFrame]:
        for number in range(1, 50):
            yield VideoFrame(number, 0.0, np.full((64, 64, 3), 99, np.uint8))
            watch.stop.wait(0.05)
        watch.stop.set()

    def write(line: dict[str, Any]) -> None:
        raise BrokenPipeError

    watch = watch_camera(package, detector, read, [], monkeypatch)
    watch._write = write
    with pytest.raises(BrokenPipeError):
        watch.run(interval=60)


def test_a_watch_ends_when_its_gallery_is_replaced(package: Path, detector: Path, clip: Path, tmp_path: Path) -> None:
    encoder, finder, lines = Encoder.load(package, "cpu", 1), Detector.load(detector, "cpu", 1), list[dict[str, Any]]()

    def write(line: dict[str, Any]) -> None:
        lines.append(line)
        (tmp_path / "other").replace(tmp_path / "g")

    for name in ("g", "other"):
        Gallery.create(tmp_path / name, encoder.dim, encoder.model_sha256).close()
    with Gallery.open(tmp_path / "g", read_only=True) as gallery:
        watch = Watch(encoder, finder, {"door": str(clip)}, write, gallery, 0.5)
        with pytest.raises(GalleryError, match="not the file any more that was opened"):
            watch.run(interval=0.05)
    assert len(lines) == 1


def test_options_of_commands_come_from_a_file(
    package: Path, detector: Path, clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "box.toml"
    config.write_text(f"""
        [watch]
        package = "{package}"
        cameras = ["door={clip}"]
        detector = "{detector}"
        provider = "cpu"
        threads = 1
        min-score = 0.95
        [health]
        max-age = 0.0
        [gallery.create]
        float16 = true
    """)
    assert call("--config", config, "watch") == 0
    assert capfd.readouterr().out == ""  # nobody scores so high
    assert call("--config", config, "watch", "--min-score", "0.9") == 0
    assert len(capfd.readouterr().out.splitlines()) == FRAMES
    assert call("--config", config, "gallery", "create", tmp_path / "g", package) == 0
    with Gallery.open(tmp_path / "g") as gallery:
        assert gallery.space.dtype == "float16"


def test_the_file_that_is_deployed_is_valid() -> None:
    deployed = Path(__file__).parents[3] / "runtime/deploy/box.toml"
    defaults, log = load_config(deployed, typer.main.get_command(app))
    assert set(defaults) == {"watch", "health"}
    assert log == {"level": "info", "json": True}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[watch", "cannot read the configuration"),
        ("[wach]", "[wach]: there is no such command; there are 'bench', "),
        ("[watch]\nthread = 1", "[watch] has no option 'thread'; there are 'cache', "),
        ("[watch]\ncameras = 'a=b'", "[watch] takes a list for 'cameras', got 'a=b'"),
        ("[gallery.search]\ncamera = 'a'", "[gallery.search] takes a list for 'camera', got 'a'"),
        ("[gallery.search]\ncamera = ['a', ['b']]", "[gallery.search] takes text or numbers for 'camera', got ['a', ['b']]"),
        ("[gallery.enrol]\nidentity = ['anna']", "[gallery.enrol] takes one value for 'identity', got ['anna']"),
        ("[gallery.enrol]\nidentity = {a = 1}", "[gallery.enrol] takes text or numbers for 'identity', got {'a': 1}"),
        ("[gallery.enrol]\nidentity = true", "[gallery.enrol] takes text or numbers for 'identity', got True"),
        ("[gallery.create]\nfloat16 = [true]", "[gallery.create] takes one value for 'float16', got [True]"),
        ("watch = 3", "[watch] must be a table of options"),
        ("[gallery.serch]", "[gallery.serch]: there is no such command"),
        ("[log]\nlevel = 3", "[log] may have level (text) and json"),
        ("[watch]\npackage = 'p'\ncameras = ['a=b']\ndetector = 'd'\nthreads = 'many'", "error: Invalid value for '--threads'"),
        ("[log]\nlevel = 'loud'", "level must be 'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_a_file_with_a_mistake_says_which(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str], logged: None
) -> None:
    (tmp_path / "box.toml").write_text(text)
    assert call("--config", tmp_path / "box.toml", "watch") in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_log_lines_are_json(logged: None, capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("info", as_json=True)
    logger = logging.getLogger("stcanet_runtime.test")
    logger.debug("no")
    logger.warning("%s is lost", "door", extra={"camera": "door", "path": Path("x")})
    (line,) = capsys.readouterr().err.splitlines()
    facts = json.loads(line)
    assert facts.pop("time").endswith("+00:00")
    assert facts == {
        "level": "warning", "logger": "stcanet_runtime.test", "message": "door is lost", "camera": "door", "path": "x"
    }  # fmt: skip
    try:
        raise ValueError("odd")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "", 0, "m", None, sys.exc_info())
    assert "ValueError: odd" in json.loads(JsonLines().format(record))["traceback"]
    with pytest.raises(OptionError, match="level must be"):
        log_to_stderr("loud")


def test_metrics_count_what_the_stream_counts(package: Path, make_crop: Callable[..., NDArray[np.uint8]]) -> None:
    pytest.importorskip("prometheus_client")
    metrics, frame = Metrics(), make_crop(0, 60, 50)
    with AsyncEncoder(Encoder.load(package, "cpu", 1), observe=metrics.observer("door")) as stream:
        metrics.follow("door", stream)
        stream.submit(frame, [[0, 0, 20, 40]], "rgb").result(60)
        assert stream.submit(frame, [1, 2], "rgb").exception(60) is not None
    lines = set(metrics.text().splitlines())
    assert {
        'stcanet_frames_submitted_total{camera="door"} 2.0',
        'stcanet_frames_total{camera="door",outcome="done"} 1.0',
        'stcanet_frames_total{camera="door",outcome="failed"} 1.0',
        'stcanet_frames_total{camera="door",outcome="dropped"} 0.0',
        'stcanet_seconds_count{camera="door",stage="frame"} 1.0',
        'stcanet_seconds_count{camera="door",stage="cut"} 1.0',
    } <= lines


def test_an_address_that_cannot_be_had_is_named() -> None:
    pytest.importorskip("prometheus_client")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="use") as caught:
            Metrics().serve(port)
    assert caught.value.filename == f"127.0.0.1:{port}"


def test_metrics_and_videos_say_what_they_miss(package: Path, detector: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingDependencyError, match=r"prometheus-client.*\[metrics\]"):
        Metrics()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match="PyAV"):
        Watch(Encoder.load(package, "cpu", 1), Detector.load(detector, "cpu", 1), {}, print)


def test_a_url_is_given_to_ffmpeg_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av")
    opened: list[Any] = []

    def refuse(place: str, **options: Any) -> None:
        opened.append((place, options))
        raise av.error.FFmpegError(1, "refused")

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(DataError, match="rtsp://box/1 cannot be read"):
        next(video_module.read_video("rtsp://box/1"))
    assert opened == [("rtsp://box/1", {"timeout": 10.0})]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://user:pw@10.0.0.7:554/main", "rtsp://10.0.0.7:554/main"),
        ("rtsp://user@box/1", "rtsp://box/1"),
        ("rtsp:/user:pw@box/1", "rtsp:/box/1"),  # as Path writes it
        ("rtsp://user:p@w@box/1", "rtsp://box/1"),
        ("rtsp://user:p#w/?@box/1", "rtsp://box/1"),
        ("rtsp://user:p w@box/1", "rtsp://box/1"),
        ("rtsp://box:554/a@b", "rtsp://box:554/a@b"),
        ("rtsp://box/a@b", "rtsp://box/a@b"),
        ("rtsp://[fe80::1]:554/a@b", "rtsp://[fe80::1]:554/a@b"),
        ("http://box/mjpg?user=me&pwd=s3cret&ch=1", "http://box/mjpg?user=me&pwd=…&ch=1"),
        ("http://box/?Password=a'b failed", "http://box/?Password=…'b failed"),
        ("http://me:pw@box/?api_token=s3cret#t", "http://box/?api_token=…#t"),
        ("http://box/?channel=1&stream=0", "http://box/?channel=1&stream=0"),
        ("/videos/me@home.mp4", "/videos/me@home.mp4"),
        ("C:/videos/me@home.mp4", "C:/videos/me@home.mp4"),
    ],
)
def test_a_url_is_shown_without_its_login(url: str, shown: str) -> None:
    assert without_login(url) == shown


def test_passwords_of_cameras_are_in_no_message_and_no_file(
    package: Path,
    detector: Path,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    av = pytest.importorskip("av")
    url, refused = "rtsp://user:secret@box/1", "rtsp://user:se#cret@box/2"
    right = av.open

    def connect(place: str, **options: Any) -> Any:
        if place == url:
            return right(str(clip))
        raise av.error.FFmpegError(22, "Invalid argument", place)

    monkeypatch.setattr(av, "open", connect)
    options = ["--detector", detector, "--provider", "cpu", "--threads", 1]
    with pytest.raises(DataError, match=r"rtsp://box/2 cannot be read as a video: .*'rtsp://box/2'"):
        next(read_video(refused))
    assert call("infer", package, url, *options, "-o", tmp_path / "p.npz", "--max-frames", 2, "--json") == 0
    with np.load(tmp_path / "p.npz") as found:
        assert found["paths"].tolist() == ["rtsp:/box/1/1-1", "rtsp:/box/1/2-1"]
    assert call("infer", package, refused, *options, "--max-frames", 2) == 1
    assert call("infer", package, refused, *options) == 2
    assert call("infer", package, refused) == 2
    assert call("watch", package, refused, *options) == 2
    assert call("watch", package, f"{url}?a=b", *options) == 2
    assert call("identify", package, url) == 2
    monkeypatch.setattr(watch_module, "_FIRST_WAIT", 0.01)

    def write(line: dict[str, Any]) -> None:
        if line["frame"] == FRAMES:
            watch.stop.set()
        lines.append(line)

    lines: list[dict[str, Any]] = []
    cameras = {"door": url, "yard": refused}
    watch = Watch(Encoder.load(package, "cpu", 1), Detector.load(detector, "cpu", 1), cameras, write)
    counts = watch.run(tmp_path / "health.json", interval=0.05)
    assert "yard is lost: rtsp://box/2 cannot be read" in caplog.text
    said = "".join(capsys.readouterr()) + caplog.text + str(lines) + str(counts) + (tmp_path / "health.json").read_text()
    assert "cret" not in said
    assert "user" not in said
