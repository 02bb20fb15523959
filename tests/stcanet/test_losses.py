"""Losses against figures worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from stcanet.losses import batch_hard_triplet, supervised_contrastive

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


def test_contrastive_by_hand() -> None:
    features = directions(0, 60, 90, 180) * torch.tensor([[1.0], [5.0], [2.0], [0.1]])  # lengths do not matter
    cosines = [[math.cos(math.radians(a - b)) / 0.5 for b in (0, 60, 90, 180)] for a in (0, 60, 90, 180)]
    expected = 0.0
    for anchor, positive in ((0, 1), (1, 0), (2, 3), (3, 2)):
        others = sum(math.exp(cosines[anchor][other]) for other in range(4) if other != anchor)
        expected -= math.log(math.exp(cosines[anchor][positive]) / others) / 4
    assert supervised_contrastive(features, LABELS, temperature=0.5).item() == pytest.approx(expected, abs=1e-6)


def test_contrastive_averages_over_the_positives_of_an_anchor() -> None:
    features, labels = directions(0, 20, 50, 120), torch.tensor([0, 0, 0, 1])
    cosine = {d: math.cos(math.radians(d)) for d in (20, 30, 50, 70, 100, 120)}

    def anchor(positives: list[int], negative: int) -> float:
        total = math.log(sum(math.exp(cosine[d]) for d in [*positives, negative]))
        return sum(total - cosine[d] for d in positives) / 2

    # The fourth image is the only one of its identity and counts nowhere.
    expected = (anchor([20, 50], 120) + anchor([20, 30], 100) + anchor([50, 30], 70)) / 3
    assert supervised_contrastive(features, labels, temperature=1.0).item() == pytest.approx(expected, abs=1e-6)


def test_contrastive_without_positives_is_zero() -> None:
    features = directions(0, 30, 60).requires_grad_()
    loss = supervised_contrastive(features, torch.tensor([0, 1, 2]))
    loss.backward()
    assert loss.item() == 0.0
    assert features.grad is not None
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_contrastive_gradients_are_finite_for_identical_features() -> None:
    features = torch.ones(4, 8, requires_grad=True)
    supervised_contrastive(features, LABELS).backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()
