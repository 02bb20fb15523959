"""Kills a process with SIGKILL at random moments while it enrols, forgets and expires, and looks what the gallery holds.

    python benchmarks/kill_gallery.py --kills 100

Every time the gallery must open, pass its check, and hold all that was acknowledged, and of the call that was killed all or
nothing. Before every other kill it is opened again and again while it is written, which must succeed, too. Status 1 where it
does not. ``--out benchmarks/results`` records it.
"""

from __future__ import annotations

import argparse
import itertools
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from provenance import add_out, environment, write_result

from stcanet_runtime import Gallery

DIM, MODEL = 256, "kill"
SMALL, LARGE = 16, 2000  # entries of a call
PERIOD = 6  # calls of which one is large: its log, which is emptied then, makes the file longer
GENERATION = 10  # kills of one gallery: a new one is small, and grows again


def rows(call: int) -> NDArray[np.float32]:
    """What a call enrols [N, D], as the identity and at the time of its number."""
    count = SMALL if call % PERIOD else LARGE
    return np.random.default_rng(call).standard_normal((count, DIM)).astype(np.float32)


def deletions(call: int, held: list[int]) -> Iterator[tuple[str, list[int]]]:
    """What is deleted after a call, by which way: those calls."""
    if call % PERIOD == 0:
        yield "expire", held[:2]
    elif call % PERIOD == 3:
        yield "forget", [random.Random(call).choice(held)]


def write(path: Path, first: int) -> None:
    """Enrol and delete for ever; a line before each call says what it does, one after it that it returned."""
    with Gallery.open(path) as gallery:
        held = sorted(map(int, gallery.stats()["identities"]))
        print("ready", flush=True)
        for call in itertools.count(first):
            x = rows(call)
            print("enrol", call, flush=True)
            gallery.enrol(x, str(call), times=call)
            print("done", flush=True)
            held.append(call)
            for way, gone in deletions(call, held):
                print(way, *gone, flush=True)
                if way == "forget":
                    gallery.forget(str(gone[0]))
                else:
                    gallery.expire(before=gone[-1] + 1)
                print("done", flush=True)
                held = [other for other in held if other not in gone]


@dataclass
class Expected:
    """What a gallery must hold by what its writers said."""

    held: set[int] = field(default_factory=set)
    """Calls whose entries were acknowledged."""
    pending: set[int] = field(default_factory=set)
    """Calls whose entries are there or not, all or none: the last line was not answered."""
    enrolled: bool = False
    """Whether that line enrolled them."""
    entries: int = 0
    """Acknowledged in all."""

    def follow(self, lines: list[str]) -> None:
        """Take what a writer said until it was killed."""
        for said, answer in itertools.zip_longest(lines[::2], lines[1::2]):
            way, *calls = said.split()
            calls = {int(call) for call in calls}
            if answer is None:
                self.pending, self.enrolled = calls, way == "enrol"
                self.held -= calls
            elif way == "enrol":
                self.held |= calls
                self.entries += sum(map(len, map(rows, calls)))
            else:
                self.held -= calls

    def compare(self, gallery: Gallery) -> bool:
        """Look into it; whether the call that was killed is done. AssertionError where something is wrong."""
        gallery.store.check()
        found, _ = gallery.rows()
        names = {int(name) for name in found.identities}
        assert self.held <= names <= self.held | self.pending, (self.held, self.pending, names)
        assert not self.pending & names or self.pending <= names, (self.pending, names)
        for call in names:
            assert np.array_equal(found.embeddings[found.identities == str(call)], rows(call)), call
        done = bool(self.pending) and bool(self.pending & names) == self.enrolled
        self.held, self.pending = names, set()
        return done


def write_and_kill(path: Path, first: int, seconds: float, opens: bool) -> tuple[list[str], int]:
    """What the writer said, and how often the gallery was opened meanwhile."""
    command = [sys.executable, __file__, "--write", str(path), str(first)]
    opened = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            end = time.monotonic() + seconds
            while opens and time.monotonic() < end:
                Gallery.open(path, read_only=True).close()
                opened += 1
            time.sleep(max(0.0, end - time.monotonic()))
        finally:
            process.kill()
        text = process.stdout.read()
    return text[: text.rfind("\n") + 1].splitlines(), opened


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    add_out(parser)
    options = parser.parse_args()
    if options.write:
        write(Path(options.write[0]), int(options.write[1]))
    moments = random.Random(options.seed)
    entries = unacknowledged = opened = 0
    with tempfile.TemporaryDirectory() as folder:
        for kill in range(options.kills):
            if kill % GENERATION == 0:
                path, expected, call = Path(folder) / f"{kill}.gallery", Expected(), 0
                Gallery.create(path, DIM, MODEL).close()
            lines, times = write_and_kill(path, call, moments.uniform(0.0, 1.0), opens=kill % 2 == 1)
            before = expected.entries
            expected.follow(lines)
            call += sum(line.startswith("enrol") for line in lines)
            with Gallery.open(path, read_only=kill % 3 == 2) as gallery:
                unacknowledged += expected.compare(gallery)
            entries, opened = entries + expected.entries - before, opened + times
            print(f"kill {kill + 1}: {len(expected.held)} calls in the gallery, the last line: {lines[-1:]}", flush=True)
    report = {
        "benchmark": "gallery_kills",
        "environment": environment(),
        "kills": options.kills,
        "calls": "enrolment, forgetting and expiry",
        "entries": entries,
        "opened_meanwhile": opened,
        "calls_kept_though_not_acknowledged": unacknowledged,
        "lost": 0,
    }
    write_result(options.out, "gallery_kills", report)


if __name__ == "__main__":
    main()
