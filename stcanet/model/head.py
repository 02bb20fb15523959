"""From the last feature map to the retrieval feature and the class logits."""

from __future__ import annotations

from torch import Tensor, nn

from stcanet.config.model import HeadInit, Pool


class Head(nn.Module):
    """Pool over time and space, batch-normalise, classify.

    The normalised feature is what the losses see and what retrieval compares. Batch normalisation is affine when
    evaluating, so averaging it over the clips of a tracklet equals averaging before it, as the published video test does.
    """

    def __init__(self, channels: int, num_classes: int | None, pool: Pool, init: HeadInit) -> None:
        super().__init__()
        self.pool = pool
        self.neck = nn.BatchNorm1d(channels)
        self.classifier = None if num_classes is None else nn.Linear(channels, num_classes)
        if init == "small":
            nn.init.normal_(self.neck.weight, 1.0, 0.02)
            if self.classifier is not None:
                nn.init.normal_(self.classifier.weight, 0.0, 0.001)
                nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor, frames: int) -> tuple[Tensor, Tensor | None]:
        """``[B·T, C, H, W]`` to features ``[B, C]`` and logits ``[B, K]`` (None without a classifier)."""
        clips = x.unflatten(0, (-1, frames))
        pooled = clips.mean(dim=(1, 3, 4)) if self.pool == "avg" else clips.amax(dim=(1, 3, 4))
        features = self.neck(pooled)
        return features, None if self.classifier is None else self.classifier(features)
