"""Training settings: frozen dataclasses, validated where they are made, with the only defaults there are."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from stcanet.config.model import PARTS, PRESETS, ModelConfig, preset_config
from stcanet.config.values import check_choices
from stcanet_runtime.errors import ConfigError, OptionError, quote_choices

IMAGENET, NO_WEIGHTS = "imagenet", "none"
"""Words of `backbone_weights`: no files, whatever is called so in the working folder."""
Cache = Literal["auto", "memory", "file", "none"]
Distance = Literal["cosine", "euclidean"]
PartLoss = Literal["bce", "l1", "l2"]


def _require(name: str, value: object, condition: bool, expected: str) -> None:
    if not condition:
        raise OptionError(name, value, expected)


def check_device(name: str) -> None:
    """Raise OptionError where it is no name of a device. Whether the device is here is told when it is wanted."""
    _require("device", name, re.fullmatch(r"auto|cpu|cuda(:\d+)?", name) is not None, "'auto', 'cpu', 'cuda' or 'cuda:N'")


@dataclass(frozen=True)
class AugmentConfig:
    """How training images are varied."""

    flip: float = 0.5
    """Probability of a left-right flip."""
    pad: int = 5
    """Pixels of mean colour put around the image before a crop of the original size is taken; 0 turns it off."""
    erase: float = 0.5
    """Probability of erasing a rectangle."""
    erase_area: tuple[float, float] = (0.02, 0.4)
    """Smallest and largest share of the image that is erased."""
    erase_aspect: float = 0.3
    """Height over width of the rectangle lies between this and its inverse."""
    erase_masks: bool = False
    """Whether part masks become background where the image is erased; as published, they stay."""

    def __post_init__(self) -> None:
        for name in ("flip", "erase"):
            value = getattr(self, name)
            _require(f"augment.{name}", value, 0.0 <= value <= 1.0, "a probability between 0 and 1")
        _require("augment.pad", self.pad, self.pad >= 0, "0 or more pixels")
        low, high = self.erase_area
        _require("augment.erase_area", self.erase_area, 0.0 < low <= high < 1.0, "two ascending shares between 0 and 1")
        _require("augment.erase_aspect", self.erase_aspect, 0.0 < self.erase_aspect <= 1.0, "in (0, 1]")


@dataclass(frozen=True)
class ClipConfig:
    """Which frames of a tracklet make a training clip, of as many frames as the model takes."""

    sampling: Literal["stride", "random"] = "stride"
    """'stride': from a random frame every `stride`-th one, as published; 'random': any frames, in order. A tracklet that is too
    short for a stride gives random frames, one with fewer frames than a clip gives all of them, again and again."""
    stride: int = 8
    """Distance of the frames, in frames."""

    def __post_init__(self) -> None:
        check_choices(self, "clips.")
        _require("clips.stride", self.stride, self.stride >= 1, "at least 1 frame")


@dataclass(frozen=True)
class LossConfig:
    """What is minimised: the weighted sum of the losses whose weight is not 0."""

    identity_weight: float = 1.0
    """Weight of the cross entropy over the training identities."""
    label_smoothing: float = 0.1
    """Share of the target spread evenly over all classes."""
    triplet_weight: float = 1.0
    """Weight of the triplet loss; 0 turns it off."""
    margin: float = 0.3
    """Triplet margin, in units of the distance."""
    distance: Distance = "cosine"
    """Distance of the triplet loss."""
    contrastive_weight: float = 0.0
    """Weight of the supervised contrastive loss, which is not in the published recipe; 0 turns it off."""
    temperature: float = 0.1
    """Of the contrastive loss: cosines are divided by it."""
    gather: bool = True
    """With several processes: losses see the joint batch, so that pairs and triplets are mined over all of it. Otherwise each
    process mines its own share, and gradients are averaged."""
    circle_weight: float = 0.0
    """Weight of the circle loss, which is not in the published recipe; 0 turns it off."""
    circle_margin: float = 0.25
    """Relaxation m of the circle loss."""
    circle_scale: float = 128.0
    """Scale γ of the circle loss; 128 is the published value for re-identification."""
    center_weight: float = 0.0
    """Weight of the center loss, which is not in the published recipe (5e-4 is usual); 0 turns it off."""
    center_rate: float = 0.5
    """How fast the centres follow the features of their class."""
    mask_weight: float = 0.5
    """Weight of the part-mask loss, where there are masks; 0 turns it off."""
    mask_loss: PartLoss = "bce"
    """Distance of part maps and masks: cross entropy as published, or of probabilities the absolute or squared difference."""
    mask_start_epoch: int = 1
    """First epoch with the part-mask loss."""

    def __post_init__(self) -> None:
        check_choices(self, "loss.")
        weights = [f"{name}_weight" for name in ("identity", "triplet", "contrastive", "circle", "center", "mask")]
        for name in (*weights, "margin", "circle_margin"):
            _require(f"loss.{name}", getattr(self, name), getattr(self, name) >= 0.0, "0 or more")
        joint = self.gather or self.center_weight == 0.0
        _require("loss.gather", self.gather, joint, "true with the center loss, whose centres follow the joint batch")
        _require("loss.circle_scale", self.circle_scale, self.circle_scale > 0.0, "above 0")
        _require("loss.center_rate", self.center_rate, 0.0 < self.center_rate <= 1.0, "in (0, 1]")
        _require("loss.mask_start_epoch", self.mask_start_epoch, self.mask_start_epoch >= 1, "at least 1")
        _require("loss.label_smoothing", self.label_smoothing, 0.0 <= self.label_smoothing < 1.0, "in [0, 1)")
        _require("loss.temperature", self.temperature, self.temperature > 0.0, "above 0")


@dataclass(frozen=True)
class OptimConfig:
    """The optimiser, its learning rate over time, and what happens to gradients and weights on the way."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """'adam' (weight decay as an L2 penalty, as published), 'adamw' (decoupled weight decay) or 'sgd' (with `momentum`)."""
    lr: float = 3.5e-4
    """Base learning rate."""
    backbone_factor: float = 1.0
    """The backbone's learning rate is this times the base rate."""
    new_factor: float = 1.0
    """That of all other layers (attention blocks, neck, classifier)."""
    weight_decay: float = 5e-4
    """Of all weights."""
    decay_norms: bool = True
    """Whether normalisation layers and biases decay too, as published."""
    momentum: float = 0.9
    """Of 'sgd'."""
    nesterov: bool = False
    """Nesterov's momentum, for 'sgd'."""
    freeze_epochs: int = 0
    """First epochs in which the backbone rests, its batch statistics too, while the new layers train."""
    accumulate: int = 1
    """Batches whose mean gradient makes one update. Losses over pairs look at one batch at a time."""
    clip_norm: float = 0.0
    """Largest norm of the gradient, longer ones are shortened to it; 0 turns it off."""
    ema_decay: float = 0.0
    """Decay of the running average of the weights, which is then what is evaluated and saved; 0 turns it off."""
    schedule: Literal["multistep", "cosine"] = "multistep"
    """'multistep': times `gamma` at every milestone; 'cosine': towards `final` of the base rate, as the last epoch ends."""
    milestones: tuple[int, ...] = (20, 40)
    """Epochs after which the rate drops (multistep)."""
    gamma: float = 0.1
    """Factor of each drop (multistep)."""
    warmup_epochs: float = 0.0
    """Epochs in which the rate rises linearly from a hundredth."""
    final: float = 0.01
    """Share of the base rate at which the cosine ends."""

    def __post_init__(self) -> None:
        check_choices(self, "optim.")
        for name in ("lr", "backbone_factor", "new_factor"):
            _require(f"optim.{name}", getattr(self, name), getattr(self, name) > 0.0, "above 0")
        for name in ("weight_decay", "freeze_epochs", "clip_norm"):
            _require(f"optim.{name}", getattr(self, name), getattr(self, name) >= 0, "0 or more")
        for name in ("momentum", "ema_decay"):
            _require(f"optim.{name}", getattr(self, name), 0.0 <= getattr(self, name) < 1.0, "in [0, 1)")
        _require("optim.nesterov", self.nesterov, not self.nesterov or self.momentum > 0.0, "off without momentum")
        _require("optim.accumulate", self.accumulate, self.accumulate >= 1, "at least 1 batch")
        ascending = list(self.milestones) == sorted(set(self.milestones)) and all(m > 0 for m in self.milestones)
        _require("optim.milestones", self.milestones, ascending, "ascending epochs above 0")
        _require("optim.gamma", self.gamma, 0.0 < self.gamma <= 1.0, "in (0, 1]")
        _require("optim.warmup_epochs", self.warmup_epochs, self.warmup_epochs >= 0.0, "0 or more")
        _require("optim.final", self.final, 0.0 <= self.final <= 1.0, "in [0, 1]")


@dataclass(frozen=True)
class TrainConfig:
    """One training run. The defaults are the published image recipe, whose `val_fraction` and `augment.pad` however are 0.

    Where a text names a file or folder, a path may be given too.
    """

    data: str
    """A data set: a folder in a known layout, ``NAME[:VARIANT]=FOLDER``, or a CSV manifest."""
    masks: str = ""
    """Folder with a part mask of every training image, which the attention is then supervised by; empty for none."""
    preset: str = "stcanet-image"
    """Which network; see `stcanet train --help`."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the preset to replace."""
    backbone_weights: str = IMAGENET
    """'imagenet', 'none', or a file with torchvision weights."""
    init: str = ""
    """A checkpoint of this or another program from which all weights start that fit; takes the place of `backbone_weights`."""
    epochs: int = 60
    """Passes over the training images."""
    identities: int = 16
    """Identities P of a batch, which several processes share."""
    instances: int = 4
    """Images K of each identity in a batch."""
    val_fraction: float = 0.1
    """Share of the training identities held back to choose the best checkpoint, at most half of those that two cameras see; 0
    keeps the last one instead. Of MSMT17, which sets images aside for that, they choose at any other value, and all identities
    are trained on."""
    eval_every: int = 10
    """Epochs between validations; the last epoch is always validated, those at half size never are."""
    half_size_epochs: int = 0
    """First epochs at half the height and width, a quarter of the work each; for training from scratch."""
    amp: Literal["auto", "on", "off"] = "auto"
    """bfloat16 autocast, with the channel attention in float32, but for 'sdpa'. 'auto': where the device has matrix units."""
    compile: bool = False
    """Train with torch.compile: the first steps take minutes, the others less time on a GPU."""
    device: str = "auto"
    """'auto' (a GPU if there is one), 'cpu', 'cuda' or 'cuda:N'."""
    workers: int = 0
    """Processes that read images where they are not cached; 0 reads in a thread of the training process."""
    cache: Cache = "auto"
    """Where decoded images are kept. 'auto': in memory if they take half of what is free or less; or else in a file, if
    `cache_dir` is given and its disk has room; or else nowhere."""
    cache_dir: str = ""
    """Folder of the cache file, which later runs on the same data use again."""
    sync_bn: bool = False
    """With several processes: batch normalisation over the joint batch instead of each process's share."""
    seed: int = 1
    """Of the weights, the batches, the augmentation and the validation split."""
    checkpoint_minutes: float = 10.0
    """How much work an interruption may cost: within an epoch, the state of the run is saved this often. It always is at the
    end of an epoch; 0 saves it only there."""
    augment: AugmentConfig = AugmentConfig()
    clips: ClipConfig = ClipConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()

    def __post_init__(self) -> None:
        for name in ("data", "masks", "backbone_weights", "init", "cache_dir"):
            if isinstance(path := getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fsdecode(path))
        check_choices(self)
        _require("data", self.data, bool(self.data), "a folder, NAME[:VARIANT]=FOLDER or a CSV manifest")
        _require("preset", self.preset, self.preset in PRESETS, quote_choices(tuple(PRESETS)))
        for name in ("epochs", "eval_every"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("identities", "instances"):
            _require(name, getattr(self, name), getattr(self, name) >= 2, "at least 2")
        _require("val_fraction", self.val_fraction, 0.0 <= self.val_fraction < 1.0, "in [0, 1)")
        for name in ("half_size_epochs", "workers", "checkpoint_minutes"):
            _require(name, getattr(self, name), getattr(self, name) >= 0, "0 or more")
        # Seeds of single epochs are made of it, which have to fit into 64 bits.
        _require("seed", self.seed, 0 <= self.seed < 2**32, "from 0 to 2³² − 1")
        check_device(self.device)
        _require("cache_dir", self.cache_dir, bool(self.cache_dir) or self.cache != "file", "given where cache is 'file'")
        _require("model.preset", self.model.get("preset"), "preset" not in self.model, "left to the setting preset")
        self._check_masks(self.model_config)
        self._check_loss()

    def _check_masks(self, model: ModelConfig) -> None:
        if not self.masks:
            return
        if model.clip_length is not None:
            raise ConfigError(f"masks supervise the part maps of single images; preset '{self.preset}' takes clips")
        if not model.blocks:
            raise ConfigError("masks supervise the part maps of attention blocks, and the model has none (blocks is empty)")
        if model.num_parts != len(PARTS):
            raise ConfigError(f"masks have {len(PARTS)} parts, and the model num_parts = {model.num_parts}")

    def _check_loss(self) -> None:
        """In every epoch there must be something to minimise."""
        loss = self.loss
        masked = bool(self.masks) and loss.mask_weight > 0.0 and loss.mask_start_epoch == 1
        others = ("identity", "triplet", "contrastive", "circle", "center")
        if not (masked or any(getattr(loss, f"{name}_weight") for name in others)):
            raise ConfigError(
                "nothing is minimised in the first epoch: the weights of all losses are 0 (loss.mask_weight counts only with "
                "masks and loss.mask_start_epoch = 1); give one a weight, as loss.identity_weight=1"
            )

    @property
    def model_config(self) -> ModelConfig:
        """The preset with `model` applied."""
        return preset_config(self.preset, **self.model)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as TOML and JSON take them, None as "none"; :func:`~stcanet.config.make_config` reads them back."""
        return _plain(asdict(self))  # type: ignore[no-any-return]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else "none" if value is None else value
