"""Weights of other programs in networks of this one, with a report of what became of every entry.

Known are the names of torchvision and torchreid ResNets, also behind ``backbone.`` and ``base.``; those of the published
STCANet code and of IAUnet; those of BNNeck heads; and our own. Blocks are told apart by their number of channels. Strides are
not in a checkpoint: the last one is 1 here, whatever it was there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stcanet.config import ModelConfig
from stcanet.engine import run_files
from stcanet.engine.checkpoint import Checkpoint, is_checkpoint
from stcanet.model import STCANet
from stcanet.model.backbone import from_torchvision
from stcanet.model.weights import NOT_FINITE, other_kind, read_state_dict
from stcanet_runtime.errors import CheckpointError
from stcanet_runtime.wording import counted

_OF_BLOCK = {
    "W1.0": "channel.out",
    "W1.1": "channel.out_norm",
    "SA.conv.conv": "part.part_conv",
    "SA.conv.bn": "part.part_norm",
    "g": "part.reduce",
    "module_w.relation.0": "part.relation",
    "module_w.relation.1": "part.relation_norm",
    "module_l.fsm.0": "part.update",
    "module_l.fsm.1": "part.update_norm",
    "W2.0": "part.out",
    "W2.1": "part.out_norm",
}
_BLOCK = re.compile(rf"(.+?)\.(?:ST\w+\.|S?IAU\w*\.|SAM\w*\.)?({'|'.join(map(re.escape, _OF_BLOCK))})\.(\w+)")
_HEAD = {
    "bn": "head.neck",
    "bottleneck": "head.neck",
    "bnneck": "head.neck",
    "heads.bottleneck.0": "head.neck",
    "classifier": "head.classifier",
    "heads": "head.classifier",
}
_CLASSIFIER = re.compile(r"(?:backbone\.|base\.)?(?:fc|heads|(?:heads?\.)?classifier)\.(?:weight|bias)")
_UNNEEDED = re.compile(r".*num_batches_tracked|pixel_mean|pixel_std")
"""Beside the classifier: what retrieval does without. The mean and deviation are those of the input, which is ours here."""


@dataclass(frozen=True)
class LoadReport:
    """What became of the entries of a foreign checkpoint."""

    matched: tuple[str, ...]
    """Our names that were filled."""
    unfit: tuple[str, ...]
    """Entries of another shape than ours, with both shapes: left as they were."""
    missing: tuple[str, ...]
    """Our names without a fitting entry: left as they were. Counters of batches are not counted."""
    unknown: tuple[str, ...]
    """Entries without a place in our network."""

    def __str__(self) -> str:
        parts = [f"{counted(len(self.matched), 'tensor', 'tensors')} taken"]
        for name in ("unfit", "missing", "unknown"):
            if entries := getattr(self, name):
                parts.append(f"{len(entries)} {name}: {_first(entries)}")
        return "; ".join(parts)


def load_foreign(path: Path, model: STCANet) -> LoadReport:
    """Fill a network with the weights of a checkpoint of this or another program, as far as they fit.

    Raises:
        CheckpointError: The file is no checkpoint that is safe to load, or nothing in it fits; or it is the folder of a run.
    """
    run_files.check_checkpoint_path(path)
    return _fill(model, read_state_dict(path), path)


def _fill(model: STCANet, state: dict[str, Tensor], path: Path) -> LoadReport:
    ours = model.state_dict()
    names = _our_names(state, model)
    matched: dict[str, Tensor] = {}
    unfit = []
    taken: dict[str, str] = {}
    for theirs, name in names.items():
        value, place = state[theirs], ours.get(name)
        if place is None:
            continue
        if (other := taken.setdefault(name, theirs)) != theirs:
            raise CheckpointError(f"{path} has two entries for {name}: '{other}' and '{theirs}'; remove one of them")
        if kinds := other_kind(value, place):  # int8 weights want their scale, which is elsewhere
            unfit.append(f"{theirs} {kinds}")
        elif _essential(value.shape) != _essential(place.shape):
            unfit.append(f"{theirs} {list(value.shape)} for {list(place.shape)}")
        elif not value.to(place.dtype).isfinite().all():
            raise CheckpointError(f"{path}: '{theirs}' {NOT_FINITE}")
        else:
            matched[name] = value.reshape(place.shape)
    if not matched:
        entries = counted(len(state), "entry", "entries")
        raise CheckpointError(f"{path}: none of its {entries} fits {model.config}; its first is '{next(iter(state))}'")
    missing = [name for name in ours if name not in matched and not name.endswith("num_batches_tracked")]
    unknown = [theirs for theirs in state if names.get(theirs) not in ours]
    model.load_state_dict({**ours, **matched})
    return LoadReport(tuple(matched), tuple(unfit), tuple(missing), tuple(unknown))


def convert(path: Path, config: ModelConfig) -> tuple[Checkpoint, LoadReport]:
    """A checkpoint of ours, without a classifier, from a foreign one.

    A network without a batch-normalised neck gets one that changes nothing.

    Raises:
        CheckpointError: Anything that retrieval needs is missing from it, it has layers that have no place here (without
            them the features would be others), or it is no checkpoint; or it is one of ours already.
    """
    run_files.check_checkpoint_path(path)
    if is_checkpoint(path):
        raise CheckpointError(f"{path} is a checkpoint of this program already: 'evaluate' and 'export' take it as it is")
    with torch.random.fork_rng(devices=[]):
        model = STCANet(config)
    nn.init.ones_(model.head.neck.weight)
    state = read_state_dict(path)
    report = _fill(model, state, path)
    layers = [*report.unfit, *_needed(report.unknown, state, model.feature_dim)]
    necks = [name for name in report.missing if name.startswith("head.neck.")]
    if len(report.missing) > len(necks) or len(necks) not in (0, 4):
        others = [name for name in report.missing if not name.startswith(("blocks.", "head.neck."))]
        attends = any(name.startswith("blocks.") for name in report.matched)
        hint = (
            ""
            if others or layers or attends
            else "; what is missing is attention alone: for the plain backbone take --blocks none"
        )
        raise CheckpointError(f"{path} does not fill '{config.preset}': {report}{hint}")
    if layers:
        raise CheckpointError(
            f"{path} has layers that '{config.preset}' has no place for: {_first(layers)}; without them "
            "the features would be others"
        )
    return Checkpoint.of(model, training={"converted_from": path.name}), report


def _needed(unknown: Sequence[str], state: dict[str, Tensor], feature_dim: int) -> list[str]:
    """Those of the unknown entries that features depend on, or that tell of features of another length than ours."""
    needed = []
    for name in unknown:
        shape = list(state[name].shape)
        if not _CLASSIFIER.fullmatch(name):
            needed += [] if _UNNEEDED.fullmatch(name) else [name]
        elif len(shape) > 1 and shape[1] != feature_dim:
            needed.append(f"{name} {shape}, a classifier of features of length {shape[1]}, not {feature_dim}")
    return needed


def _our_names(state: dict[str, Tensor], model: STCANet) -> dict[str, str]:
    """Our name for each entry that has one."""
    channels = {model.backbone.stage_channels[stage - 1]: stage for stage in model.config.blocks}
    found = {theirs: _our_name(theirs, state, channels) for theirs in state}
    return {theirs: name for theirs, name in found.items() if name is not None}


def _our_name(theirs: str, state: dict[str, Tensor], stages: dict[int, int]) -> str | None:
    if theirs.startswith(("backbone.stem.", "backbone.stages.", "blocks.", "head.")):
        return theirs
    if match := _BLOCK.fullmatch(theirs):
        block, part, kind = match.groups()
        output = state.get(f"{block}.W1.0.weight")
        stage = None if output is None else stages.get(len(output))
        return None if stage is None else f"blocks.{stage}.{_OF_BLOCK[part]}.{kind}"
    bare = theirs.removeprefix("backbone.").removeprefix("base.")
    if (name := from_torchvision(bare)) is not None:
        return f"backbone.{name}"
    owner, _, kind = bare.rpartition(".")
    place = _HEAD.get(owner)
    return place and f"{place}.{kind}"


def _first(entries: Sequence[str]) -> str:
    return ", ".join(entries[:4]) + (f" and {len(entries) - 4} more" if len(entries) > 4 else "")


def _essential(shape: torch.Size) -> list[int]:
    """A shape without its ones: a 1×1 convolution is a linear map, and a published 3D convolution has one tap in time."""
    return [size for size in shape if size != 1]
