"""The two sides of a comparison: PyTorch as training runs it, or a package as the runtime runs it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from stcanet.data.datasets import Sample
from stcanet.engine.embedding import embed
from stcanet.model import Embedder, STCABlock, STCANet
from stcanet.model.stcanet import Normalize
from stcanet_export.native import NATIVE, NativeSession
from stcanet_export.onnx import frozen
from stcanet_export.parity.layers import Layer, graph_layers, torch_layers
from stcanet_runtime.arrays import Float32Array, UInt8Array
from stcanet_runtime.files import sha256_file
from stcanet_runtime.inference.contract import to_tensor
from stcanet_runtime.inference.encoder import Encoder
from stcanet_runtime.inference.session import open_session
from stcanet_runtime.inference.tracklets import ALL_FRAMES, embed_tracklets
from stcanet_runtime.package.archive import opened
from stcanet_runtime.package.contents import load_verified, model_path
from stcanet_runtime.package.manifest import CLIPS, IMAGES, InputSpec
from stcanet_runtime.preprocess import load_image, resize


class Side(Protocol):
    """One way to run one network."""

    spec: InputSpec
    """What it takes."""
    dim: int
    """Length D of an embedding."""

    def embed(self, batch: UInt8Array) -> tuple[Float32Array, Float32Array | None]:
        """Embeddings ``[N, D]``, and where it tells them the feature lengths ``[N]``, of crops that have the right size."""

    def embed_files(self, groups: Sequence[Sequence[Path]]) -> Float32Array:
        """Embeddings of image files, a row a group: groups of one file for images, tracklets for clips."""

    def layers(self, batch: UInt8Array) -> list[Layer]:
        """What each module took and gave on that batch, in the order in which they finish."""

    def part_maps(self, batch: UInt8Array) -> tuple[Float32Array, ...]:
        """The part maps of each attention block, ``[N, (T,) parts, h, w]``; none where it does not give them."""

    def describe(self) -> dict[str, Any]:
        """What this is, for the report. JSON values."""


class TorchSide:
    """The network in PyTorch on the CPU, fed as training feeds it."""

    def __init__(self, model: STCANet) -> None:
        config = model.config
        self.model = frozen(model)
        self.dim = model.feature_dim
        clips = config.clip_length is not None
        self.spec = InputSpec(CLIPS if clips else IMAGES, config.height, config.width, config.clip_length, dynamic_time=clips)
        self._embedder = Embedder(self.model, unit=False).eval()

    @torch.inference_mode()
    def embed(self, batch: UInt8Array) -> tuple[Float32Array, Float32Array]:
        """See :meth:`Side.embed`."""
        features = self._embedder(torch.from_numpy(np.ascontiguousarray(batch)))
        return F.normalize(features, dim=-1).numpy(), features.norm(dim=-1).numpy()

    def embed_files(self, groups: Sequence[Sequence[Path]]) -> Float32Array:
        """See :meth:`Side.embed_files`; reads and resizes the files as training does."""
        return embed(self.model, [Sample(tuple(group), 0, 0) for group in groups], sampling=ALL_FRAMES)

    def layers(self, batch: UInt8Array) -> list[Layer]:
        """See :meth:`Side.layers`."""
        return torch_layers(self._embedder, batch)

    @torch.inference_mode()
    def part_maps(self, batch: UInt8Array) -> tuple[Float32Array, ...]:
        """See :meth:`Side.part_maps`."""
        images = Normalize()(torch.from_numpy(np.ascontiguousarray(batch)))
        maps = [logits.sigmoid() for logits in self.model(images).part_logits]
        return tuple((values if self.spec.takes_clips else values.squeeze(1)).numpy() for values in maps)

    def describe(self) -> dict[str, Any]:
        """See :meth:`Side.describe`."""
        return {"kind": "pytorch", "preset": self.model.config.preset, "version": str(torch.__version__), "device": "cpu"}

    def idle_blocks(self) -> list[str]:
        """Attention blocks that do nothing, because their gains are still zero as at initialisation."""
        return [f"after stage {stage}" for stage, block in self.model.blocks.items() if not _acts(block)]


def _acts(block: torch.nn.Module) -> bool:
    assert isinstance(block, STCABlock)
    return any(bool(norm.weight.any()) for norm in (block.channel.out_norm, block.part.out_norm))


def _native(package: Path) -> Encoder:
    manifest = load_verified(package)
    session: Any = NativeSession(model_path(package))  # has all of a Session that an Encoder uses
    return Encoder(manifest, session)


class PackageSide:
    """A model package under a provider, run by the runtime."""

    def __init__(self, package: str | Path, provider: str) -> None:
        self._open = ExitStack()  # an archive stays unpacked for as long as its layers may be asked for
        self.package = self._open.enter_context(opened(package))
        self.encoder = _native(self.package) if provider == NATIVE else Encoder.load(package, provider)
        self.spec, self.dim = self.encoder.manifest.input, self.encoder.dim

    def embed(self, batch: UInt8Array) -> tuple[Float32Array, Float32Array | None]:
        """See :meth:`Side.embed`."""
        return self.encoder.embed_batch(batch)

    def embed_files(self, groups: Sequence[Sequence[Path]]) -> Float32Array:
        """See :meth:`Side.embed_files`."""
        if self.spec.name == IMAGES and all(len(group) == 1 for group in groups):
            return self.encoder.encode([path for (path,) in groups])
        return self.encoder.encode_tracklets([list(group) for group in groups])

    def layers(self, batch: UInt8Array) -> list[Layer]:
        """See :meth:`Side.layers`."""
        provider = self.encoder.session.provider
        open_model = NativeSession if provider == NATIVE else partial(open_session, providers=provider)
        return graph_layers(model_path(self.package), to_tensor(batch, self.spec), open_model)

    def part_maps(self, batch: UInt8Array) -> tuple[Float32Array, ...]:
        """See :meth:`Side.part_maps`."""
        return self.encoder.part_maps(batch) if self.encoder.manifest.output.part_maps else ()

    def describe(self) -> dict[str, Any]:
        """See :meth:`Side.describe`."""
        session, manifest = self.encoder.session, self.encoder.manifest
        return {
            "kind": "package",
            "preset": manifest.preset,
            "model_sha256": sha256_file(model_path(self.package)),
            "precision": manifest.precision,
            "opset": manifest.opset,
            "provider": session.provider,
            "nodes": session.nodes,
        }


class SingleFrames:
    """A side of clips as one of images: each crop is a clip of one frame."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self.spec = replace(side.spec, name=IMAGES, clip_length=None, dynamic_time=False)
        self.dim = side.dim

    def embed(self, batch: UInt8Array) -> tuple[Float32Array, Float32Array | None]:
        """See :meth:`Side.embed`."""
        return self._side.embed(batch[:, None])

    def embed_files(self, groups: Sequence[Sequence[Path]]) -> Float32Array:
        """See :meth:`Side.embed_files`; frame by frame, since a clip package would repeat a single one."""
        size = self.spec.height, self.spec.width
        return embed_tracklets(
            groups,
            lambda path: resize(load_image(path), *size),
            lambda frames: (self.embed(frames[:, 0])[0], None),  # no lengths, as for every model of images
            self.dim,
            replace(ALL_FRAMES, clip_length=1),
            batch_size=1,
        )

    def layers(self, batch: UInt8Array) -> list[Layer]:
        """See :meth:`Side.layers`."""
        return self._side.layers(batch[:, None])

    def part_maps(self, batch: UInt8Array) -> tuple[Float32Array, ...]:
        """See :meth:`Side.part_maps`."""
        return tuple(values.squeeze(1) for values in self._side.part_maps(batch[:, None]))

    def describe(self) -> dict[str, Any]:
        """See :meth:`Side.describe`."""
        return {**self._side.describe(), "clips": "of one frame"}


def as_images(side: Side) -> Side:
    """The side itself, or one of clips as one of images where it takes clips of one frame."""
    one = side.spec.takes_clips and (side.spec.dynamic_time or side.spec.clip_length == 1)
    return SingleFrames(side) if one else side
