"""No network, ever: a process in which every socket is an error does all that the runtime can do.

Python's sockets are watched by an audit hook. Libraries have sockets of their own (ONNX Runtime reports to its makers unless it
is told not to), so on Linux the kernel is told to end a process that asks for one of the internet.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from detectors import write_detector

import stcanet_runtime
from stcanet_runtime.cameras.video import video_writer

CODE = """
import sys

def refuse(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "ftplib.", "smtplib.")):
        raise PermissionError(f"the runtime touched the network: {event} {arguments}")

# A filter of system calls: socket() of AF_INET or AF_INET6 kills the process. False where there are no such filters.
def forbid_native():
    import ctypes
    import platform
    number = {"x86_64": 41, "aarch64": 198}.get(platform.machine())
    if number is None or sys.platform != "linux":
        return False
    class Step(ctypes.Structure):
        _fields_ = [("code", ctypes.c_uint16), ("then", ctypes.c_uint8), ("other", ctypes.c_uint8), ("k", ctypes.c_uint32)]
    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_uint16), ("steps", ctypes.POINTER(Step))]
    load, equal, end = 0x20, 0x15, 0x06  # BPF: a word at k; jump if it is k; return k
    steps = [Step(load, 0, 0, 0), Step(equal, 0, 4, number)]  # the number of the call
    steps += [Step(load, 0, 0, 16), Step(equal, 1, 0, 2), Step(equal, 0, 1, 10)]  # its first argument
    steps += [Step(end, 0, 0, 0x80000000), Step(end, 0, 0, 0x7FFF0000)]  # kill the process; allow
    program = Program(len(steps), (Step * len(steps))(*steps))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_filter = 38, 22
    return libc.prctl(no_new_privileges, 1, 0, 0, 0) == 0 and libc.prctl(set_filter, 2, ctypes.byref(program), 0, 0) == 0

sys.addaudithook(refuse)
if not forbid_native():
    print("no filter of system calls")
if "--try" in sys.argv:
    import socket
    socket.create_connection(("127.0.0.1", 9))
if "--try-native" in sys.argv:
    import ctypes
    ctypes.CDLL(None).socket(2, 1, 0)
    sys.exit()

import importlib.util
from pathlib import Path
import numpy as np
import stcanet_runtime
from stcanet_runtime import AsyncEncoder, Encoder, TrackletBuffer, search
from stcanet_runtime.cli import app
from stcanet_runtime.cameras.metrics import Metrics

for name in stcanet_runtime.__all__:
    getattr(stcanet_runtime, name)
package, crops, detector, video = sys.argv[1:5]
encoder = Encoder.load(package, threads=1, warm_up=True)
frame = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
rows, _ = encoder.encode_boxes(frame, [[0, 0, 30, 50]], "bgr")
with AsyncEncoder(encoder) as stream:
    stream.submit(frame, [[0, 0, 30, 50]], "bgr").result(60)
buffer = TrackletBuffer(encoder)
buffer.add_boxes(frame, [[0, 0, 30, 50]], "bgr", tracks=[1])
buffer.embeddings()
search(rows, rows, k=1)
metrics = importlib.util.find_spec("prometheus_client") and Metrics()
if metrics:
    metrics.follow("door", stream)
    assert "stcanet_frames_total" in metrics.text()
if importlib.util.find_spec("av"):
    watch = ["watch", package, f"door={video}", "--detector", detector, "-o", video + ".jsonl"]
    app(args=watch, standalone_mode=False)
    assert Path(video + ".jsonl").read_text()
    try:
        metrics and app(args=[*watch, "--metrics-port", "65000"], standalone_mode=False)
    except PermissionError:  # asked for
        pass
    else:
        assert not metrics
infer, bench = ["infer", package, crops, "--gallery", crops], ["bench", package, "--provider", "cpu", "--seconds", "0"]
for command in (["info"], infer, bench):
    app(args=command, standalone_mode=False)
print("done")
"""


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(stcanet_runtime.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HOME": str(home), "XDG_CACHE_HOME": str(home)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    command = [sys.executable, "-c", CODE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def test_nothing_opens_a_socket_but_metrics_that_were_asked_for(package: Path, crops: Path, tmp_path: Path) -> None:
    detector, video = write_detector(tmp_path / "d.onnx", [[8, 4, 24, 40, 0.9, 0]]), tmp_path / "door.mp4"
    if importlib.util.find_spec("av"):
        with video_writer(video, Fraction(10)) as write:
            write(np.full((64, 64, 3), 99, np.uint8))
    home = tmp_path / "home"
    home.mkdir()
    done = run(home, *map(os.fspath, (package, crops, detector, video)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("done\n")
    # ONNX Runtime sends its first report after ten seconds, but keeps it there from the start.
    assert list(home.rglob("*")) == []


def test_the_guard_guards(tmp_path: Path) -> None:
    done = run(tmp_path, "--try")
    assert done.returncode == 1
    assert "the runtime touched the network: socket." in done.stderr


def test_the_guard_of_the_kernel_guards(tmp_path: Path) -> None:
    done = run(tmp_path, "--try-native")
    if "no filter of system calls" in done.stdout:
        pytest.skip("this system has no filter of system calls")
    assert done.returncode == -signal.SIGSYS
