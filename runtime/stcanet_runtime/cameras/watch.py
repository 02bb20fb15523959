"""Cameras that are watched without end: who is in front of them, a line for each person and frame."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.cameras.detector import Detector
from stcanet_runtime.cameras.health import write_health
from stcanet_runtime.cameras.lines import Write
from stcanet_runtime.cameras.metrics import Metrics
from stcanet_runtime.cameras.video import VideoFrame, import_av, is_url, read_video, without_login
from stcanet_runtime.errors import DataError, DroppedError, GalleryError, StcanetError
from stcanet_runtime.gallery import Gallery
from stcanet_runtime.images.frames import FrameSource
from stcanet_runtime.inference.asynchronous import AsyncEncoder
from stcanet_runtime.inference.encoder import BoxEmbeddings, Encoder

_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0  # seconds until a camera that was lost is tried again
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
        if done.cancelled():
            return
        if (failure := done.exception()) is not None:  # the stream counted it
            if not isinstance(failure, DroppedError):
                extra = {"event": "frame_failed", "camera": self.name, "frame": number}
                _logger.warning("%s: frame %d failed: %s", self.name, number, failure, extra=extra)
            return
        embeddings, valid = done.result()
        try:
            for box, who in zip(boxes[0][valid].tolist(), self._watch.name(embeddings[valid]), strict=True):
                self._watch.write({"time": seen, "camera": self.name, "frame": number, "box": box, **who})
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
            health: File for what `health.check_health` reads, written every `interval` seconds.
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

    def name(self, embeddings: NDArray[np.float32]) -> list[dict[str, Any]]:
        """Who these [N, D] are, or the embeddings where there is nobody to compare them with."""
        if self.gallery is None:
            return [{"embedding": embedding} for embedding in embeddings.tolist()]
        found = self.gallery.decide(embeddings, self.threshold) if len(embeddings) else []
        return [{"identity": one.identity, "distance": one.nearest.distance if one.nearest else None} for one in found]

    def _report(self, health: str | Path | None, started: float) -> None:
        cameras = {camera.name: camera.facts() for camera in self._cameras}
        _logger.info("watching", extra={"event": "counts", "cameras": cameras})
        write_health(health, {"started": started, "cameras": cameras})
