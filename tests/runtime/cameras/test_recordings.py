"""Videos with tracked boxes in, identities and an annotated video out; drawn people who walk through two cameras."""

from __future__ import annotations

import json
import multiprocessing
import os
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from fractions import Fraction
from importlib.metadata import PackageNotFoundError
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from commands import call
from detectors import write_detector
from PIL import Image

from stcanet_runtime import DataError, Encoder, Gallery, MissingDependencyError
from stcanet_runtime.cameras import footage, recordings
from stcanet_runtime.cameras import video as video_module
from stcanet_runtime.cameras.footage import Appearance, follow_tracks
from stcanet_runtime.cameras.mot import Boxes, load_mot
from stcanet_runtime.cameras.video import VideoFrame, frame_rate, read_video, video_writer
from stcanet_runtime.cli import app
from stcanet_runtime.inference.track_buffer import TrackletBuffer

COLORS = {"red": (220, 30, 30), "blue": (30, 40, 220)}
FRAMES = 16


def draw_walk(folder: Path, camera: str, order: list[str], first_frame: int) -> str:
    """A video in which two people walk side by side; their track ids are their places in `order`."""
    lines = []
    with video_writer(folder / f"{camera}.mp4", Fraction(10)) as write:
        for number in range(1, FRAMES + 1):
            image = np.full((97, 131, 3), 90, np.uint8)  # odd: the video is one row and column smaller
            for place, color in enumerate(order):
                if number >= first_frame:
                    left, top = 10 + 60 * place + number, 30
                    image[top : top + 40, left : left + 20] = COLORS[color]
                    lines.append(f"{number},{place + 1},{left},{top},20,40,1,-1,-1,-1\n")
            write(image)
    (folder / f"{camera}.txt").write_text("".join(lines))
    return f"{folder / camera}.mp4={folder / camera}.txt"


@pytest.fixture
def walks(tmp_path: Path) -> list[str]:
    pytest.importorskip("av")
    return [draw_walk(tmp_path, "door", ["red", "blue"], 1), draw_walk(tmp_path, "yard", ["blue", "red"], 5)]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_process_that_has_read_a_video_can_be_forked(walks: list[str], tmp_path: Path) -> None:
    """From another thread, as in training: there the child drops what the thread that read the video still held."""
    assert sum(1 for _ in read_video(tmp_path / "door.mp4")) == FRAMES
    child = multiprocessing.get_context("fork").Process(target=bool)
    starter = threading.Thread(target=child.start)
    starter.start()
    starter.join()
    child.join(60)
    ended = child.exitcode
    child.kill()
    assert ended == 0


def test_two_people_in_two_cameras(walks: list[str], package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "who.jsonl"
    options = ["--threshold", "0.02", "--every", "4", "--video", tmp_path / "seen", "-o", out, "--json"]
    assert call("identify", package, *walks, *options) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["videos"], facts["tracks"], facts["identities"], facts["boxes"]) == (2, 4, 2, 2 * FRAMES + 2 * (FRAMES - 4))
    assert facts["out"] == str(out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    who = {(row["camera"], row["track"]): row["identity"] for row in rows}
    assert who["door", 1] == who["yard", 2] != who["door", 2] == who["yard", 1]
    assert rows[0]["box"] == [11.0, 30.0, 31.0, 70.0]
    frames = list(read_video(tmp_path / "seen" / "yard.mp4"))
    assert [frame.number for frame in frames] == list(range(1, FRAMES + 1))
    assert frames[5].time == pytest.approx(0.5)
    assert frames[5].image.shape == (96, 130, 3)
    plain = next(frame for frame in read_video(tmp_path / "yard.mp4") if frame.number == 6)
    changed = np.abs(frames[5].image.astype(int) - plain.image).max(axis=2) > 60
    assert changed[30:70, 16:36].any()  # the frame of the box
    assert frames[5].image[14:30, 16:40].min(axis=2).max() > 180  # white letters above it
    assert not changed[80:].any()


def test_what_a_tracker_and_a_gallery_may_say_is_drawn() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    xyxy = np.array([[30, 20, 25, 60], [20, 20, 1e10, 50], [9, 9, 10, 10]], np.float64)  # reversed, beyond the frame, a pixel
    recording = recordings.Recording("door", Path("door.mp4"), {1: Boxes((1, 2, 3), xyxy)})
    identities = {("door", "1"): 5, ("door", "2"): 6, ("door", "3"): 7}
    drawn = recordings._draw(image, recording, recording.boxes[1], identities, {6: "anna\n"}.get)
    assert (drawn[40, [20, 63]] == recordings._COLORS[6]).all()
    assert not (drawn == recordings._COLORS[5]).all(axis=2).any()


@pytest.mark.parametrize(("at_work", "left"), [("identify_recordings", []), ("_draw", ["who.jsonl"])])
def test_an_interrupt_leaves_no_empty_folder(
    walks: list[str], package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_work: str, left: list[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recordings, at_work, interrupt)
    options = ["--video", tmp_path / "results" / "seen", "-o", tmp_path / "results" / "who.jsonl"]
    assert call("identify", package, *walks, *options) == 130
    assert [path.name for path in tmp_path.glob("results/*")] == left
    assert (tmp_path / "results").exists() == bool(left)


def test_the_model_gets_its_threads(
    walks: list[str], package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(_: Path, provider: str, threads: int) -> None:
        raise DataError(f"{threads} on {provider}")

    monkeypatch.setattr(Encoder, "load", load)
    assert call("identify", package, *walks, "-o", tmp_path / "who.jsonl", "--provider", "cpu", "--threads", 3) == 1
    assert "3 on cpu" in capsys.readouterr().err


@pytest.mark.parametrize("rate", [Fraction(180000, 5983), Fraction(90000, 3001), Fraction(500_000), Fraction(1, 70_000)])
def test_a_video_of_any_rate_is_drawn(rate: Fraction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean rate of a phone is an odd number, and MPEG-4 has 16 bits for it."""
    av = pytest.importorskip("av")
    with video_writer(tmp_path / "phone.mp4", Fraction(10)) as write:
        write(np.zeros((64, 64, 3), np.uint8))
    stream = SimpleNamespace(average_rate=rate)
    monkeypatch.setattr(av, "open", lambda _: nullcontext(SimpleNamespace(streams=SimpleNamespace(video=[stream]))))
    nearest = frame_rate(tmp_path / "phone.mp4")
    monkeypatch.undo()
    assert nearest == pytest.approx(min(rate, 65535), rel=1e-6)
    with video_writer(tmp_path / "seen.mp4", nearest) as write:
        write(np.zeros((64, 64, 3), np.uint8))


def test_travel_times_are_kept(walks: list[str], package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--threshold", "0.02", "--travel", "door,yard=5", "-o", tmp_path / "who.jsonl"]
    assert call("identify", package, *walks, *options) == 0
    assert "4 tracks of 2 videos are 4 identities" in capsys.readouterr().out


def test_a_gallery_knows_how_alike_a_camera_makes_people(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("av")
    walk = draw_walk(tmp_path, "door", ["red"], 1)
    lines = (tmp_path / "door.txt").read_text().splitlines()
    (tmp_path / "door.txt").write_text("\n".join(lines[:8] + [line.replace(",1,", ",2,", 1) for line in lines[8:]]))
    encoder = Encoder.load(package, "cpu")
    with Gallery.create(tmp_path / "site.gallery", encoder.dim, encoder.model_sha256) as gallery:
        gallery.calibration = {"threshold": 0.02, "same_camera_margin": 0.03}
    options = ["--gallery", tmp_path / "site.gallery", "-o", tmp_path / "who.jsonl", "--every", "4"]
    for more, people in (
        ([], "2 identities"),
        (["--same-camera-margin", 0], "1 identity"),
        (["--threshold", 0.06], "1 identity"),
    ):
        assert call("identify", package, walk, *options, *more) == 0
        assert people in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["package", "clip_package"])  # a clip is filled up by the one crop
def test_one_of_everything(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("av")
    package = request.getfixturevalue(kind)
    walk = draw_walk(tmp_path, "door", ["red"], 1)
    video, boxes = walk.split("=")
    Path(boxes).write_text(Path(boxes).read_text().splitlines()[0] + "\n")
    assert call("identify", package, f"{video}={boxes}", "-o", tmp_path / "who.jsonl") == 0
    assert capsys.readouterr().out == f"1 track of 1 video is 1 identity; wrote 1 box to {tmp_path / 'who.jsonl'}\n"
    assert call("infer", package, video, "--boxes", boxes, "-o", tmp_path / "one.npz") == 0
    assert capsys.readouterr().out.startswith("1 track → ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--video", "."], "'--video': door.mp4 is an input and would be written over"),
        (["--video", "link"], "'--video': link/door.mp4 is an input"),
        (["-o", "yard.txt"], "'--out': yard.txt is an input"),
        (["-o", "package"], "'--out': package is an input"),
        (["-o", "seen/yard.mp4", "--video", "seen"], "'--video': seen/yard.mp4 would be written twice"),
    ],
)
def test_nothing_that_is_read_is_written_over(
    options: list[str],
    message: str,
    walks: list[str],
    package: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert call("identify", package, *walks, *options) == 2
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("option", "status", "message"),
    [("--video", 2, "door.mp4 would be written twice"), ("-o", 1, "videos must have different names")],
)
def test_videos_of_one_name_are_refused(
    option: str,
    status: int,
    message: str,
    walks: list[str],
    package: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    twin = walks[0].replace("door.mp4", "other/door.mov", 1)
    assert call("identify", package, walks[0], twin, option, tmp_path / "out") == status
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["dor,yard=20"], "'dor,yard=20': there is no camera 'dor'; there are 'door' or 'yard'"),
        (["door,yard,gate=5"], "must be A,B=SECONDS"),
        (["door=5"], "must be A,B=SECONDS"),
        (["door,yard"], "must be A,B=SECONDS"),
        (["door,door=5"], "needs two of them"),
        (["door,yard=5", "door,yard=7"], "'door,yard=7': the two have a time already"),
        (["door,yard=nan"], "must be a time of 0 or more, got nan"),
        (["door,yard=-5"], "must be a time of 0 or more, got -5.0"),
    ],
)
def test_travel_times_that_say_nothing_are_refused(
    times: list[str], message: str, walks: list[str], package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [part for time in times for part in ("--travel", time)]
    assert call("identify", package, *walks, "-o", tmp_path / "who.jsonl", *options) == 2
    assert "'--travel': " in (error := capsys.readouterr().err)
    assert message in error


def test_boxes_beyond_the_video(walks: list[str], package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "door.txt").open("a") as file:
        file.write("99,1,0,0,20,40\n")
    assert call("identify", package, walks[0], "-o", tmp_path / "who.jsonl") == 1
    assert "has 16 frames, its boxes go on to frame 99" in capsys.readouterr().err
    assert not (tmp_path / "who.jsonl").exists()


def test_no_video(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "no.mp4").write_bytes(b"no video" * 99)
    with pytest.raises(DataError, match="cannot be read as a video"):
        list(read_video(tmp_path / "no.mp4"))
    (tmp_path / "boxes.txt").write_text("1,1,0,0,5,5\n" * 999)
    with pytest.raises(DataError, match="a text, and not a video"):
        next(read_video(tmp_path / "boxes.txt"))
    with pytest.raises(DataError, match="no such file"):
        list(read_video(tmp_path / "none.mp4"))


@pytest.mark.parametrize(
    ("matrix", "corner", "shape"),
    [
        ((1, 0, 0, 1), (slice(20), slice(30)), (64, 96, 3)),
        ((0, 1, -1, 0), (slice(20), slice(-20, None)), (96, 64, 3)),  # a phone that is held upright
        ((-1, 0, 0, -1), (slice(-20, None), slice(-30, None)), (64, 96, 3)),
        ((0, -1, 1, 0), (slice(-20, None), slice(20)), (96, 64, 3)),
    ],
)
def test_frames_are_turned_as_their_file_says(
    matrix: tuple[int, ...], corner: tuple[slice, slice], shape: tuple[int, ...], tmp_path: Path
) -> None:
    """The matrix (a, b, c, d) of ISO 14496-12 shows the pixel (x, y) at (ax + cy, bx + dy): the first one goes to `corner`."""
    pytest.importorskip("av")
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32, :48, 0] = 255
    with video_writer(tmp_path / "phone.mp4", Fraction(10)) as write:
        write(image)
    data, header = (tmp_path / "phone.mp4").read_bytes(), 44  # bytes of a track header before its matrix

    def packed(a: int, b: int, c: int, d: int) -> bytes:
        return struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)

    place = data.index(b"tkhd") + header
    assert data[place : place + 36] == packed(1, 0, 0, 1)
    (tmp_path / "phone.mp4").write_bytes(data[:place] + packed(*matrix) + data[place + 36 :])
    (frame,) = read_video(tmp_path / "phone.mp4")
    assert frame.image.shape == shape
    assert frame.image.flags.c_contiguous
    red = frame.image[..., 0] > 128
    assert red[corner].all()
    assert red.sum() == pytest.approx(32 * 48, rel=0.02)


def test_recordings_that_were_joined_are_one_after_the_other(package: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    with video_writer(tmp_path / "one.ts", Fraction(10)) as write:
        for _ in range(5):
            write(np.full((64, 64, 3), 99, np.uint8))
    (tmp_path / "two.ts").write_bytes((tmp_path / "one.ts").read_bytes() * 2)
    times = [frame.time for frame in read_video(tmp_path / "two.ts")]
    assert times[:5] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert times[5:] == pytest.approx([times[5] + time for time in times[:5]])
    assert 0.4 < times[5] <= 0.5 + 1e-9  # one frame of the rate that FFmpeg takes it for
    (tmp_path / "two.txt").write_text("".join(f"{number},1,5,5,20,40\n" for number in range(3, 9)))
    out = tmp_path / "tracks.npz"
    assert call("infer", package, tmp_path / "two.ts", "--boxes", tmp_path / "two.txt", "-o", out, "--provider", "cpu") == 0
    with np.load(out) as found:
        assert (found["starts"].tolist(), found["ends"].tolist()) == ([times[2]], [times[7]])
    assert call("identify", package, f"{tmp_path}/two.ts={tmp_path}/two.txt", "-o", tmp_path / "who.jsonl") == 0


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([3.0, 3.5, 9.0], [0, 0.5, 6]),
        ([3.0, 3.5, 3.5, 4.0], [0, 0.5, 0.75, 1.25]),
        ([8.0, 9.0, 0.0, 1.0, 0.0, 0.5], [0, 1, 1.25, 2.25, 2.5, 3]),
        ([None, None, None], [0, 0.25, 0.5]),
        ([None, 7.0, 8.0], [0, 0.25, 1.25]),
        ([2.0, None, None, 2.25, None, 9.0], [0, 0.25, 0.5, 0.75, 1, 7.5]),
        ([2.0, None, 4.0], [0, 0.25, 2]),
        ([], []),
    ],
)
def test_time_never_stands_still(times: list[float | None], expected: list[float]) -> None:
    clock = video_module._Clock(rate=4.0)
    assert [clock.tell(time) for time in times] == expected


def test_without_pyav(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'stcanet\[video\]'"):
        list(read_video(tmp_path))

    def version(name: str) -> str:
        if name == "stcanet":
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr("importlib.metadata.version", version)
    with pytest.raises(MissingDependencyError, match=r"pip install 'stcanet-runtime\[video\]'"):
        list(read_video(tmp_path))


def test_what_is_no_file(tmp_path: Path) -> None:
    pytest.importorskip("av")
    with pytest.raises(DataError, match="none: no such file"):
        next(read_video(tmp_path / "none"))
    with pytest.raises(DataError, match="a folder, and not a video"):
        next(read_video(tmp_path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_read(tmp_path: Path) -> None:
    pytest.importorskip("av")
    with video_writer(tmp_path / "door.mkv", Fraction(10)) as write:
        for _ in range(3):
            write(np.full((64, 64, 3), 99, np.uint8))
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes((tmp_path / "door.mkv").read_bytes()))
    writer.start()
    assert [frame.number for frame in read_video(tmp_path / "pipe")] == [1, 2, 3]
    writer.join()
    (tmp_path / "boxes.txt").write_text("1,1,0,0,5,5\n")
    command = [tmp_path, f"{tmp_path / 'pipe'}={tmp_path / 'boxes.txt'}", "--video", tmp_path / "out"]
    with pytest.raises(typer.BadParameter, match="would be read twice"):
        app(args=["identify", *map(str, command)], standalone_mode=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no boxes"),
        ("1,1,0,0,5\n", "line 1: expected frame,id"),
        ("1,1,0,0,5,5\n\nx,1,0,0,5,5\n", "line 3: expected"),
        ("1,1,0,nan,5,5\n", "line 1: expected"),
        ("0,1,0,0,5,5\n", "line 1: expected"),
        ("1,1.5,0,0,5,5\n", "line 1: expected"),
        ("1,12,0,0,5,5\n2,1_2,0,0,5,5\n", "line 2: expected .* got '2,1_2,0,0,5,5'"),
        ("1,1,1_0,0,5,5\n", "line 1: expected"),
        ("1,-1,0,0,5,5\n", "has no track id"),
        ("1,2,0,0,5,5\n1,2,0,0,5,5\n", "line 2: track 2 has a box in frame 1 already"),
        (f"1,1,0,0,5,5\n1,{2**63},0,0,5,5\n", r"line 2: track ids must be below 2\*\*63, got 9223372036854775808"),
        (f"{2**63},1,0,0,5,5\n", "line 1: expected"),
        (f"1,{2**53}.0,0,0,5,5\n", "line 1: expected"),
        ("1,1e400,0,0,5,5\n", "line 1: expected"),
    ],
)
def test_damaged_boxes(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "boxes.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        load_mot(tmp_path / "boxes.txt")


def test_boxes(tmp_path: Path) -> None:
    (tmp_path / "boxes.txt").write_text("3,7,10,20,5,8,0.9,-1,-1,-1\n1,2,-4.5,0,2,2\n3,8,0,0,1,1\n")
    boxes = load_mot(tmp_path / "boxes.txt")
    assert list(boxes) == [1, 3]
    assert boxes[3].ids == (7, 8)
    np.testing.assert_array_equal(boxes[3].xyxy, [[10, 20, 15, 28], [0, 0, 1, 1]])


def test_track_ids_stay_apart_whatever_their_size(tmp_path: Path) -> None:
    ids = (2**53, 2**53 + 1, 2**63 - 1)
    text = "".join(f"1,{number},0,0,1,1\n" for number in ids) + "2.0,3.0,0,0,1,1\n"
    (tmp_path / "boxes.txt").write_text(text, encoding="utf-8-sig")  # as editors on Windows save it
    assert {frame: boxes.ids for frame, boxes in load_mot(tmp_path / "boxes.txt").items()} == {1: ids, 2: (3,)}


def test_infer_embeds_the_tracks_of_a_video(
    walks: list[str], package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, boxes = walks[1].split("=")
    out, known = tmp_path / "tracks.npz", load_mot(boxes)
    with Path(boxes).open("a") as file:  # outside of the picture: neither is seen there, and 9 nowhere
        file.write("2,1,-90,30,20,40,1,-1,-1,-1\n2,9,-90,30,20,40,1,-1,-1,-1\n")
    assert call("infer", package, video, "--boxes", boxes, "--every", 4, "-o", out, "--provider", "cpu", "--threads", 1) == 0
    assert "2 tracks → " in capsys.readouterr().out
    with np.load(out, allow_pickle=False) as found:
        assert found["tracks"].tolist() == [1, 2]
        assert found["frames"].tolist() == [FRAMES - 4] * 2
        assert found["starts"].tolist() == [0.4] * 2
        assert found["ends"].tolist() == [1.5] * 2
        rows, names = found["embeddings"], found["paths"].tolist()
    assert [Path(name).name for name in names] == ["1", "2"]
    encoder = Encoder.load(package, "cpu", 1)
    crops: dict[int, list[np.ndarray]] = {1: [], 2: []}
    for frame in read_video(video):
        for track, box in zip(known[frame.number].ids, known[frame.number].xyxy, strict=True) if frame.number in known else ():
            x1, y1, x2, y2 = box.astype(int)
            crops[track].append(frame.image[y1:y2, x1:x2])
    assert np.allclose(rows, encoder.encode_tracklets([crops[1][::4], crops[2][::4]], "rgb"), atol=1e-6)
    assert call("rank", out, out, "--top-k", 1) == 0


@pytest.mark.parametrize("kind", ["package", "clip_package"])
def test_memory_does_not_grow_with_the_tracks_of_a_video(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av")
    video, _ = draw_walk(tmp_path, "door", ["red", "blue"], 1).split("=")
    # In each frame two tracks begin that last three frames: 28 of them, six at once.
    lives = {2 * first + place: range(first, first + 3) for first in range(1, FRAMES - 1) for place in (0, 1)}
    boxes = {
        frame: Boxes(ids, np.array([[10.0 + 60 * (i % 2) + i, 30, 30 + 60 * (i % 2) + i, 70] for i in ids]))
        for frame in range(1, FRAMES + 1)
        if (ids := tuple(i for i, life in lives.items() if frame in life))
    }
    most, crops, right = 0, dict[int, list[np.ndarray]](), TrackletBuffer.add_boxes

    def add_boxes(buffer: TrackletBuffer, frame: np.ndarray, xyxy: np.ndarray, color: str, tracks: tuple[int, ...]) -> object:
        nonlocal most
        for track, (x1, y1, x2, y2) in zip(tracks, xyxy.astype(int), strict=True):
            crops.setdefault(track, []).append(frame[y1:y2, x1:x2])
        valid = right(buffer, frame, xyxy, color, tracks)
        most = max(most, len(buffer.tracks))
        return valid

    monkeypatch.setattr(TrackletBuffer, "add_boxes", add_boxes)
    encoder, seen = Encoder.load(request.getfixturevalue(kind), "cpu", 1, batch_sizes=(1, 4)), dict[int, Appearance]()
    assert list(follow_tracks(encoder, video, boxes, 1, seen)) == list(boxes)
    assert most < 6 + 4  # under way, and over
    assert list(seen) == list(lives)
    expected = encoder.encode_tracklets([crops[track] for track in seen], "rgb")
    assert np.allclose([one.embedding for one in seen.values()], expected, atol=1e-6)


def test_infer_embeds_each_box_of_a_file_or_a_detector(
    walks: list[str], package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, boxes = walks[1].split("=")
    options = ["-o", tmp_path / "boxes.npz", "--provider", "cpu", "--threads", 1]
    assert call("infer", package, video, "--boxes", boxes, "--each-box", "--every", 5, *options) == 0
    assert "6 boxes → " in capsys.readouterr().out
    with np.load(tmp_path / "boxes.npz", allow_pickle=False) as found:
        assert found["frames"].tolist() == [6, 6, 11, 11, 16, 16]
        assert found["tracks"].tolist() == [1, 2] * 3
        assert found["boxes"][0].tolist() == [16, 30, 36, 70]
    detector = write_detector(tmp_path / "d.onnx", [[8, 4, 24, 40, 0.9, 0]])
    assert call("infer", package, video, "--detector", detector, "--every", 3, "--max-frames", 7, *options) == 0
    with np.load(tmp_path / "boxes.npz", allow_pickle=False) as found:
        assert found["frames"].tolist() == [1, 4, 7]
        assert found["tracks"].tolist() == [-1] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--boxes", "b", "--detector", "d"], "one of the two is enough"),
        (["--each-box"], "needs --boxes"),
        (["--boxes", "b", "--gallery", "g", "--sheet", "s.png"], "draws image files"),
        ([], "a video or camera needs --boxes or --detector"),
    ],
)
def test_infer_says_which_options_do_not_go_together(
    options: list[str], message: str, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("infer", package, "door.mp4", *options) == 2
    assert message in capsys.readouterr().err


def test_infer_reads_no_frame_beyond_the_last(
    walks: list[str], package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: str) -> Iterator[VideoFrame]:
        yield from islice(read_video(path), 7)
        raise DataError("damaged")

    monkeypatch.setattr(footage, "read_video", read)
    detector = write_detector(tmp_path / "d.onnx", [[8, 4, 24, 40, 0.9, 0]])
    options = ["--detector", detector, "--every", 3, "-o", tmp_path / "boxes.npz"]
    video = walks[1].split("=")[0]
    assert call("infer", package, video, *options, "--max-frames", 7) == 0
    assert call("infer", package, video, *options, "--max-frames", 8) == 1


def test_infer_keeps_what_a_lost_camera_gave(
    walks: list[str], package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    av, right, readable, ends = pytest.importorskip("av"), video_module.import_av().open, 8, False

    class Camera:
        """As PyAV's container; silent after some frames."""

        def __init__(self, *_: object, **__: object) -> None:
            self.container = right(walks[1].split("=")[0])
            self.format, self.streams = self.container.format, self.container.streams

        def __enter__(self) -> Camera:
            return self

        def __exit__(self, *_: object) -> None:
            self.container.close()

        def decode(self, stream: Any) -> Iterator[Any]:
            yield from islice(self.container.decode(stream), readable)
            if not ends:
                raise av.error.ExitError(1414092869, "Immediate exit requested")

    monkeypatch.setattr(av, "open", Camera)
    out = tmp_path / "boxes.npz"
    detector = write_detector(tmp_path / "d.onnx", [[8, 4, 24, 40, 0.9, 0]])
    options = ["--detector", detector, "--every", 3, "--max-frames", 20]
    silent = "error: rtsp://box/1 cannot be read beyond frame 8: it gave nothing for 10 s; frames 1 to 7 of 20"
    assert call("infer", package, "rtsp://me:pw@box/1", *options, "-o", out) == 1
    said = capsys.readouterr()
    assert said.err == f"{silent} are in {out}\n"
    assert "3 boxes → 8 dimensions" in said.out
    with np.load(out, allow_pickle=False) as found:
        assert found["frames"].tolist() == [1, 4, 7]
    crop = tmp_path / "crop.png"
    Image.new("RGB", (20, 40), "red").save(crop)
    assert call("infer", package, "rtsp://box/1", *options, "--gallery", crop) == 1
    assert capsys.readouterr().err == f"{silent} were ranked\n"
    ends = True
    assert call("infer", package, "rtsp://box/1", *options, "-o", out) == 1
    assert capsys.readouterr().err == f"error: rtsp://box/1 ended after frame 8; frames 1 to 7 of 20 are in {out}\n"
    out.unlink()
    readable, ends = 0, False
    assert call("infer", package, "rtsp://box/1", *options, "-o", out) == 1
    assert capsys.readouterr().err == "error: rtsp://box/1 cannot be read as a video: it gave nothing for 10 s\n"
    assert not out.exists()


def test_infer_on_a_camera_needs_an_end(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("infer", package, "rtsp://box/1", "--detector", "d") == 2
    assert "'--max-frames': is needed with a URL" in capsys.readouterr().err


def test_infer_on_a_video_without_anybody(
    walks: list[str], package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, boxes = walks[1].split("=")
    assert call("infer", package, video, "--boxes", boxes, "--max-frames", 2) == 1
    assert "there are no boxes in its first 2 frames" in capsys.readouterr().err
    detector = write_detector(tmp_path / "d.onnx", [[8, 4, 24, 40, 0.1, 0]])
    assert call("infer", package, video, "--detector", detector, "--max-frames", 1) == 1
    assert "there is nobody in it" in capsys.readouterr().err
