"""Cameras that are watched without end: who is in front of them, a line for each person and frame."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.asynchronous import AsyncEncoder
from stcanet_runtime.detector import Detector
from stcanet_runtime.encoder import BoxEmbeddings, Encoder
from stcanet_runtime.errors import DataError, DroppedError, GalleryError, StcanetError
from stcanet_runtime.files import write_json
from stcanet_runtime.frames import FrameSource
from stcanet_runtime.gallery import Gallery
from stcanet_runtime.metrics import Metrics
from stcanet_runtime.video import VideoFrame, import_av, is_url, read_video, without_login

Write = Callable[[dict[str, Any]], None]
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0  # seconds until a camera that was lost is tried again
_LONGEST_LOADING = 1800.0  # seconds: engines of several models, on a small box
_LAST_WAIT = 2.0  # for a camera that may be silent: its thread ends with the process
_logger = logging.getLogger(__name__)


class _Camera:
    """One camera: a thread that reads it, and the stream that its frames go through; of frames that wait the oldest drops."""

    def __init__(self, name: str, source: str, watch: Watch) -> None:
        self.name, self.source, self._watch = name, source, watch
        observe = watch.metrics.observer(name) if watch.metrics else None
        live = is_url(source)
        self.stream = AsyncEncoder(watch.encoder, 2, "drop_oldest" if live else "block", observe)
        self.last_done: float | None = None
        """When a frame was done, or when it gave frames again after an error, if that was later."""
        self.error: str | None = None
        """Why it gives no frames; None while it does, and of a file that was read to its end."""
        self.unwritten: str | None = None
        """Why its last line was lost; None once one is written again."""
        self.lost = 0
        """Frames of which lines were lost."""
        self._live = live
        self.thread = threading.Thread(target=self._run, name=f"stcanet-{name}", daemon=True)

    def facts(self) -> dict[str, Any]:
        ended = not self._live and not self.thread.is_alive()  # a live camera without a thread is lost, and not at its end
        state = {"last_done": self.last_done, "ended": ended, "error": self.error, "unwritten": self.unwritten}
        return {**state, "lost": self.lost, **asdict(self.stream.counts)}

    def _run(self) -> None:
        wait = _FIRST_WAIT
        while not self._watch.stop.is_set():
            try:
                for frame in read_video(self.source):
                    if self.error is not None:  # before it is taken back: the camera was silent until now
                        self.last_done = time.time()
                    wait, self.error = _FIRST_WAIT, None
                    self._submit(frame)
                    if self._watch.stop.is_set():
                        return
                self.error = "it ended" if self._live else None
            except DroppedError:
                return  # the watch is over
            except DataError as error:
                self.error = str(error)
            except Exception as error:  # a bug, ours or PyAV's: with its thread the camera would be gone, and nobody would know
                self.error = without_login(f"{type(error).__name__}: {error}")
                trace = without_login(traceback.format_exc())
                _logger.error("%s: unexpected: %s", self.name, trace, extra={"event": "bug", "camera": self.name})
            if not self._live:
                level, reason = (logging.WARNING, self.error) if self.error else (logging.INFO, "it ended")
                _logger.log(level, "%s: %s", self.name, reason, extra={"event": "ended", "camera": self.name})
                return
            extra = {"event": "lost", "camera": self.name, "retry_s": wait}
            _logger.warning("%s is lost: %s", self.name, self.error, extra=extra)
            self._watch.stop.wait(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _submit(self, frame: VideoFrame) -> None:
        seen, boxes = time.time(), list[NDArray[np.float64]]()

        def find(image: FrameSource, format: str) -> NDArray[np.float64]:
            boxes.append(self._watch.detector.detect(image, format))
            return boxes[0]

        future = self.stream.submit(frame.image, find, "rgb")
        future.add_done_callback(lambda done: self._finish(done, seen, frame.number, boxes))

    def _finish(self, done: Future[BoxEmbeddings], seen: float, number: int, boxes: list[NDArray[np.float64]]) -> None:
        if done.cancelled() or done.exception() is not None:
            return  # the stream counted it, and logged what failed
        embeddings, valid = done.result()
        try:
            for place in np.flatnonzero(valid).tolist():
                line = {"time": seen, "camera": self.name, "frame": number, "box": boxes[0][place].tolist()}
                self._watch.write(line | self._watch.name(embeddings[place]))
                self.unwritten = None
        except (BrokenPipeError, GalleryError) as error:  # a file that was replaced is opened by the next process only
            self._watch.end(error)
            return
        except (StcanetError, OSError) as error:
            self.unwritten, self.lost = str(error), self.lost + 1
            _logger.warning("%s: %s", self.name, error, extra={"event": "unwritten", "camera": self.name, "frame": number})
        if self.unwritten is None:  # frames without people write nothing, and say nothing about a full disk
            self.last_done = time.time()


class Watch:
    """Runs a model and a detector on cameras until it is stopped, or all of them have ended.

    Live cameras (URLs) that fail are tried again for ever, at growing intervals, whatever failed; files end. A frame that fails
    is logged and counted, and the next one is taken. A gallery that fails ends all: nobody would be named any more.
    """

    def __init__(
        self,
        encoder: Encoder,
        detector: Detector,
        cameras: Mapping[str, str],
        write: Write,
        gallery: Gallery | None = None,
        threshold: float | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            encoder: The model.
            detector: Finds the people.
            cameras: Files or URLs by name.
            write: Given a dict of JSON values for each person and frame, by one thread at a time: time, camera, frame, box, and
                identity (None: unknown) and distance with a gallery, or else the embedding.
            gallery: People who are known.
            threshold: As of :meth:`Gallery.decide`; that of the gallery is read here, once.
            metrics: Counts and latencies go there.

        Raises:
            GalleryError: Neither `threshold` nor a calibrated one.
            MissingDependencyError: PyAV is not installed.
        """
        import_av()
        self.encoder, self.detector, self.gallery = encoder, detector, gallery
        self.threshold = threshold if gallery is None else gallery.limit(threshold)  # now, and not once for each frame
        self.metrics, self.stop = metrics, threading.Event()
        self._ended_by: BaseException | None = None
        self._write, self._writing = write, threading.Lock()
        self._cameras = [_Camera(name, source, self) for name, source in cameras.items()]

    def run(self, health: str | Path | None = None, interval: float = 5.0) -> dict[str, dict[str, Any]]:
        """Watch until `stop` is set or all cameras have ended; then finish the frames that wait.

        Args:
            health: File for what `check_health` reads, written every `interval` seconds.
            interval: Seconds.

        Returns:
            What became of each camera: its frames by outcome, ``last_done`` (when one was, or the camera came back),
            ``ended`` (files only), ``error``, why it gave no more: where a file has one it could not be read, or not to its
            end; ``unwritten``, why its last line was lost, and ``lost``, of how many frames lines were.

        Raises:
            BrokenPipeError: Nobody reads any more what is written.
            GalleryError: The gallery can be read no more, since its file was replaced or is damaged.
        """
        started = time.time()
        try:
            for camera in self._cameras:
                if self.metrics:
                    self.metrics.follow(camera.name, camera.stream)
                camera.thread.start()
            while any(camera.thread.is_alive() for camera in self._cameras) and not self.stop.wait(interval):
                self._report(health, started)
        finally:
            self.stop.set()
            for camera in self._cameras:
                camera.stream.close()
            for camera in self._cameras:
                camera.thread.join(_LAST_WAIT)
        self._report(health, started)
        if self._ended_by is not None:
            raise self._ended_by
        return {camera.name: camera.facts() for camera in self._cameras}

    def write(self, line: dict[str, Any]) -> None:
        """Write a line, one thread at a time."""
        with self._writing:
            self._write(line)

    def end(self, error: BaseException) -> None:
        """Stop; `run` raises the error."""
        self._ended_by = error
        self.stop.set()

    def name(self, embedding: NDArray[np.float32]) -> dict[str, Any]:
        """Who this is, or the embedding where there is nobody to compare it with."""
        if self.gallery is None:
            return {"embedding": embedding.tolist()}
        decision = self.gallery.decide(embedding[None], self.threshold)[0]
        return {"identity": decision.identity, "distance": decision.nearest.distance if decision.nearest else None}

    def _report(self, health: str | Path | None, started: float) -> None:
        cameras = {camera.name: camera.facts() for camera in self._cameras}
        _logger.info("watching", extra={"event": "counts", "cameras": cameras})
        _write_health(health, {"started": started, "cameras": cameras})


def append_lines(file: io.FileIO) -> Write:
    """What a `Watch` writes to: whole lines at the end of a file, opened without a buffer.

    What a full disk took of a line is cut off again: the lines after it would continue it.
    """

    def write(line: dict[str, Any]) -> None:
        end, left = os.fstat(file.fileno()).st_size, json.dumps(line).encode() + b"\n"
        try:
            while left:
                left = left[file.write(left) :]
        except OSError as error:
            with suppress(OSError):  # a pipe has no end to cut off
                file.truncate(end)
                file.seek(end)  # a shell's > does not append
            error.filename = str(file.name)
            raise

    return write


@contextmanager
def report_loading(health: str | Path | None) -> Iterator[None]:
    """Write the health file of a `Watch` that is not there yet: models may be compiled for minutes. An error takes it away.

    Once, and not again and again from a thread: older versions of ONNX Runtime let no other thread run meanwhile.
    """
    _write_health(health, {"started": time.time(), "loading": True, "cameras": {}})
    try:
        yield
    except BaseException:
        if health is not None and Path(health).is_file():  # or it would say for half an hour that models load
            with suppress(OSError):
                Path(health).unlink()
        raise


def _clock_zero() -> float:
    """When the monotonic clock, which all processes share, was 0; another time once the clock was set.

    Boxes without a battery set theirs minutes after they started, when models load or cameras are watched already.
    """
    return time.time() - time.monotonic()


def _write_health(path: str | Path | None, facts: dict[str, Any]) -> None:
    if path is None:
        return
    try:
        write_json(path, {"time": time.time(), "clock_zero": _clock_zero(), **facts})
    except OSError as error:  # a full disk is no reason to look away
        _logger.warning("%s cannot be written: %s", path, error.strerror or error, extra={"event": "health_unwritten"})


def check_health(path: str | Path, max_age: float, now: float | None = None, alive: bool = False) -> list[str]:
    """What is wrong with a `Watch`, by the file that it writes; nothing: an empty list.

    Args:
        path: The file.
        max_age: Seconds after which silence is a fault: of the watch, or of a camera that has not ended. One that has given
            nothing yet has them from the start of the watch, and one that was lost from when it came back.
        now: Seconds; None for the present.
        alive: Leave out cameras that give no frames, and those whose lines are lost: a watch that is started anew neither
            brings back one that is off, nor makes room on a full disk.
    """
    now = time.time() if now is None else now
    try:
        facts = json.loads(Path(path).read_text(encoding="utf-8"))
        started, patience = float(facts["started"]), max(max_age, _LONGEST_LOADING) if facts.get("loading") else max_age
        now += facts["clock_zero"] - _clock_zero()
        found = [_silence("the watch", float(facts["time"]), started, now, patience)]
        for name, camera in facts["cameras"].items():
            why = camera["error"] or camera["unwritten"]
            if not (alive and why):
                found.append(_fault(f"camera {name}", why, camera, started, now, max_age))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return [f"{path} cannot be read: {reason}"]
    return [fault for fault in found if fault is not None]


def _fault(who: str, why: str | None, camera: Mapping[str, Any], started: float, now: float, max_age: float) -> str | None:
    fault = _silence(who, camera["last_done"], started, now, max_age)
    if camera["ended"]:  # and is silent from then on
        fault = f"{who} failed" if why else None
    return f"{fault}: {why}" if fault and why else fault


def _silence(who: str, last: float | None, started: float, now: float, max_age: float) -> str | None:
    age = now - float(started if last is None else last)
    if -max_age <= age <= max_age:
        return None
    if age < 0:  # its clock or ours was wrong, and nothing is known
        return f"{who} reports from {-age:.0f} s in the future; look at the clock"
    return f"{who} has done nothing {'yet' if last is None else f'for {age:.0f} s'}"
