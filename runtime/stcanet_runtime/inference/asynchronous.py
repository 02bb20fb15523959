"""Frames in, futures out: one thread cuts the boxes of the next frame while another runs the model on those of the last."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Generic, Literal, TypeVar, get_args

from numpy.typing import ArrayLike

from stcanet_runtime.errors import DroppedError, OptionError, quote_choices
from stcanet_runtime.images.boxes import BoxCrops
from stcanet_runtime.images.frames import FrameSource
from stcanet_runtime.inference.encoder import BoxEmbeddings, Encoder

WhenFull = Literal["block", "drop_oldest"]
WHEN_FULL: tuple[WhenFull, ...] = get_args(WhenFull)

Item = TypeVar("Item")
FindBoxes = Callable[[FrameSource, str], ArrayLike]
Observe = Callable[[str, float], None]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Counts:
    """What became of the frames. ``submitted`` is the sum of the others and of those still under way."""

    submitted: int = 0
    done: int = 0
    dropped: int = 0
    failed: int = 0
    cancelled: int = 0


@dataclass
class _Job:
    prepare: Callable[[], BoxCrops]
    future: Future[BoxEmbeddings] = field(default_factory=Future)
    submitted: float = field(default_factory=time.perf_counter)


class _Queue(Generic[Item]):
    """A bounded queue that can be closed: then nothing goes in, and what is in it comes out."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[Item] = deque()
        self._capacity, self.closed, self._changed = capacity, False, threading.Condition()

    def put(self, item: Item, drop_oldest: bool = False, wait: bool = True) -> Item | None:
        """Wait for room, or take it from the oldest, which is returned.

        `item` itself comes back where the queue is closed, or is full and nobody may `wait`.
        """
        with self._changed:
            if wait and not drop_oldest:
                self._changed.wait_for(lambda: self.closed or len(self._items) < self._capacity)
            if self.closed or (len(self._items) == self._capacity and not drop_oldest):
                return item
            oldest = self._items.popleft() if len(self._items) == self._capacity else None
            self._items.append(item)
            self._changed.notify_all()
            return oldest

    def get(self) -> Item | None:
        """Wait for the next; None once the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._items)
            item = self._items.popleft() if self._items else None
            self._changed.notify_all()
            return item

    def close(self, drop: bool = False) -> list[Item]:
        """Let nothing more in; with `drop` also throw out what is in it."""
        with self._changed:
            self.closed = True
            dropped = list(self._items) if drop else []
            if drop:
                self._items.clear()
            self._changed.notify_all()
            return dropped


class AsyncEncoder:
    """`Encoder.encode_boxes` for a stream of frames.

    At most `capacity` frames wait, one is cut, one waits for the model and one is in it: memory is bounded by that. Results
    come in the order of the frames.

    Example:
        >>> with AsyncEncoder(encoder, capacity=2, when_full="drop_oldest") as stream:  # doctest: +SKIP
        ...     future = stream.submit(frame, xyxy, "nv12")
        ...     embeddings, valid = future.result()
    """

    def __init__(
        self, encoder: Encoder, capacity: int = 4, when_full: WhenFull = "block", observe: Observe | None = None
    ) -> None:
        """Start the two threads.

        Args:
            encoder: Runs the model; others may use it at the same time.
            capacity: Frames that may wait, at least 1.
            when_full: What `submit` does when so many wait: "block" until one is taken, for files; "drop_oldest" for cameras,
                whose old frames are worth least: the future of that frame raises DroppedError, and it is counted.
            observe: Told how many seconds a frame took, by stage: "cut", "embed", and "frame", from `submit` to its result. The
                threads of the stream call it; it must not raise.

        Raises:
            OptionError: An option is out of range.
        """
        if capacity < 1:
            raise OptionError("capacity", capacity, "at least 1")
        if when_full not in WHEN_FULL:
            raise OptionError("when_full", when_full, quote_choices(WHEN_FULL))
        self._encoder, self._drop_oldest, self._capacity = encoder, when_full == "drop_oldest", capacity
        self._observe: Observe = observe or (lambda *_: None)
        self._waiting: _Queue[_Job] = _Queue(capacity)
        self._cut: _Queue[tuple[_Job, BoxCrops]] = _Queue(1)
        self._counts, self._lock = Counts(), threading.Lock()
        self._threads = [
            threading.Thread(target=work, name=f"stcanet-{name}", daemon=True)
            for name, work in (("cut", self._cut_all), ("embed", self._embed_all))
        ]
        for thread in self._threads:
            thread.start()
        atexit.register(self._leave)

    def submit(self, frame: FrameSource, xyxy: ArrayLike | FindBoxes, format: str) -> Future[BoxEmbeddings]:
        """Put a frame in the queue; arguments as of :meth:`Encoder.encode_boxes`, whose errors the future raises.

        In the place of boxes may be what finds them, such as :meth:`Detector.detect`: it is called with frame and format before
        the frame is cut, and not for frames that are dropped.

        The frame is not copied: it must not change until the future is done.

        Raises:
            DroppedError: The encoder is closed, or in a child that was forked, where its threads are not; or a callback of a
                future submits while the queue is full and "block" was chosen: it would wait for the thread that it runs in.
        """
        if not self._threads[0].is_alive():
            raise DroppedError("the encoder is closed, or was opened before this process was forked; open a new one")
        job = _Job(lambda: self._encoder.crop_boxes(frame, xyxy(frame, format) if callable(xyxy) else xyxy, format))
        self._count("submitted")
        own = threading.current_thread() in self._threads
        dropped = self._waiting.put(job, self._drop_oldest, wait=not own)
        if dropped is job:
            self._count("submitted", -1)
            if own and not self._waiting.closed:
                raise DroppedError("the queue is full, and a callback cannot wait for room; submit from a thread of your own")
            raise DroppedError("the encoder is closed; open a new one")
        if dropped is not None:
            self._drop(dropped, f"{self._capacity} newer frames were waiting; the model is slower than the camera")
        return job.future

    @property
    def counts(self) -> Counts:
        """What became of the frames so far."""
        with self._lock:
            return self._counts

    def close(self, finish: bool = True) -> None:
        """Stop. Calling it again does nothing.

        It returns when that is done; called back by a future it cannot wait for itself, and returns at once.

        Args:
            finish: Whether the waiting frames are still embedded; else they are dropped.
        """
        for job in self._waiting.close(drop=not finish):
            self._drop(job, "the encoder was closed before its turn came")
        if threading.current_thread() in self._threads:
            return
        for thread in self._threads:
            thread.join()
        atexit.unregister(self._leave)

    def __enter__(self) -> AsyncEncoder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(finish=kind is None)

    def _leave(self) -> None:
        """A thread that is still in C++ when the interpreter goes away takes the process down, and its exit status with it."""
        self.close(finish=False)

    def _cut_all(self) -> None:
        while (job := self._waiting.get()) is not None:
            if not job.future.set_running_or_notify_cancel():
                self._count("cancelled")
                continue
            start = time.perf_counter()
            try:
                crops = job.prepare()
            except Exception as error:  # the future's to raise; the thread must live on
                self._fail(job, error)
            else:
                self._observe("cut", time.perf_counter() - start)
                self._cut.put((job, crops))
        self._cut.close()

    def _embed_all(self) -> None:
        while (ready := self._cut.get()) is not None:
            job, crops = ready
            start = time.perf_counter()
            try:
                result = self._encoder.embed_boxes(crops)
            except Exception as error:  # as above
                self._fail(job, error)
            else:
                end = time.perf_counter()
                self._observe("embed", end - start)
                self._observe("frame", end - job.submitted)
                self._count("done")
                job.future.set_result(result)

    def _fail(self, job: _Job, error: Exception) -> None:
        self._count("failed")
        job.future.set_exception(error)

    def _drop(self, job: _Job, why: str) -> None:
        if job.future.set_running_or_notify_cancel():
            self._count("dropped")
            _logger.debug("a frame was dropped: %s", why, extra={"event": "frame_dropped"})
            job.future.set_exception(DroppedError(f"the frame was dropped: {why}"))
        else:
            self._count("cancelled")

    def _count(self, name: str, by: int = 1) -> None:
        with self._lock:
            self._counts = replace(self._counts, **{name: getattr(self._counts, name) + by})
