"""Streams of frames: results, order, bounds, and counts that add up, whatever comes in."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from stcanet_runtime import AsyncEncoder, DroppedError, Encoder, OptionError, ShapeError
from stcanet_runtime.inference.asynchronous import Counts

MakeCrop = Callable[..., NDArray[np.uint8]]
BOXES = [[0, 0, 20, 40], [90, 0, 99, 9], [10, 5, 35, 50]]
WAIT = 20


@pytest.fixture
def encoder(package: Path) -> Encoder:
    return Encoder.load(package, "cpu", threads=1)


class Gate:
    """Holds the model back until it is opened."""

    def __init__(self, encoder: Encoder, patch: pytest.MonkeyPatch) -> None:
        self.entered, self._open, self._run = threading.Semaphore(0), threading.Event(), encoder.embed_boxes
        patch.setattr(encoder, "embed_boxes", self._wait)

    def _wait(self, *args: Any) -> Any:
        self.entered.release()
        assert self._open.wait(WAIT)
        return self._run(*args)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(encoder, monkeypatch)
    yield gate
    gate.open()


def test_results_of_encode_boxes_in_order(encoder: Encoder, make_crop: MakeCrop) -> None:
    frames = [make_crop(seed, 60, 50) for seed in range(12)]
    order: list[int] = []
    with AsyncEncoder(encoder, capacity=2) as stream:
        futures = [stream.submit(frame, BOXES, "bgr") for frame in frames]
        for number, future in enumerate(futures):
            future.add_done_callback(lambda _, number=number: order.append(number))
        for frame, future in zip(frames, futures, strict=True):
            embeddings, valid = future.result(WAIT)
            assert valid.tolist() == [True, False, True]
            assert_allclose(embeddings, encoder.encode_boxes(frame, BOXES, "bgr").embeddings, atol=1e-6)
    assert order == sorted(order)
    assert stream.counts == Counts(submitted=12, done=12)


def test_malformed_frames_fail_alone(encoder: Encoder, make_crop: MakeCrop) -> None:
    frame = make_crop(0, 60, 50)
    with AsyncEncoder(encoder) as stream:
        bad = stream.submit(frame[:, :, 0], BOXES, "rgb")
        good = stream.submit(frame, BOXES, "rgb")
        assert isinstance(bad.exception(WAIT), ShapeError)
        assert good.result(WAIT).valid.any()
    assert stream.counts == Counts(submitted=2, done=1, failed=1)


def test_a_full_queue_drops_the_oldest_and_counts(encoder: Encoder, gate: Gate, make_crop: MakeCrop) -> None:
    frame = make_crop(0, 60, 50)
    with AsyncEncoder(encoder, capacity=2, when_full="drop_oldest") as stream:
        futures = [stream.submit(frame, BOXES, "rgb")]
        assert gate.entered.acquire(timeout=WAIT)
        futures += [stream.submit(frame, BOXES, "rgb") for _ in range(10)]
        gate.open()
        outcome = [type(future.exception(WAIT)) for future in futures]
    dropped = outcome.count(DroppedError)
    assert dropped >= 6  # of 11: one in the model, one waits for it, one is cut, two wait
    assert outcome[0] is outcome[-1] is outcome[-2] is type(None)
    assert stream.counts == Counts(submitted=11, done=11 - dropped, dropped=dropped)
    assert "newer frames were waiting" in str(futures[outcome.index(DroppedError)].exception())


def test_a_full_queue_blocks(encoder: Encoder, gate: Gate, make_crop: MakeCrop) -> None:
    frame, submitted = make_crop(0, 60, 50), []
    with AsyncEncoder(encoder, capacity=1) as stream:
        camera = threading.Thread(target=lambda: submitted.extend(stream.submit(frame, BOXES, "rgb") for _ in range(9)))
        camera.start()
        assert gate.entered.acquire(timeout=WAIT)
        camera.join(0.3)
        assert camera.is_alive()
        assert len(submitted) <= 5
        gate.open()
        camera.join(WAIT)
        assert all(future.result(WAIT).valid.any() for future in submitted)
    assert stream.counts == Counts(submitted=9, done=9)


def test_closing_drops_what_waits_and_refuses_more(encoder: Encoder, gate: Gate, make_crop: MakeCrop) -> None:
    frame = make_crop(0, 60, 50)
    stream = AsyncEncoder(encoder, capacity=8)
    futures = [stream.submit(frame, BOXES, "rgb") for _ in range(8)]
    assert gate.entered.acquire(timeout=WAIT)
    futures[-1].cancel()
    threading.Timer(0.1, gate.open).start()
    stream.close(finish=False)
    stream.close()
    counts = stream.counts
    assert all(future.done() for future in futures)
    assert counts.dropped > 0
    assert counts.cancelled == 1
    assert counts.submitted == 8 == counts.done + counts.dropped + counts.cancelled
    with pytest.raises(DroppedError, match="the encoder is closed"):
        stream.submit(frame, BOXES, "rgb")
    assert stream.counts == counts


@pytest.mark.parametrize("finish", [True, False])
@pytest.mark.parametrize("boxes", [BOXES, [1, 2]], ids=["embedded", "failed"])  # each is another thread
def test_a_callback_may_close(
    encoder: Encoder, make_crop: MakeCrop, caplog: pytest.LogCaptureFixture, boxes: Any, finish: bool
) -> None:
    frame, stream, ready = make_crop(0, 60, 50), AsyncEncoder(encoder, capacity=8), threading.Event()

    def find(*_: Any) -> Any:
        assert ready.wait(WAIT)
        return boxes

    futures = [stream.submit(frame, find, "rgb"), *(stream.submit(frame, BOXES, "rgb") for _ in range(6))]
    futures[0].add_done_callback(lambda _: stream.close(finish))
    ready.set()
    for future in futures:
        future.exception(WAIT)
    stream.close()
    assert "exception calling callback" not in caplog.text
    assert sum([stream.counts.done, stream.counts.dropped, stream.counts.failed]) == 7


@pytest.mark.parametrize("boxes", [BOXES, [1, 2]], ids=["embedded", "failed"])  # each is another thread
def test_a_callback_that_would_wait_for_itself_is_refused(encoder: Encoder, make_crop: MakeCrop, boxes: Any) -> None:
    frame, ready, refused = make_crop(0, 60, 50), threading.Event(), Future[None]()

    def find(*_: Any) -> Any:
        assert ready.wait(WAIT)
        return boxes

    def submit_more(_: Any) -> None:
        try:
            for _ in range(9):
                stream.submit(frame, BOXES, "rgb")
        except DroppedError as error:
            refused.set_exception(error)

    with AsyncEncoder(encoder, capacity=1) as stream:
        stream.submit(frame, find, "rgb").add_done_callback(submit_more)
        ready.set()
        with pytest.raises(DroppedError, match="the queue is full, and a callback cannot wait"):
            refused.result(WAIT)
    counts = stream.counts
    assert counts.submitted == counts.done + counts.failed < 9


LEFT_OPEN = """
import sys, time
import numpy as np
from stcanet_runtime import AsyncEncoder, Encoder

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(1)  # the end of an interpreter may take long

slow, stream = Slow(), AsyncEncoder(Encoder.load(sys.argv[1], "cpu"))
futures = [stream.submit(np.full((8, 8, 3), 99, np.uint8), [[0, 0, 8, 8]] * 5000, "rgb") for _ in range(4)]
futures[0].result()
raise SystemExit(3)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_does_not_wait_for_threads_that_it_has_not(encoder: Encoder, make_crop: MakeCrop) -> None:
    with AsyncEncoder(encoder) as stream:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: threads do not come along
            child = os.fork()
        if child == 0:
            status = 1
            try:
                stream.submit(make_crop(0), BOXES, "rgb")
            except DroppedError:
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_program_may_end_without_closing(package: Path) -> None:
    """A thread that is in C++ when the interpreter goes away would take the process down with it."""
    ended = subprocess.run([sys.executable, "-c", LEFT_OPEN, str(package)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (3, "")


def test_options(encoder: Encoder) -> None:
    with pytest.raises(OptionError, match="capacity must be at least 1"):
        AsyncEncoder(encoder, capacity=0)
    with pytest.raises(OptionError, match="when_full must be 'block' or 'drop_oldest'"):
        AsyncEncoder(encoder, when_full="explode")  # type: ignore[arg-type]
