"""Losses that torch does not have."""

from stcanet.losses.identity import cosine_logits
from stcanet.losses.triplet import DISTANCES, Distance, batch_hard_triplet

__all__ = ["DISTANCES", "Distance", "batch_hard_triplet", "cosine_logits"]
