"""BoxMOT runs the float contract as it is: same crops, same vectors. Skipped where BoxMOT is not installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from stcanet.model import STCANet
from stcanet_export.onnx import Contract, export_onnx
from stcanet_export.parity.probes import procedural
from stcanet_runtime import Encoder
from stcanet_runtime.preprocess import resize

pytest.importorskip("boxmot", reason="BoxMOT (AGPL) is no dependency; install it beside, in a throw-away environment")

SIZES = {"height": 256, "width": 128}  # what BoxMOT takes for names that it does not know


def test_boxmot_gives_the_same_vectors(
    make_model: Callable[..., STCANet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from boxmot.reid.backends.onnx_backend import ONNXBackend

    # It would install the onnxruntime that it knows, during the test.
    monkeypatch.setattr(ONNXBackend, "_ensure_onnxruntime_installed", lambda _: None)

    model = make_model(**SIZES)
    path = tmp_path / "stcanet.onnx"
    export_onnx(model, path, contract=Contract("float32"))
    crops = np.stack([resize(crop, **SIZES) for crop in procedural(**SIZES).values()])
    expected = Encoder.load(path, "cpu").embed_batch(crops)[0]

    frame = np.concatenate(list(crops), axis=1)[:, :, ::-1].copy()  # BGR, side by side
    left = np.arange(len(crops)) * SIZES["width"]
    boxes = np.stack([left, np.zeros_like(left), left + SIZES["width"], np.full_like(left, SIZES["height"])], axis=1)
    backend = ONNXBackend(path, torch.device("cpu"), half=False)
    actual = backend.get_features(boxes.astype(np.float32), frame)
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    # BGR taken for RGB is what the check is there to see.
    assert np.abs(backend.get_features(boxes.astype(np.float32), frame[:, :, ::-1].copy()) - expected).max() > 1e-3
