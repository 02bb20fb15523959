"""Whether a watch still looks at its cameras, by a file that it writes. Asked every minute: no model is imported for that."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stcanet_runtime.files import read_json, write_json
from stcanet_runtime.wording import counted, fault

_LONGEST_LOADING = 1800.0  # seconds: engines of several models, on a small box
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_logger = logging.getLogger(__name__)


@contextmanager
def report_loading(health: str | Path | None) -> Iterator[None]:
    """Write the health file of a `Watch` that is not there yet: models may be compiled for minutes. An error takes it away.

    Once, and not again and again from a thread: older versions of ONNX Runtime let no other thread run meanwhile.
    """
    write_health(health, {"started": time.time(), "loading": True, "cameras": {}})
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


def _boot() -> str | None:
    """Which start of the machine this is, whose monotonic clock counts anew from each; None where the system does not tell."""
    with suppress(OSError):
        return _BOOT.read_text(encoding="ascii").strip()
    return None


def write_health(path: str | Path | None, facts: dict[str, Any]) -> None:
    """Write what a `Watch` knows of its cameras, with the time; nothing where there is no path."""
    if path is None:
        return
    try:
        write_json(path, {"time": time.time(), "clock_zero": _clock_zero(), "boot": _boot(), **facts})
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
        facts = read_json(path)
        started, patience = float(facts["started"]), max(max_age, _LONGEST_LOADING) if facts.get("loading") else max_age
        if None not in (boots := (facts["boot"], _boot())) and boots[0] != boots[1]:
            return ["the watch is over: the machine has started anew since"]
        now += facts["clock_zero"] - _clock_zero()
        found = [_silence("the watch", float(facts["time"]), started, now, patience)]
        for name, camera in facts["cameras"].items():
            why = camera["error"] or camera["unwritten"] or _failed(camera)
            if not (alive and why):
                found.append(_fault(f"camera {name}", why, camera, started, now, max_age))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else fault(error)
        return [f"{path} cannot be read: {reason}"]
    return [problem for problem in found if problem is not None]


def _fault(who: str, why: str | None, camera: Mapping[str, Any], started: float, now: float, max_age: float) -> str | None:
    problem = _silence(who, camera["last_done"], started, now, max_age)
    if camera["ended"]:  # and is silent from then on
        problem = f"{who} failed" if why else None
    return f"{problem}: {why}" if problem and why else problem


def _failed(camera: Mapping[str, Any]) -> str | None:
    """Of a file; where all frames of a camera fail, it is silent."""
    return f"{counted(camera['failed'], 'frame', 'frames')} of it failed" if camera["ended"] and camera["failed"] else None


def _silence(who: str, last: float | None, started: float, now: float, max_age: float) -> str | None:
    age = now - float(started if last is None else last)
    if -max_age <= age <= max_age:
        return None
    if age < 0:  # its clock or ours was wrong, and nothing is known
        return f"{who} reports from {-age:.0f} s in the future; look at the clock"
    return f"{who} has done nothing {'yet' if last is None else f'for {age:.0f} s'}"
