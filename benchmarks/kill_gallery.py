"""Kills a process with SIGKILL at random moments while it enrols, and looks what the gallery holds.

    python benchmarks/kill_gallery.py --kills 100

Every time the gallery must open, pass its check, and hold all that was acknowledged, and of the call that was killed all or
nothing. Status 1 where it does not. ``--out benchmarks/results`` records it.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from provenance import add_out, environment, write_result

from stcanet_runtime import Gallery

DIM, MODEL = 256, "kill"
BATCH = 16
WRITER = """
import sys, numpy as np
from stcanet_runtime import Gallery
gallery = Gallery.open(sys.argv[1])
step = gallery.stats()["entries"] // {batch}
print(0, flush=True)
while True:
    x = np.random.default_rng(step).standard_normal(({batch}, {dim})).astype(np.float32)
    gallery.enrol(x, f"p{{step % 7}}")
    step += 1
    print({batch} * step, flush=True)
    if step % 40 == 39:
        gallery.rename([step], "other")
"""


def enrol_and_kill(path: Path, seconds: float) -> int:
    """The last count that the writer acknowledged, 0 for none."""
    command = [sys.executable, "-c", WRITER.format(batch=BATCH, dim=DIM), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        lines = process.stdout.read().splitlines()
    return int(lines[-1]) if lines else 0


def look(path: Path, acknowledged: int) -> int:
    """How many entries there are; AssertionError where that is wrong."""
    with Gallery.open(path) as gallery:
        gallery.store.check()
        rows, _ = gallery.rows()
    count = len(rows.ids)
    assert acknowledged <= count <= acknowledged + BATCH, (acknowledged, count)
    assert count % BATCH == 0, count
    for step in range(max(0, acknowledged // BATCH - 30), count // BATCH):
        x = np.random.default_rng(step).standard_normal((BATCH, DIM)).astype(np.float32)
        assert (rows.embeddings[step * BATCH : (step + 1) * BATCH] == x).all(), step
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    add_out(parser)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    acknowledged = unacknowledged = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "killed.gallery"
        Gallery.create(path, DIM, MODEL).close()
        for kill in range(options.kills):
            before = acknowledged
            acknowledged = max(before, enrol_and_kill(path, moments.uniform(0.0, 0.5)))
            count = look(path, acknowledged)
            unacknowledged += count > acknowledged
            acknowledged = count
            print(f"kill {kill + 1}: {count} entries", flush=True)
    report = {
        "benchmark": "gallery_kills",
        "environment": environment(),
        "kills": options.kills,
        "entries": acknowledged,
        "calls_kept_though_not_acknowledged": unacknowledged,
        "lost": 0,
    }
    write_result(options.out, "gallery_kills", report)


if __name__ == "__main__":
    main()
