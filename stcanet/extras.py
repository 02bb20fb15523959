"""What has to be installed besides, for all that the runtime does not do."""

from __future__ import annotations

EXTRA_OF = {
    "torch": "train",
    "torchvision": "train",
    "tensorboard": "train",
    "tomli_w": "train",
    "onnx": "export",
    "onnxscript": "export",
}
"""Optional packages that training and export import, and the extra that brings each."""
