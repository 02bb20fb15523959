"""Networks in which everything acts, and packages made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from stcanet import build_model
from stcanet.model import Embedder, STCANet
from stcanet_export.onnx import DEFAULT_OPSET, OPSETS, OWN, Contract, _trace, frozen, make_manifest
from stcanet_export.package import export_package
from stcanet_export.parity.probes import make_clips, procedural
from stcanet_runtime.preprocess import resize

TINY = {"height": 64, "width": 32}
"""The smallest preset made smaller: 8 × 4 positions in its attention."""


def randomised(preset: str = "stcanet-tiny", seed: int = 0, channel_gain: float = 1.0, **overrides: object) -> STCANet:
    """A network that hides no fault: at initialisation every attention block is the identity, every bias zero.

    All gains and biases are random, and the normalisation statistics are those of real forward passes, so that the
    activations (and the logits of the channel attention, whose rounding matters) have the size of a trained network's.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(preset, **overrides)
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                nn.init.uniform_(parameter, 0.5, 1.5) if name.endswith("weight") else nn.init.normal_(parameter, 0.0, 0.2)
        for name, parameter in model.named_parameters():
            if name.endswith("channel.out_norm.weight"):
                nn.init.uniform_(parameter, 0.5 * channel_gain, 1.5 * channel_gain)
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # the plain average over the passes
    config, embedder = model.config, Embedder(model).train()
    crops = np.stack([resize(crop, config.height, config.width) for crop in procedural(config.height, config.width).values()])
    inputs = crops if config.clip_length is None else make_clips(crops, config.clip_length)[-4:]
    with torch.no_grad():
        embedder(torch.from_numpy(inputs))
    return model.eval()


@pytest.fixture(scope="session")
def image_model() -> STCANet:
    return randomised(**TINY)


@pytest.fixture(scope="session")
def clip_model() -> STCANet:
    return randomised(seed=1, **TINY, clip_length=3, blocks=(2,), pool="max")


@pytest.fixture(scope="session")
def image_graph(image_model: STCANet) -> bytes:
    """What the exporter makes of `image_model`. Tracing takes longest of all, so it is done once."""
    manifest = make_manifest(image_model, DEFAULT_OPSET, OWN)
    return _trace(Embedder(frozen(image_model)), manifest).SerializeToString()


@pytest.fixture(scope="session")
def image_package(image_model: STCANet, image_graph: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only; copy it to damage it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stcanet_export.onnx._trace", lambda *_: onnx.load_from_string(image_graph))
        return export_package(image_model, tmp_path_factory.mktemp("image") / "package").path


@pytest.fixture(scope="session")
def clip_package(clip_model: STCANet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only; takes clips of any length."""
    return export_package(clip_model, tmp_path_factory.mktemp("clips") / "package").path


@pytest.fixture(scope="session")
def float_package(clip_model: STCANet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same clips in the contract that differs in everything, in the oldest opset. Read only."""
    contract = Contract("float32", unit=False, part_maps=True)
    return export_package(clip_model, tmp_path_factory.mktemp("float") / "package", opset=OPSETS[0], contract=contract).path


@pytest.fixture
def traced(image_graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports of `image_model` take `image_graph`: for tests of what comes after the tracing."""
    monkeypatch.setattr("stcanet_export.onnx._trace", lambda *_: onnx.load_from_string(image_graph))


@pytest.fixture(scope="session")
def make_model() -> Callable[..., STCANet]:
    return randomised
