"""Boxes of tracked people from a file in the format of MOTChallenge: ``frame,id,left,top,width,height[,…]``, frames from 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.errors import DataError

_COLUMNS = 6


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
    with Path(path).open(encoding="utf-8", errors="replace") as file:
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
    try:
        values = [float(text) for text in line.split(",")[:_COLUMNS]]
    except ValueError:
        values = []
    whole = len(values) == _COLUMNS and all(map(math.isfinite, values)) and all(value == int(value) for value in values[:2])
    if not whole or values[0] < 1:
        raise DataError(f"{place}: expected frame,id,left,top,width,height, got '{line.strip()[:60]}'")
    if values[1] < 0:
        raise DataError(f"{place}: the box has no track id ({values[1]:g}); run a tracker over the detections first")
    left, top, width, height = values[2:]
    return int(values[0]), int(values[1]), (left, top, left + width, top + height)
