"""torchreid: its `FeatureExtractor`, for a model package and without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stcanet_runtime.arrays import Float32Array
from stcanet_runtime.inference.encoder import Encoder
from stcanet_runtime.preprocess import ImageSource


class FeatureExtractor:
    """Called with images, gives features. The size and the normalisation are in the package, so there are no such arguments.

    Example:
        >>> extractor = FeatureExtractor("package/")  # doctest: +SKIP
        >>> extractor(["a.jpg", "b.jpg"]).shape  # doctest: +SKIP
        (2, 2048)
    """

    def __init__(self, model_path: str | Path, color: str = "rgb", **options: Any) -> None:
        """Open a package.

        Args:
            model_path: The package.
            color: Channel order of arrays; torchreid takes them as "rgb", OpenCV gives "bgr".
            options: As of :meth:`Encoder.load`.
        """
        self.encoder, self.color = Encoder.load(model_path, **options), color

    def __call__(self, input: ImageSource | Sequence[ImageSource]) -> Float32Array:  # noqa: A002  (torchreid's name)
        """Embed one image, or a list of them.

        Args:
            input: Paths or uint8 arrays ``[H, W, 3]``, one or a list; or an array ``[B, H, W, 3]``. Tensors that are normalised
                already are not taken: the package normalises.

        Returns:
            ``[B, D]`` unit float32; one image gives ``[1, D]``, as with torchreid. `torch.from_numpy` makes a tensor of it.
        """
        single = (
            isinstance(input, (str, Path)) or (isinstance(input, np.ndarray) and input.ndim == 3) or hasattr(input, "convert")
        )
        images: Any = [input] if single else input
        arrays = [isinstance(image, np.ndarray) for image in images]
        if all(arrays):
            return self.encoder.encode(images, self.color)
        if not any(arrays):
            return self.encoder.encode(images)
        return np.concatenate([self(image) for image in images])
