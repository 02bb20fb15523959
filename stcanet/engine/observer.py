"""What the training loop tells whoever follows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class StepReport:
    """What the loop tells its observer after every step."""

    epoch: int
    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_second: float


class Observer(Protocol):
    """Follows a training run; the command line draws progress with it."""

    def on_read(self, done: int, total: int) -> None:
        """Called before :meth:`on_start` while images are decoded, first those of the validation, with how many are."""

    def on_start(self, facts: dict[str, Any]) -> None:
        """Called once, with what is about to be trained on."""

    def on_step(self, report: StepReport) -> None:
        """Called after every step."""

    def on_epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Called after every epoch, with what was recorded."""
