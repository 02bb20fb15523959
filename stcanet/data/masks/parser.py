"""A human-parsing model that the user has as an ONNX file, run by the project's own session code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stcanet.data.masks.grouping import ParserSpec
from stcanet_runtime.errors import DataError, PackageError
from stcanet_runtime.inference.session import open_session
from stcanet_runtime.preprocess import load_image, resize


class HumanParser:
    """Gives label maps of images.

    Args:
        model: The ONNX file: one input, float ``[1, 3, height, width]``; scores or label values come first of its outputs.
        spec: Size, normalisation and output of the model.
        provider: "auto", or a provider that runs it or fails.

    Raises:
        PackageError: It is no such model.
        ProviderError: The provider cannot run it.
    """

    def __init__(self, model: Path, spec: ParserSpec, provider: str = "auto") -> None:
        self._session, self._spec, self._model = open_session(model, provider), spec, model
        inputs = self._session.inputs
        if len(inputs) != 1 or inputs[0].dtype != "float" or len(inputs[0].shape) != 4:
            raise PackageError(f"{model} must have one input, float [1, 3, height, width], it has {list(inputs)}")
        wanted = (1, 3, spec.height, spec.width)
        if any(length not in (None, want) for length, want in zip(inputs[0].shape, wanted, strict=True)):
            raise PackageError(f"{model} takes {list(inputs[0].shape)}, and the settings say {list(wanted)}; change [parser]")

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        """Label values ``[H, W]`` of an image of that size: the most likely label of each pixel."""
        image, spec = load_image(path), self._spec
        scaled = resize(image, spec.height, spec.width).astype(np.float32) / 255.0
        ordered = scaled if spec.channels == "rgb" else scaled[:, :, ::-1]
        normalised = (ordered - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
        fed = np.ascontiguousarray(normalised.transpose(2, 0, 1)[None], np.float32)
        result = self._session.run({self._session.inputs[0].name: fed})[self._session.outputs[0].name]
        labels = Image.fromarray(self._labels(result))
        return np.array(labels.resize((image.shape[1], image.shape[0]), Image.Resampling.NEAREST))

    def _labels(self, result: NDArray[np.generic]) -> NDArray[np.uint8]:
        kind = self._spec.output
        if result.ndim != (3 if kind == "labels" else 4) or len(result) != 1:
            raise DataError(f"{self._model} gives {list(result.shape)}, which is not '{kind}'; set output in [parser]")
        if np.isnan(result).any():  # of which argmax would make the first label, which is the background
            raise DataError(
                f"{self._model} gives values that are no numbers (NaN); look at mean and std in [parser], and at the model"
            )
        labels = result[0] if kind == "labels" else result[0].argmax(axis=0 if kind == "nchw" else 2)
        if labels.min() < 0 or labels.max() > 255 or (labels != np.floor(labels)).any():
            raise DataError(f"{self._model} gives labels that are no whole numbers from 0 to 255; set output in [parser]")
        return np.asarray(labels, np.uint8)
