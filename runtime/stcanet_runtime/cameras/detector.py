"""A person detector that the user supplies, as an ONNX file: frames in, boxes out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends.gpu_arrays import to_host
from stcanet_runtime.batching import run_together
from stcanet_runtime.errors import OptionError, PackageError
from stcanet_runtime.images.boxes import crop_boxes
from stcanet_runtime.images.frames import FrameSource, as_frame
from stcanet_runtime.inference.providers import Resources
from stcanet_runtime.inference.session import Session, open_session

_GREY = 114 / 255  # what detectors of the YOLO family were trained to see beside a picture
_COLUMNS = 6
_CONTRACT = "a person detector takes float32 [1, 3, H, W] of a fixed size, RGB in 0..1, and gives float32 [1, N, 6] first"


class Detector:
    """Finds people in frames.

    The model takes one picture, float32 ``[1, 3, H, W]``, RGB in 0..1, H and W fixed. A frame is scaled to fit and lies at the
    upper left; the rest is grey. Its first output is float32 ``[1, N, 6]``: left, upper, right and lower edge in pixels of that
    picture, score, and class, after non-maximum suppression: what exporters call end-to-end. Nothing else is guessed at.
    Safe to call from several threads.
    """

    def __init__(self, session: Session, threshold: float = 0.5, person: int = 0) -> None:
        """Check the session.

        Args:
            session: The open model.
            threshold: Least score of a person, from 0 to 1.
            person: Number of the class.

        Raises:
            PackageError: It takes or gives something else; the message says what.
            OptionError: `threshold` is not from 0 to 1.
        """
        if not 0 <= threshold <= 1:
            raise OptionError("threshold", threshold, "from 0 to 1")
        shapes = [(tensor.dtype, tensor.shape) for tensor in (*session.inputs, *session.outputs[:1])]
        fits = len(shapes) == 2 and all(kind == "float" for kind, _ in shapes)
        fits = fits and len(shapes[0][1]) == 4 and shapes[0][1][1] == 3 and None not in shapes[0][1][2:]
        fits = fits and shapes[0][1][0] in (1, None) and len(shapes[1][1]) == 3 and shapes[1][1][2] in (_COLUMNS, None)
        if not fits:
            raise PackageError(f"{_CONTRACT}; this one has {' and '.join(f'{kind} {list(shape)}' for kind, shape in shapes)}")
        self._session, self.threshold, self.person = session, threshold, person
        self._size = shapes[0][1][2] or 0, shapes[0][1][3] or 0

    @classmethod
    def load(
        cls,
        path: str | Path,
        providers: str | Sequence[str] = "auto",
        threads: int | None = None,
        threshold: float = 0.5,
        person: int = 0,
        cache: str | Path | None = None,
    ) -> Detector:
        """Open a file; `cache` is a folder for what TensorRT and OpenVINO compile.

        Providers and threads as in :func:`stcanet_runtime.inference.session.open_session`, which says what it raises.
        """
        resources = Resources(threads, cache=None if cache is None else Path(cache))
        return cls(open_session(path, providers, resources=resources), threshold, person)

    def warm_up(self, callers: int = 1) -> None:
        """Run once, on a dark frame, so that the first one does not wait for what a provider prepares.

        Args:
            callers: Threads that will call it, as of :meth:`Encoder.warm_up`.
        """
        run_together([partial(self.detect, np.zeros((*self._size, 3), np.uint8), "rgb")], callers)

    def detect(self, frame: FrameSource, format: str) -> NDArray[np.float64]:
        """The people in a frame.

        Args:
            frame: See :func:`stcanet_runtime.images.frames.as_frame`.
            format: "rgb", "bgr", "nv12" or "i420".

        Returns:
            Boxes ``[N, 4]`` in pixels of the frame: left, upper, right and lower edges.

        Raises:
            PackageError: The model gave something else than its contract says.
            OptionError: An unknown format.
            ShapeError: The frame has an unexpected shape or type.
        """
        height, width = as_frame(frame, format).size
        scale = min(self._size[0] / height, self._size[1] / width)
        inner = max(1, round(height * scale)), max(1, round(width * scale))
        picture = np.full((1, 3, *self._size), _GREY, np.float32)
        crop = to_host(crop_boxes(frame, [[0, 0, width, height]], format, *inner, threads=self._session.threads).crops[0])
        picture[0, :, : inner[0], : inner[1]] = crop.transpose(2, 0, 1) / np.float32(255)
        found = self._session.run({self._session.inputs[0].name: picture})[self._session.outputs[0].name]
        if found.ndim != 3 or found.shape[0] != 1 or found.shape[2] != _COLUMNS:
            raise PackageError(f"{_CONTRACT}; it gave {list(found.shape)}")
        rows = found[0]
        people = rows[(rows[:, 4] >= np.float32(self.threshold)) & (rows[:, 5] == self.person), :4]
        return np.asarray(people * np.tile([width / inner[1], height / inner[0]], 2))
