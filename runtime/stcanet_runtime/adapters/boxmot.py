"""BoxMOT: ``BotSort(reid_model=ReIDModel(encoder))``, and the same for its other trackers with appearance."""

from __future__ import annotations

from numpy.typing import ArrayLike

from stcanet_runtime.adapters import rows_of_unit_length
from stcanet_runtime.arrays import Float32Array, UInt8Array
from stcanet_runtime.inference.encoder import Encoder


class ReIDModel:
    """What BoxMOT calls a ReID backend."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def get_features(self, xyxys: ArrayLike, img: UInt8Array) -> Float32Array:
        """Embed the boxes of a frame.

        Args:
            xyxys: ``[N, 4]``; boxes that BoxMOT predicts may lie outside.
            img: BGR, ``[H, W, 3]``.

        Returns:
            ``[N, D]``, each of unit length; those of boxes without a pixel in the frame are equal to one another.
        """
        return rows_of_unit_length(self.encoder.encode_boxes(img, xyxys, "bgr"))

    def warmup(self) -> None:
        """Run every batch size once."""
        self.encoder.warm_up()
