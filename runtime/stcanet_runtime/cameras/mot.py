"""Boxes of tracked people from a file in the format of MOTChallenge: ``frame,id,left,top,width,height[,…]``, frames from 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.errors import DataError

_COLUMNS = 6
_ID_LIMIT, _EXACT = 2**63, 2.0**53  # as int64; up to where a float holds every whole number


@dataclass(frozen=True, eq=False)
class Boxes:
    """The people in one frame."""

    ids: tuple[int, ...]
    """N track ids."""
    xyxy: NDArray[np.float64]
    """[N, 4]: left, upper, right and lower edges in pixels."""


def load_mot(path: str | Path) -> dict[int, Boxes]:
    """Boxes by frame number, from 1.

    Raises:
        DataError: A line is not like that, or a track has two boxes in one frame; the message names the line.
    """
    frames: dict[int, dict[int, tuple[float, ...]]] = {}
    with Path(path).open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            frame, track, box = _parse(f"{path}, line {number}", line)
            if track in frames.setdefault(frame, {}):
                raise DataError(f"{path}, line {number}: track {track} has a box in frame {frame} already")
            frames[frame][track] = box
    if not frames:
        raise DataError(f"{path} holds no boxes")
    return {frame: Boxes(tuple(boxes), np.array(list(boxes.values()))) for frame, boxes in sorted(frames.items())}


def _parse(place: str, line: str) -> tuple[int, int, tuple[float, ...]]:
    texts = line.replace("_", "?").split(",")[:_COLUMNS]  # to int() the tracks 1_2 and 12 are one
    try:
        frame, track = map(_whole, texts[:2])
        left, top, width, height = map(_finite, texts[2:])
    except ValueError:
        frame = 0
    if not 1 <= frame < _ID_LIMIT:
        raise DataError(f"{place}: expected frame,id,left,top,width,height, got '{line.strip()[:60]}'")
    if track < 0:
        raise DataError(f"{place}: the box has no track id ({track}); run a tracker over the detections first")
    if track >= _ID_LIMIT:
        raise DataError(f"{place}: track ids must be below 2**63, got {texts[1].strip()[:30]}")
    return frame, track, (left, top, left + width, top + height)


def _whole(text: str) -> int:
    """Of all digits; 1.0, as some trackers write, as long as no other number is the same float."""
    try:
        return int(text)
    except ValueError:
        value = float(text)
        if not value.is_integer() or abs(value) >= _EXACT:
            raise
        return int(value)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value
