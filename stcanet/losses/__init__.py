"""Losses that torch does not have; the identity loss is torch's cross entropy with label smoothing."""

from stcanet.losses.contrastive import supervised_contrastive
from stcanet.losses.triplet import DISTANCES, Distance, batch_hard_triplet

__all__ = ["DISTANCES", "Distance", "batch_hard_triplet", "supervised_contrastive"]
