"""A checkpoint in PyTorch, or a model package in the runtime: the same to whoever evaluates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stcanet.data.datasets import Sample
from stcanet.engine import run_files
from stcanet_runtime.files import sha256_file
from stcanet_runtime.inference.providers import check_name
from stcanet_runtime.inference.tracklets import Sampling
from stcanet_runtime.package.archive import is_archive_name
from stcanet_runtime.progress import Progress


class RetrievalModel(Protocol):
    """Something that gives samples unit embeddings."""

    name: str
    """Where it was read from."""
    runs_on: str
    """Framework and device."""
    trained_on: str | None
    """Name of the data set, where the file tells."""
    sha256: str | None
    """Of the checkpoint or of the package's model: whose embeddings these are."""
    checkpoint_sha256: str | None
    """Of the checkpoint; of a package, of the one that it was exported from."""
    takes_clips: bool

    def clip_length(self, sampling: Sampling) -> int:
        """Frames of a clip; 1 for a model of single images. Raises OptionError where it does not take such clips."""

    def embed(
        self, samples: Sequence[Sample], sampling: Sampling, batch_size: int, progress: Progress | None
    ) -> NDArray[np.float32]:
        """Unit embeddings ``[N, D]``, in order; `batch_size` counts images or frames."""


def open_model(path: Path, device: str = "auto", provider: str = "auto") -> RetrievalModel:
    """Open a checkpoint (a file; needs torch) or a model package (folder, archive or ``.onnx`` file; needs onnxruntime).

    Args:
        path: Either of them. Of a checkpoint the classifier is left out: it knows only the people of its training.
        device: For checkpoints: auto, cpu, cuda or cuda:N.
        provider: For packages: auto, cpu, openvino, openvino-bf16, cuda or tensorrt.

    Raises:
        CheckpointError: It is no checkpoint, but the folder of a run, say.
        PackageError: It is no model package, or was altered.
        ProviderError: The provider cannot run here.
        OptionError: There is no such device or provider.
    """
    if is_package(path):
        return PackageModel(path, provider)
    if provider != "auto":
        check_name(provider)  # `cross` takes one for its packages, beside checkpoints
    return CheckpointModel(path, device)


def is_package(path: Path) -> bool:
    """Whether it is taken for a package; everything else is a checkpoint. Raises CheckpointError for the folder of a run."""
    run_files.check_checkpoint_path(path)
    return path.is_dir() or path.suffix == ".onnx" or is_archive_name(path)


class CheckpointModel:
    """A checkpoint, evaluated in PyTorch."""

    def __init__(self, path: Path, device: str) -> None:
        import torch

        from stcanet.engine.checkpoint import load_checkpoint
        from stcanet.engine.devices import resolve_device

        target = resolve_device(device)
        checkpoint = load_checkpoint(path)
        self._network = checkpoint.build().to(target)
        self.name, self.runs_on = str(path), f"torch {torch.__version__}, {target}"
        self.trained_on = _dataset(checkpoint.training)
        self.sha256: str | None = sha256_file(path)
        self.checkpoint_sha256: str | None = self.sha256
        self._own_length = checkpoint.model_config.clip_length
        self.takes_clips = self._own_length is not None

    def clip_length(self, sampling: Sampling) -> int:
        """See :meth:`RetrievalModel.clip_length`."""
        return sampling.length(self._own_length)

    def embed(
        self, samples: Sequence[Sample], sampling: Sampling, batch_size: int, progress: Progress | None
    ) -> NDArray[np.float32]:
        """See :meth:`RetrievalModel.embed`."""
        from stcanet.engine.embedding import embed

        return embed(self._network, samples, batch_size, progress, sampling)


class PackageModel:
    """A model package, evaluated by the runtime."""

    def __init__(self, path: Path, provider: str) -> None:
        from stcanet_runtime import Encoder

        self._encoder = Encoder.load(path, provider)
        self.name, self.runs_on = str(path), f"onnxruntime, {self._encoder.session.provider}"
        self.sha256: str | None = self._encoder.model_sha256
        source = self._encoder.manifest.source
        self.trained_on = _dataset(source.get("training"))
        self.checkpoint_sha256: str | None = source.get("checkpoint_sha256")
        self.takes_clips = self._encoder.manifest.input.takes_clips

    def clip_length(self, sampling: Sampling) -> int:
        """See :meth:`RetrievalModel.clip_length`."""
        return self._encoder.clip_length(sampling)

    def embed(
        self, samples: Sequence[Sample], sampling: Sampling, batch_size: int, progress: Progress | None
    ) -> NDArray[np.float32]:
        """See :meth:`RetrievalModel.embed`."""
        frames = [sample.frames for sample in samples]
        return self._encoder.encode_tracklets(frames, batch_size=batch_size, progress=progress, sampling=sampling)


def _dataset(training: Any) -> str | None:
    name = training.get("dataset") if isinstance(training, Mapping) else None
    return name if isinstance(name, str) else None
