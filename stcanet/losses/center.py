"""Center loss (Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CenterLoss(nn.Module):
    """``½ · mean_i ‖x_i − c_{y_i}‖²``, and a centre for each class that follows its features.

    The centres are a buffer, not a parameter: they move by the rule of the paper (eq. 4) and not by the optimiser, after
    every loss that is computed in training mode::

        c_j ← c_j − α · Σ_{i: y_i = j} (c_j − x_i) / (1 + n_j)

    with n_j the images of class j in the batch. They belong to the state of a run: whoever resumes needs the state dict.

    Args:
        num_classes: K.
        dim: D.
        rate: α, in (0, 1].
    """

    centers: Tensor
    """``[K, D]``, zero at the start as the features' batch normalisation makes them on average."""

    def __init__(self, num_classes: int, dim: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("centers", torch.zeros(num_classes, dim))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The loss of features ``[B, D]`` with class indices ``[B]``, a scalar."""
        # In float32 whatever the autocast, which takes none of these operations.
        difference = features.float() - self.centers[labels]
        if self.training:
            self._follow(difference.detach(), labels)
        return 0.5 * difference.square().sum(dim=1).mean()

    def _follow(self, difference: Tensor, labels: Tensor) -> None:
        moves = torch.zeros_like(self.centers).index_add_(0, labels, difference)
        counts = torch.bincount(labels, minlength=len(self.centers)).to(moves.dtype)
        # A new tensor: the old one is what the loss was computed from.
        self.centers = self.centers + self.rate * moves / (1.0 + counts[:, None])
