"""The exponential moving average of the weights (EMA)."""

from __future__ import annotations

from typing import Any, cast

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stcanet.model import STCANet


class WeightAverage:
    """Follows `model`: ``average ← d · average + (1 − d) · weights`` after every update, batch statistics too.

    d rises to `decay` as (1 + n) / (10 + n) after n updates, and the first one takes the weights as they are, so that the
    average does not drag the random ones of the start along.
    """

    def __init__(self, model: STCANet, decay: float) -> None:
        self._decay = decay
        self._averaged = AveragedModel(model, use_buffers=True)

    @property
    def model(self) -> STCANet:
        """The network with the averaged weights."""
        return cast("STCANet", self._averaged.module)

    def update(self, model: STCANet) -> None:
        """Take the present weights in."""
        updates = int(self._averaged.n_averaged)
        self._averaged.multi_avg_fn = get_ema_multi_avg_fn(min(self._decay, (1 + updates) / (10 + updates)))
        self._averaged.update_parameters(model)

    def state_dict(self) -> dict[str, Any]:
        """The average and the number of updates in it."""
        return self._averaged.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        self._averaged.load_state_dict(state)
