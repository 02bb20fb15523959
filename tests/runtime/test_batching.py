"""Any number of crops becomes runs of a few sizes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from stcanet_runtime import Encoder, OptionError
from stcanet_runtime.batching import DEFAULT_SIZES, check_sizes, cut


@given(st.integers(0, 90), st.sets(st.integers(1, 40), min_size=1, max_size=4))
def test_all_rows_once_in_order_and_only_those_sizes(count: int, sizes: set[int]) -> None:
    batch = np.arange(count, dtype=np.uint8)[:, None]
    runs = list(cut(batch, check_sizes(list(sizes))))
    assert all(len(rows) in sizes for rows, _ in runs)
    assert_array_equal(np.concatenate([rows[:n] for rows, n in runs] or [batch]), batch)


def test_default_sizes_fill_nothing_up() -> None:
    assert [n for _, n in cut(np.zeros((95, 1), np.uint8), DEFAULT_SIZES)] == [32, 32, 16, 8, 4, 2, 1]
    assert [n for _, n in cut(np.zeros((64, 1), np.uint8), DEFAULT_SIZES)] == [32, 32]


@pytest.mark.parametrize("sizes", [[], [0, 4], [-1]])
def test_sizes_below_one(sizes: list[int]) -> None:
    with pytest.raises(OptionError, match="batch_sizes must be at least one number"):
        check_sizes(sizes)


@pytest.fixture
def sizes_seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch sizes that reach a session."""
    seen: list[int] = []
    run = Encoder.embed_batch

    def spy(self: Encoder, batch: NDArray[np.uint8]) -> object:
        seen.append(len(batch))
        return run(self, batch)

    monkeypatch.setattr(Encoder, "embed_batch", spy)
    return seen


def test_no_other_size_reaches_the_model_and_all_are_warmed_up(package: Path, sizes_seen: list[int]) -> None:
    encoder = Encoder.load(package, "cpu", threads=1, batch_sizes=(8, 3), warm_up=True)
    assert sizes_seen == [8, 3]
    frame = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for count in (1, 2, 3, 4, 10, 12, 23):
        crops = [frame[i : i + 20, i : i + 10] for i in range(count)]
        boxes = [(i, i, i + 10, i + 20) for i in range(count)]
        alone = np.stack(
            [encoder.embed_batch(encoder.crop_boxes(frame, [box], "rgb").crops.repeat(3, 0))[0][0] for box in boxes]
        )
        sizes_seen.clear()
        assert_allclose(encoder.encode(crops, "rgb"), alone, atol=1e-6)
        assert_allclose(encoder.encode_boxes(frame, boxes, "rgb").embeddings, alone, atol=1e-6)
        encoder.encode_tracklets([crops], "rgb")
        assert set(sizes_seen) <= {3, 8}


def test_of_the_runs_for_boxes_only_the_last_is_filled_up(package: Path, sizes_seen: list[int]) -> None:
    encoder = Encoder.load(package, "cpu", threads=1, batch_sizes=(40,))
    frame = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    assert encoder.encode_boxes(frame, [(i, i, i + 10, i + 20) for i in range(70)], "rgb").valid.all()
    assert sizes_seen == [40, 40]


def test_threads_are_warmed_up_together(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, together, seen = Encoder.load(package, "cpu", threads=1, batch_sizes=(8, 3)), threading.Barrier(3, timeout=20), []

    def meet(batch: NDArray[np.uint8]) -> None:
        seen.append(len(batch))
        together.wait()  # breaks where one comes alone

    monkeypatch.setattr(encoder, "embed_batch", meet)
    encoder.warm_up(callers=3)
    assert seen == [8, 8, 8, 3, 3, 3]
    with pytest.raises(OptionError, match="callers must be at least 1, got 0"):
        encoder.warm_up(callers=0)


NO_THIRD_THREAD = """
import threading
from stcanet_runtime.batching import run_together

start, started = threading.Thread.start, []

def refuse_the_third(thread):
    started.append(thread)
    if len(started) == 3:
        raise RuntimeError("can't start new thread")
    start(thread)

threading.Thread.start = refuse_the_third
run_together([lambda: None], 4)
"""


def test_a_thread_that_cannot_be_started_is_not_waited_for() -> None:
    done = subprocess.run([sys.executable, "-c", NO_THIRD_THREAD], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.splitlines()[-1] == "RuntimeError: can't start new thread"


def test_clips_are_warmed_up_too(clip_package: Path, sizes_seen: list[int]) -> None:
    encoder = Encoder.load(clip_package, "cpu", threads=1, batch_sizes=(2,), warm_up=True)
    embeddings, norms = encoder.embed(np.random.default_rng(0).integers(0, 256, (3, 4, 32, 16, 3), dtype=np.uint8))
    assert sizes_seen == [2, 2, 2]
    assert len(embeddings) == 3
    assert norms is not None
    assert norms.shape == (3,)
