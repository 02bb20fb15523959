"""Full load for a long time: does memory stay flat, is no result lost, do the counters add up?

    python benchmarks/soak.py --minutes 60 --package package/

Frames of random sizes and formats with random boxes, some of them malformed, go through an `AsyncEncoder` that blocks, one that
drops, a `TrackletBuffer` and a `Gallery` from which entries expire. Without a package an untrained `stcanet-tiny` is exported.
Memory is that of the process (RSS), each second. Flat: the medians of the first and the last quarter of what follows the
warm-up (a quarter of the time) are within 2 %.
``--out benchmarks/results`` records it; status 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from isolated import memory as memory_of
from provenance import add_out, environment, write_result

from stcanet_runtime import AsyncEncoder, DroppedError, Encoder, Gallery, StcanetError, TrackletBuffer

FLAT, WARM_UP = 0.02, 0.25
CALLERS = 3  # two streams, and the main thread with the buffer
MALFORMED, ENTRIES, TRACKS, PENDING, BURST = 0.05, 1000, 40, 24, 3


def make_frame(rng: np.random.Generator) -> tuple[Any, str, bool]:
    """A frame, its format, and whether it is malformed."""
    height, width = (2 * int(n) for n in rng.integers(20, 360, 2))
    format = str(rng.choice(["rgb", "bgr", "nv12", "i420"]))
    shape = (height, width, 3) if format in ("rgb", "bgr") else (height * 3 // 2, width)
    frame = rng.integers(0, 256, shape, dtype=np.uint8)
    if rng.random() >= MALFORMED:
        return frame, format, False
    broken = [(frame.astype(np.float32), format), (frame[:, :1, ..., None], format), (frame, "yuv"), (frame[:0], format)]
    return *broken[rng.integers(len(broken))], True


def make_boxes(rng: np.random.Generator) -> np.ndarray:
    """From none to 24, of which some lie outside, are reversed, or hold NaN."""
    count = int(rng.integers(0, 25))
    corner = rng.uniform(-100, 700, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(-20, 300, (count, 2))], axis=1)
    boxes[rng.random(count) < 0.02] = np.nan
    return boxes


class Soak:
    def __init__(self, encoder: Encoder, gallery: Gallery) -> None:
        self.encoder, self.gallery = encoder, gallery
        self.buffer = TrackletBuffer(encoder, every=2)
        self.streams = {policy: AsyncEncoder(encoder, 4, policy) for policy in ("block", "drop_oldest")}
        self.pending: deque[tuple[str, Future[Any], int, bool]] = deque()
        self.results: dict[str, Counter[str]] = {policy: Counter() for policy in self.streams}
        self.wrong: list[str] = []
        self.enrolled = self.expired = self.searches = 0

    def step(self, rng: np.random.Generator, number: int) -> None:
        frame, format, broken = make_frame(rng)
        boxes = make_boxes(rng)
        for policy, stream in self.streams.items():
            for _ in range(1 if policy == "block" else BURST):
                self.pending.append((policy, stream.submit(frame, boxes, format), len(boxes), broken))
        try:
            self.buffer.add_boxes(frame, boxes, format, rng.integers(number, number + TRACKS, len(boxes)).tolist())
            if broken:
                self.wrong.append("the buffer took a malformed frame")
        except StcanetError:
            if not broken:
                self.wrong.append("the buffer refused a frame")
        if number % 8 == 0:
            self.buffer.embeddings()
        for track in self.buffer.tracks:
            if int(track) < number - TRACKS:
                self.buffer.forget(track)
        while len(self.pending) > PENDING:
            self.settle(number)

    def settle(self, number: int) -> None:
        """The oldest result: as many rows as boxes, or the error that belongs there."""
        policy, future, count, broken = self.pending.popleft()
        try:
            embeddings, valid = future.result(120)
        except DroppedError:
            self.results[policy]["dropped"] += 1
        except StcanetError:
            self.results[policy]["failed"] += 1
            if not broken:
                self.wrong.append("a frame failed that is not malformed")
        else:
            self.results[policy]["done"] += 1
            lengths = np.linalg.norm(embeddings, axis=1)
            if broken or len(embeddings) != count or not np.allclose(lengths, valid, atol=1e-5):
                self.wrong.append("a result is not what was asked for")
            if policy == "block" and valid.any():
                self.use(embeddings[valid], number)

    def use(self, rows: np.ndarray, number: int) -> None:
        """Enrol, find again, and let the oldest expire."""
        ids = self.gallery.enrol(rows, [f"p{i % 50}" for i in range(len(rows))], cameras="door", times=float(number))
        self.enrolled += len(ids)
        hit = self.gallery.search(rows[:1], 1)[0][0]
        self.searches += 1
        if hit.distance > 1e-6:
            self.wrong.append("an entry was not found again")
        if number % 50 == 0:
            kept = self.gallery.stats()["entries"]
            if kept > ENTRIES:
                self.expired += self.gallery.expire(float(number) - 100)

    def finish(self) -> None:
        for stream in self.streams.values():
            stream.close()
        while self.pending:
            self.settle(0)
        for policy, stream in self.streams.items():
            counts, seen = stream.counts, self.results[policy]
            if counts.submitted != sum(seen.values()) or any(
                getattr(counts, name) != seen[name] for name in ("done", "failed", "dropped")
            ):
                self.wrong.append(f"the counts of '{policy}' are {counts}, seen were {dict(seen)}")
        if self.gallery.stats()["entries"] != self.enrolled - self.expired:
            self.wrong.append("entries of the gallery are not those enrolled less those expired")


def run(encoder: Encoder, gallery: Gallery, seconds: float, seed: int) -> dict[str, Any]:
    soak, rng = Soak(encoder, gallery), np.random.default_rng(seed)
    start = last = time.monotonic()
    memory: list[int] = []
    number = 0
    while (now := time.monotonic()) < start + seconds:
        soak.step(rng, number)
        number += 1
        if now >= last + 1:
            memory.append(memory_of("VmRSS"))
            last = now
    soak.finish()
    steady = memory[int(len(memory) * WARM_UP) :]
    quarter = max(1, len(steady) // 4)
    first, end = statistics.median(steady[:quarter]), statistics.median(steady[-quarter:])
    change = end / first - 1
    if abs(change) > FLAT:
        soak.wrong.append(f"memory changed by {change:+.1%}")
    return {
        "seconds": time.monotonic() - start,
        "frames": number,
        "results": {policy: dict(seen) for policy, seen in soak.results.items()},
        "enrolled": soak.enrolled,
        "expired": soak.expired,
        "searches": soak.searches,
        "memory_bytes": {"first_quarter": first, "last_quarter": end, "largest": max(memory)},
        "memory_change": change,
        "wrong": dict(Counter(soak.wrong)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--package", type=Path)
    parser.add_argument("--provider", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    add_out(parser)
    options = parser.parse_args()
    logging.getLogger("stcanet_runtime").setLevel("ERROR")  # malformed frames are wanted here
    with tempfile.TemporaryDirectory() as scratch:
        package = options.package or Path(scratch) / "package"
        if options.package is None:
            subprocess.run(
                [sys.executable, "-m", "stcanet", "export", "--preset", "stcanet-tiny", "--out", str(package)], check=True
            )
        encoder = Encoder.load(package, options.provider)
        encoder.warm_up(CALLERS)
        with Gallery.create(Path(scratch) / "soak.gallery", encoder.dim, encoder.model_sha256 or "soak") as gallery:
            result = run(encoder, gallery, 60 * options.minutes, options.seed)
    print(result)
    write_result(options.out, "soak", {"benchmark": "soak", "environment": environment(), "result": result})
    return 1 if result["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
