"""Videos in and out, through PyAV."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stcanet_runtime.arrays import UInt8Array
from stcanet_runtime.errors import DataError
from stcanet_runtime.extras import import_extra
from stcanet_runtime.files import atomic_path

_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm")
_DEFAULT_RATE = Fraction(25)
_SILENCE = 10.0  # seconds
# Name and password as FFmpeg finds them, up to the last @ of the host part; or behind a name a password with /, ? or #, which
# FFmpeg refuses in a message that repeats it: all up to the last @, unless it begins as a port. Of two slashes Path leaves one.
_LOGIN = re.compile(r"(\w{2,}:/+)(?:[^/?#@\[]*:(?!\d*[/?#]).*|[^/?#]*)@")
# What cameras that take the password in the query call it.
_SECRET = re.compile(r"([?&][^=&#\s]*(?:auth|key|passw|pwd|secret|token)[^=&#\s]*=)[^&#\s\"']*", re.IGNORECASE)
_TICKS = 65535  # of a second, at most: MPEG-4 counts time in 1 / n of it


class VideoFrame(NamedTuple):
    """A picture of a video."""

    number: int
    """From 1, as in MOT files."""
    time: float
    """Seconds since the first; later than that of the frame before."""
    image: UInt8Array
    """RGB, ``[H, W, 3]``, upright."""


def import_av() -> Any:
    """PyAV.

    Raises:
        MissingDependencyError: It is not installed, or does not load.
    """
    return import_extra("av", "PyAV", "reading a video", "video")


def is_url(source: str | Path) -> bool:
    """Whether a video is a stream (rtsp://…) and not a file."""
    return "://" in str(source)


def is_video(source: str | Path) -> bool:
    """Whether it is a stream, or by its name a video; a folder of frames may be called as the video is."""
    return is_url(source) or (Path(source).suffix.lower() in _SUFFIXES and not Path(source).is_dir())


def without_login(text: str | Path) -> str:
    """A URL, or a line with one, without name, password and secrets of its query: for what is printed, logged or stored."""
    return _SECRET.sub(r"\1…", _LOGIN.sub(r"\1", str(text)))


def read_video(path: str | Path) -> Iterator[VideoFrame]:
    """All frames of the first video stream, turned as its display matrix says.

    Args:
        path: A file or a pipe; or the URL of a camera, which is the one way in which this package reaches out of the machine:
            FFmpeg opens what the user names.

    Raises:
        DataError: It is not a video, it is damaged, or the camera is silent for 10 s.
        MissingDependencyError: PyAV is not installed.
    """
    av, shown = import_av(), without_login(path)
    if not is_url(path) and not Path(path).exists():
        raise DataError(f"{shown}: no such file")
    if not is_url(path) and Path(path).is_dir():
        raise DataError(f"{shown}: a folder, and not a video")
    number = 0
    place, timeout = (str(path), _SILENCE) if is_url(path) else (str(Path(path).absolute()), None)
    try:
        with av.open(place, timeout=timeout) as container:
            if container.format.name == "tty":  # FFmpeg plays what ends with .txt
                raise DataError(f"{shown}: a text, and not a video")
            if not container.streams.video:
                raise DataError(f"{shown} has no video stream")
            stream = container.streams.video[0]
            clock = _Clock(float(stream.average_rate or _DEFAULT_RATE))
            # One that ends with the video: PyAV 19 keeps its own as long as the thread lives, with threads of FFmpeg, and a
            # process forked then, as PyTorch forks those that read images, waits for them for ever.
            converter = av.video.reformatter.VideoReformatter()
            for number, frame in enumerate(container.decode(stream), 1):
                rgb = converter.reformat(frame, format="rgb24").to_ndarray()
                yield VideoFrame(number, clock.tell(frame.time), _upright(rgb, frame.rotation))
    except av.error.FFmpegError as error:
        silent = isinstance(error, av.error.ExitError)  # FFmpeg's word for a time that ran out
        reason = f"it gave nothing for {_SILENCE:g} s" if silent else str(error).replace(place, shown)  # FFmpeg repeats the URL
        what = f"cannot be read beyond frame {number}" if number else "cannot be read as a video"
        raise DataError(f"{shown} {what}: {reason}") from None


class _Clock:
    """Seconds since the first frame, by the times in a file, which may be missing, or begin anew where recordings were joined.

    A frame without a time, or with one at or before that of the last frame, is one frame later than the last; the times that
    follow count from there.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._shift: float | None = None  # from the times in the file to ours
        self._told, self._untold = 0.0, -1  # ours of the last frame that had one, and how many came after it

    def tell(self, time: float | None) -> float:
        """The time of the next frame; `time` is that in the file."""
        last = self._told + self._untold / self._rate
        self._untold += 1
        now = self._told + self._untold / self._rate
        if time is None:
            return now
        if self._shift is None or time + self._shift <= last:
            self._shift = now - time
        self._told, self._untold = time + self._shift, 0
        return self._told


def _upright(image: UInt8Array, degrees: float) -> UInt8Array:
    """Turned as players and OpenCV turn it: a phone stores what its sensor saw, and beside it how it was held."""
    quarters = round(degrees / 90)  # counterclockwise, as those of rot90
    return np.ascontiguousarray(np.rot90(image, quarters))


def frame_rate(path: str | Path) -> Fraction:
    """Frames per second, as near as MPEG-4 can write them."""
    with import_av().open(str(Path(path).resolve())) as container:
        rate = Fraction(container.streams.video[0].average_rate or _DEFAULT_RATE)
        return 1 / max(Fraction(1, _TICKS), (1 / rate).limit_denominator(_TICKS))


@contextmanager
def video_writer(path: str | Path, rate: Fraction) -> Iterator[Any]:
    """Write MPEG-4, which needs no codec that may be missing; the file is there when the block ends.

    Yields:
        A function that takes RGB frames ``[H, W, 3]``, all of one size.
    """
    av = import_av()
    with atomic_path(path) as temporary, av.open(str(temporary), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000

        def write(image: UInt8Array) -> None:
            even = np.ascontiguousarray(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2])  # 4:2:0 has no odd sizes
            if not stream.codec_context.is_open:
                stream.height, stream.width = even.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))

        yield write
        container.mux(stream.encode())
