"""Where a run stands, and the file from which an interrupted run goes on.

Batches and their augmentation are functions of (seed, epoch, step), and the learning rate of (epoch, step), so a position
takes the place of random states. The rest is the learner's state, the best result so far, and the sums of the present epoch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

from stcanet.config import TrainConfig
from stcanet.engine import run_files
from stcanet.engine.checkpoint import read_tensors, write_tensors
from stcanet_runtime.errors import CheckpointError, OptionError

VERSION = 2


@dataclass
class RunState:
    """Where a run stands: plain values."""

    epoch: int = 0
    """Epochs done."""
    last: dict[str, float] = field(default_factory=dict)
    """What was recorded of the last of them."""
    step: int = 0
    """Batches done of the next epoch."""
    totals: dict[str, float] = field(default_factory=dict)
    """Sums of the step figures over those batches."""
    counts: dict[str, int] = field(default_factory=dict)
    """In how many of them each figure was a number: no part map or mask may have had a part."""
    images: int = 0
    """Images in them."""
    seconds: float = 0.0
    """Time spent on them."""
    best_epoch: int = 0
    """The epoch with the best validation mAP; 0 before the first validation."""
    best: dict[str, float] = field(default_factory=dict)
    """What was recorded of it."""
    init: str = ""
    """The checkpoint that the run started from, and what became of its weights; empty without one."""

    def add(self, values: dict[str, float], images: int) -> None:
        """Count a batch."""
        self.step += 1
        self.images += images
        for name, value in values.items():
            if not isnan(value):
                self.totals[name] = self.totals.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """The step figures so far, of the batches that have them."""
        return {name: total / self.counts[name] for name, total in self.totals.items()}

    def end_epoch(self) -> None:
        """Count an epoch; the sums start again."""
        self.epoch, self.step, self.totals, self.counts, self.images, self.seconds = self.epoch + 1, 0, {}, {}, 0, 0.0

    def improves(self, values: dict[str, float]) -> bool:
        """Whether the figures of an epoch are the best so far, which is noted."""
        if "val_mAP" not in values or values["val_mAP"] <= self.best.get("val_mAP", -1.0):
            return False
        self.best_epoch, self.best = self.epoch, values
        return True


def save_state(path: Path, state: RunState, learner: dict[str, Any], data: str) -> None:
    """Write the state of a run; an interruption leaves the previous one as it was.

    Args:
        path: Where to.
        state: Position and best result.
        learner: ``Learner.state_dict()``.
        data: Fingerprint of the samples that are trained on and validated with.
    """
    content = {"run": asdict(state), "learner": learner, "data": data}
    write_tensors(path, run_files.STATE_FORMAT, VERSION, content)


def load_state(path: Path, data: str) -> tuple[RunState, dict[str, Any]]:
    """Read what :func:`save_state` wrote.

    Raises:
        CheckpointError: It is no such file, or belongs to other samples.
    """
    content = read_tensors(path, run_files.STATE_FORMAT, VERSION, "the state of a run")
    if content["data"] != data:
        raise CheckpointError(
            f"{path} belongs to other training or validation images than the settings lead to now; restore them, or start anew"
        )
    return RunState(**content["run"]), content["learner"]


CHANGEABLE = ("data", "masks", "epochs", "device", "workers", "cache", "cache_dir", "checkpoint_minutes")
"""Settings that a resumed run may have otherwise."""


def changes(before: TrainConfig, now: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """What is otherwise than before, as name: (before, now).

    Raises:
        OptionError: Something else than :data:`CHANGEABLE`, more epochs where the schedule depends on their number, or masks
            where there were none, or none where there were.
    """
    old, new = _flat(before.to_dict()), _flat(now.to_dict())
    changed = {name: (old.get(name), new.get(name)) for name in old | new if old.get(name) != new.get(name)}
    for name, (was, value) in changed.items():
        # Masks may have moved with the data.
        if name not in CHANGEABLE or (name == "masks" and not (was and value)):
            expected = "left out" if was is None else repr(was)
            raise OptionError(
                name, value, f"{expected}, as the run that is resumed has it; only {', '.join(CHANGEABLE)} may change"
            )
    if "epochs" in changed and now.optim.schedule == "cosine":
        raise OptionError("epochs", now.epochs, f"{before.epochs}: the cosine schedule of the resumed run depends on it")
    return changed


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their whole names, such as ``optim.lr``."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
