"""deep-sort-realtime: ``tracker = DeepSort(embedder=None); tracker.embedder = Embedder(encoder)``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stcanet_runtime.adapters import rows_of_unit_length
from stcanet_runtime.arrays import Float32Array, UInt8Array
from stcanet_runtime.inference.encoder import BoxEmbeddings, Encoder


class Embedder:
    """What deep-sort-realtime calls an embedder."""

    def __init__(self, encoder: Encoder, color: str = "bgr") -> None:
        """Take an encoder.

        Args:
            encoder: Runs the model.
            color: Channel order of the frames that the tracker is given, "bgr" or "rgb".
        """
        self.encoder, self.color = encoder, color

    def predict(self, np_images: Sequence[UInt8Array]) -> list[Float32Array]:
        """A row ``[D]`` for each crop ``[H, W, 3]``, also for that of a box outside of the frame, which has no pixel."""
        valid = np.array([crop.size > 0 for crop in np_images], np.bool_)
        embeddings = np.zeros((len(valid), self.encoder.dim), np.float32)
        embeddings[valid] = self.encoder.encode([crop for crop in np_images if crop.size], self.color)
        return list(rows_of_unit_length(BoxEmbeddings(embeddings, valid)))
