"""`stcanet-tiny` in an eighth of its channels: for tests of the training loop, in which the width of the network shows nothing.

Its checkpoints are 60 times smaller and its steps several times faster.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from stcanet.model import backbone


class _Narrow(ResNet):
    def _make_layer(self, block: Any, planes: int, *args: Any, **options: Any) -> nn.Sequential:
        return super()._make_layer(block, planes // 8, *args, **options)


def make(*_: object, **__: object) -> ResNet:
    """In place of torchvision's `get_model`."""
    return _Narrow(BasicBlock, [2, 2, 2, 2])


def install() -> None:
    """For the whole process."""
    backbone.get_model = make  # type: ignore[assignment]
