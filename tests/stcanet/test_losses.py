"""Losses against figures worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from stcanet.losses import batch_hard_triplet

LABELS = torch.tensor([0, 0, 1, 1])


def directions(*degrees: float) -> torch.Tensor:
    return torch.tensor([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])


def test_cosine_triplet_by_hand() -> None:
    features = directions(0, 60, 90, 180) * torch.tensor([[1.0], [5.0], [2.0], [0.1]])  # lengths do not matter
    d = {60: 0.5, 90: 1.0, 30: 1 - math.cos(math.radians(30)), 120: 1.5}
    #          hardest positive, hardest negative
    anchors = [(d[60], d[90]), (d[60], d[30]), (d[90], d[30]), (d[90], d[120])]
    expected = sum(max(0.0, positive - negative + 0.3) for positive, negative in anchors) / 4
    assert batch_hard_triplet(features, LABELS).item() == pytest.approx(expected, abs=1e-6)


def test_euclidean_triplet_by_hand() -> None:
    features = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    expected = (max(0, 1 - 3 + 0.3) + max(0, 1 - 2 + 0.3) + (4 - 2 + 0.3) + max(0, 4 - 6 + 0.3)) / 4
    assert batch_hard_triplet(features, LABELS, distance="euclidean").item() == pytest.approx(expected, abs=1e-5)


def test_separated_identities_cost_nothing() -> None:
    assert batch_hard_triplet(directions(0, 1, 180, 181), LABELS).item() == 0.0


def test_a_batch_of_one_identity_gives_zero_and_not_nan() -> None:
    assert batch_hard_triplet(directions(0, 30, 60, 90), torch.zeros(4, dtype=torch.long)).item() == 0.0


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_gradients_are_finite_for_identical_features(distance: str) -> None:
    features = torch.ones(4, 8, requires_grad=True)
    batch_hard_triplet(features, LABELS, distance=distance).backward()  # type: ignore[arg-type]
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_autocast_does_not_reach_the_distances() -> None:
    features = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        inside = batch_hard_triplet(features, LABELS)
    assert torch.equal(inside, batch_hard_triplet(features, LABELS))
