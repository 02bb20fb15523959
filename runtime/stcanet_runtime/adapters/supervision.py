"""supervision: embeddings beside the boxes of its `Detections`."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from stcanet_runtime.images.frames import FrameSource
from stcanet_runtime.inference.encoder import Encoder

EMBEDDINGS, VALID = "embeddings", "embedding_valid"
"""Keys in `Detections.data`."""


class HasBoxes(Protocol):
    """What is used of `supervision.Detections`."""

    xyxy: Any
    data: dict[str, Any]


AnyDetections = TypeVar("AnyDetections", bound=HasBoxes)


def embed_detections(encoder: Encoder, frame: FrameSource, detections: AnyDetections, format: str = "bgr") -> AnyDetections:
    """Put an embedding beside each box: ``data["embeddings"]`` [N, D] and ``data["embedding_valid"]`` [N].

    They go with the detections through filters, slices and merges.

    Args:
        encoder: Runs the model.
        frame: The picture that the detections are of.
        detections: `supervision.Detections`, changed in place.
        format: Of the frame; supervision itself works on "bgr".

    Returns:
        The same detections.
    """
    detections.data[EMBEDDINGS], detections.data[VALID] = encoder.encode_boxes(frame, detections.xyxy, format)
    return detections
