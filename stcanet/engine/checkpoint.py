"""Checkpoints: plain tensors and plain values, written atomically, loaded without running code."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stcanet.config import ModelConfig
from stcanet.engine import run_files
from stcanet.model import STCANet
from stcanet.model.weights import fill, is_state_dict, load_plain
from stcanet_runtime.errors import CheckpointError, StcanetError
from stcanet_runtime.files import atomic_path, parse_json

FORMAT = "stcanet-checkpoint"
VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and where it came from."""

    model_config: ModelConfig
    num_classes: int | None
    state_dict: dict[str, Tensor]
    epoch: int
    """Epochs trained."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Validation results at that epoch."""
    training: dict[str, Any] = field(default_factory=dict)
    """The resolved configuration and facts about the data; plain values."""

    @classmethod
    def of(cls, model: STCANet, epoch: int = 0, **details: Any) -> Checkpoint:
        """The present state of a model, copied to the CPU."""
        state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
        return cls(model.config, model.num_classes, state, epoch, **details)

    def build(self, classifier: bool = False) -> STCANet:
        """The network, in evaluation mode on the CPU.

        Args:
            classifier: Keep the classifier; retrieval does not need it.

        Raises:
            CheckpointError: The weights do not fit the stored settings.
        """
        state = (
            self.state_dict
            if classifier
            else {k: v for k, v in self.state_dict.items() if not k.startswith("head.classifier.")}
        )
        # How attention was computed while training is no property of the weights, nor of this machine.
        config = replace(self.model_config, attention="auto")
        model = STCANet(config, self.num_classes if classifier else None)
        try:
            fill(model, state)
        except ValueError as error:
            raise CheckpointError(f"weights do not fit {self.model_config}: {error}") from error
        return model.eval()


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint; an interruption leaves the previous file as it was."""
    content = {
        "model_config": asdict(checkpoint.model_config),
        "num_classes": checkpoint.num_classes,
        "state_dict": checkpoint.state_dict,
        "epoch": checkpoint.epoch,
        "metrics": checkpoint.metrics,
        "training": checkpoint.training,
    }
    write_tensors(path, FORMAT, VERSION, content)


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint. Only tensors and plain values are read: a hostile file cannot run code.

    Raises:
        CheckpointError: The file cannot be read, is no checkpoint of this project, or is of a later version.
    """
    run_files.check_checkpoint_path(Path(path))
    content = read_tensors(path, FORMAT, VERSION, "a checkpoint")
    if not is_state_dict(content.get("state_dict")):
        raise CheckpointError(f"{path} is damaged: its state_dict is not names to tensors")
    classifier = content["state_dict"].get("head.classifier.weight")
    if content.get("num_classes") not in (None, *(() if classifier is None else classifier.shape[:1])):
        raise CheckpointError(
            f"{path} is damaged: its classifier does not have the {content['num_classes']} classes that it names"
        )
    try:
        for name, kind in {"epoch": int, "metrics": dict, "training": dict}.items():
            if not isinstance(content[name], kind):
                raise TypeError(f"its {name} is of type {type(content[name]).__name__}")
        _as_kept(content["model_config"])
        return Checkpoint(
            ModelConfig.from_dict(content["model_config"]),
            content["num_classes"],
            content["state_dict"],
            content["epoch"],
            _figures(content["metrics"]),
            _facts(content["training"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, StcanetError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def is_checkpoint(path: Path) -> bool:
    """Whether a file says that it is a checkpoint of this program; of one that cannot be read it is not known."""
    try:
        content = load_plain(path, "a checkpoint", "")
    except CheckpointError:
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def _figures(metrics: dict[Any, Any]) -> dict[str, float]:
    for name, value in metrics.items():
        if not isinstance(name, str) or type(value) not in (int, float):
            raise TypeError(f"its metrics must be names and numbers, got {name!r}: {value!r}")
    _as_kept(metrics)
    return {name: float(value) for name, value in metrics.items()}


def _facts(training: dict[Any, Any]) -> dict[str, Any]:
    """As packages keep them. The configuration, which may hold infinities, is in none."""
    config = {"config": training["config"]} if "config" in training else {}
    return {**config, **_as_kept({name: value for name, value in training.items() if name != "config"})}


def _as_kept(values: dict[Any, Any]) -> dict[str, Any]:
    """What becomes of values in JSON: names are texts."""
    text = json.dumps(values, allow_nan=False, ensure_ascii=False)
    text.encode()
    return parse_json(text)  # type: ignore[no-any-return]


def write_tensors(path: Path, own_format: str, version: int, content: dict[str, Any]) -> None:
    """Write a file for :func:`read_tensors`; an interruption leaves the previous one as it was.

    Raises:
        OSError: It cannot be written, since the disk is full, say.
    """
    with atomic_path(path) as temporary:
        try:
            with temporary.open("wb") as file:  # by its path, torch would not say what was wrong with the disk
                torch.save({"format": own_format, "version": version, **content}, file)
        except RuntimeError as error:  # what torch makes of an OSError, once more at the end of the file
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read_tensors(path: Path | str, expected_format: str, version: int, what: str) -> dict[str, Any]:
    """Read a file of tensors and plain values that has a format and a version.

    Args:
        path: A .pt file.
        expected_format: Its ``format`` entry.
        version: Its ``version`` entry.
        what: What it should be, for messages.

    Raises:
        CheckpointError: It cannot be read, would run code, or is another kind of file or a later version.
    """
    hint = "; 'stcanet convert' makes one of another program's weights" if expected_format == FORMAT else ""
    content = load_plain(path, "a checkpoint", f"expected a .pt file of 'stcanet train'{hint}")
    if isinstance(content, dict) and content.get("format") == run_files.STATE_FORMAT != expected_format:
        chosen = run_files.chosen_checkpoint(Path(path).parent) or run_files.BEST
        raise CheckpointError(f"{path} is what 'stcanet train --resume' goes on from, not a checkpoint; that is {chosen}")
    if not isinstance(content, dict) or content.get("format") != expected_format:
        raise CheckpointError(f"{path} is not {what} of 'stcanet train' (no format entry '{expected_format}'){hint}")
    if content.get("version") != version:
        raise CheckpointError(f"{path} has checkpoint version {content.get('version')}; this program reads version {version}")
    return content
