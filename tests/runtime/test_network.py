"""No network, ever: a process in which every socket is an error does all that the runtime can do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import stcanet_runtime

CODE = """
import sys

def refuse(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "ftplib.", "smtplib.")):
        raise PermissionError(f"the runtime touched the network: {event} {arguments}")

sys.addaudithook(refuse)
if "--try" in sys.argv:
    import socket
    socket.create_connection(("127.0.0.1", 9))

import numpy as np
import stcanet_runtime
from stcanet_runtime import AsyncEncoder, Encoder, TrackletBuffer, search
from stcanet_runtime.cli import app

for name in stcanet_runtime.__all__:
    getattr(stcanet_runtime, name)
package, crops = sys.argv[1:3]
encoder = Encoder.load(package, threads=1, warm_up=True)
frame = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
rows, _ = encoder.encode_boxes(frame, [[0, 0, 30, 50]], "bgr")
with AsyncEncoder(encoder) as stream:
    stream.submit(frame, [[0, 0, 30, 50]], "bgr").result(60)
buffer = TrackletBuffer(encoder)
buffer.add_boxes(frame, [[0, 0, 30, 50]], "bgr", tracks=[1])
buffer.embeddings()
search(rows, rows, k=1)
infer, bench = ["infer", package, crops, "--gallery", crops], ["bench", package, "--provider", "cpu", "--seconds", "0"]
for command in (["info"], infer, bench):
    app(args=command, standalone_mode=False)
print("done")
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(stcanet_runtime.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CODE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def test_nothing_opens_a_socket(package: Path, crops: Path) -> None:
    done = run(os.fspath(package), os.fspath(crops))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("done\n")


def test_the_guard_guards() -> None:
    done = run("--try")
    assert done.returncode == 1
    assert "the runtime touched the network: socket." in done.stderr
