"""Losses that torch does not have; the identity loss is torch's cross entropy with label smoothing."""

from stcanet.losses.center import CenterLoss
from stcanet.losses.circle import circle
from stcanet.losses.contrastive import supervised_contrastive
from stcanet.losses.parts import part_loss, part_targets
from stcanet.losses.triplet import batch_hard_triplet

__all__ = [
    "CenterLoss",
    "batch_hard_triplet",
    "circle",
    "part_loss",
    "part_targets",
    "supervised_contrastive",
]
