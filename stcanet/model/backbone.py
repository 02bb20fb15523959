"""The ResNet trunk: torchvision's, cut into stages, with the last stride taken out."""

from __future__ import annotations

from pathlib import Path
from typing import cast
from urllib.error import URLError

from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from stcanet.config import IMAGENET
from stcanet.model.weights import fill, read_state_dict
from stcanet_runtime.errors import CheckpointError

_PLACES = {"conv1": "stem.0", "bn1": "stem.1"} | {f"layer{stage}": f"stages.{stage - 1}" for stage in range(1, 5)}
"""Where the parts of a torchvision ResNet are here, by their names there."""


class Backbone(nn.Module):
    """ResNet stages 1 to 4 on images ``[N, 3, H, W]``; stage 4 keeps the resolution of stage 3.

    Args:
        name: 'resnet18', 'resnet34', 'resnet50' or 'resnet101'.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        resnet = cast("ResNet", get_model(name, weights=None))
        self.stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool)
        stages = (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4)
        _remove_stride(resnet.layer4[0])
        self.stages = nn.ModuleList(stages)
        self.stage_channels = tuple(_out_channels(stage[-1]) for stage in stages)

    def load_imagenet(self, source: str | Path, name: str) -> None:
        """Fill in ImageNet weights.

        Args:
            source: 'imagenet' to download through torchvision, or a file with a torchvision ResNet state dict.
            name: The backbone's name, which decides what is downloaded.

        Raises:
            CheckpointError: The download fails, or the file does not hold weights of this network.
        """
        state = _download(name) if str(source) == IMAGENET else read_state_dict(Path(source))
        try:
            fill(self, {place: value for key, value in state.items() if (place := from_torchvision(key))})
        except ValueError as error:
            raise CheckpointError(
                f"{source} does not hold torchvision weights of {name}: {error}; give those of {name}, or set model.backbone "
                "to what they are of"
            ) from error


def from_torchvision(name: str) -> str | None:
    """Our name for an entry of a torchvision ResNet; None for those of its classifier, and of anything else."""
    head, _, rest = name.partition(".")
    place = _PLACES.get(head)
    return place and f"{place}.{rest}"


def _remove_stride(block: nn.Module) -> None:
    # Bottlenecks have their stride on the 3×3 convolution, basic blocks on their first one.
    assert isinstance(block, (BasicBlock, Bottleneck))
    assert isinstance(block.downsample, nn.Sequential)
    strided = block.conv2 if isinstance(block, Bottleneck) else block.conv1
    strided.stride = (1, 1)
    projection = block.downsample[0]
    assert isinstance(projection, nn.Conv2d)
    projection.stride = (1, 1)


def _out_channels(block: nn.Module) -> int:
    assert isinstance(block, (BasicBlock, Bottleneck))
    last = block.bn3 if isinstance(block, Bottleneck) else block.bn2
    return int(last.num_features)


def _download(name: str) -> dict[str, Tensor]:
    # IMAGENET1K_V1 of resnet50 is the checkpoint that the published method started from.
    weights = get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return cast("dict[str, Tensor]", weights.get_state_dict(progress=True, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        raise CheckpointError(
            f"cannot download the ImageNet weights of {name} ({error}); offline, fetch {weights.url} elsewhere and "
            "pass the file with --backbone-weights PATH, or train from scratch with --backbone-weights none"
        ) from error
