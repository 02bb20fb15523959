"""Losses against figures worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from stcanet.config import LossConfig
from stcanet.engine.objective import Objective
from stcanet.losses import CenterLoss, batch_hard_triplet, circle, part_loss, supervised_contrastive
from stcanet.model import ReIDOutput

LABELS = torch.tensor([0, 0, 1, 1])


def directions(*degrees: float) -> torch.Tensor:
    return torch.tensor([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])


def test_cosine_triplet_by_hand() -> None:
    features = directions(0, 60, 90, 180) * torch.tensor([[1.0], [5.0], [2.0], [0.1]])  # lengths do not matter
    d = {60: 0.5, 90: 1.0, 30: 1 - math.cos(math.radians(30)), 120: 1.5}
    #          hardest positive, hardest negative
    anchors = [(d[60], d[90]), (d[60], d[30]), (d[90], d[30]), (d[90], d[120])]
    expected = sum(max(0.0, positive - negative + 0.3) for positive, negative in anchors) / 4
    assert batch_hard_triplet(features, LABELS, 0.3, "cosine").item() == pytest.approx(expected, abs=1e-6)


def test_euclidean_triplet_by_hand() -> None:
    features = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    expected = (max(0, 1 - 3 + 0.3) + max(0, 1 - 2 + 0.3) + (4 - 2 + 0.3) + max(0, 4 - 6 + 0.3)) / 4
    assert batch_hard_triplet(features, LABELS, 0.3, "euclidean").item() == pytest.approx(expected, abs=1e-5)


def test_separated_identities_cost_nothing() -> None:
    assert batch_hard_triplet(directions(0, 1, 180, 181), LABELS, 0.3, "cosine").item() == 0.0


def test_a_batch_of_one_identity_gives_zero_and_not_nan() -> None:
    assert batch_hard_triplet(directions(0, 30, 60, 90), torch.zeros(4, dtype=torch.long), 0.3, "cosine").item() == 0.0


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_gradients_are_finite_for_identical_features(distance: str) -> None:
    features = torch.ones(4, 8, requires_grad=True)
    batch_hard_triplet(features, LABELS, 0.3, distance).backward()  # type: ignore[arg-type]
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize(
    "loss",
    [
        lambda features: batch_hard_triplet(features, LABELS, 0.3, "cosine"),
        lambda features: supervised_contrastive(features, LABELS, 0.1),
        lambda features: circle(features, LABELS, 0.25, 128.0),
        lambda features: CenterLoss(2, 64, 0.5)(features, LABELS),
    ],
    ids=["triplet", "contrastive", "circle", "center"],
)
def test_autocast_does_not_reach_the_distances(loss: Callable[[torch.Tensor], torch.Tensor]) -> None:
    features = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(features)
    assert torch.equal(inside, loss(features))


def test_contrastive_by_hand() -> None:
    features = directions(0, 60, 90, 180) * torch.tensor([[1.0], [5.0], [2.0], [0.1]])  # lengths do not matter
    cosines = [[math.cos(math.radians(a - b)) / 0.5 for b in (0, 60, 90, 180)] for a in (0, 60, 90, 180)]
    expected = 0.0
    for anchor, positive in ((0, 1), (1, 0), (2, 3), (3, 2)):
        others = sum(math.exp(cosines[anchor][other]) for other in range(4) if other != anchor)
        expected -= math.log(math.exp(cosines[anchor][positive]) / others) / 4
    assert supervised_contrastive(features, LABELS, temperature=0.5).item() == pytest.approx(expected, abs=1e-6)


def test_contrastive_averages_over_the_positives_of_an_anchor() -> None:
    """Of identities with different numbers of images: the last is the only one of its identity and counts nowhere."""
    degrees, labels = (0, 20, 50, 120, 170, 260), (0, 0, 0, 1, 1, 2)
    cosines = [[math.cos(math.radians(a - b)) for b in degrees] for a in degrees]
    expected = 0.0
    for anchor in range(5):
        others = [other for other in range(6) if other != anchor]
        total = math.log(sum(math.exp(cosines[anchor][other]) for other in others))
        positives = [other for other in others if labels[other] == labels[anchor]]
        expected += sum(total - cosines[anchor][other] for other in positives) / len(positives) / 5
    loss = supervised_contrastive(directions(*degrees), torch.tensor(labels), temperature=1.0)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_contrastive_without_positives_is_zero() -> None:
    features = directions(0, 30, 60).requires_grad_()
    loss = supervised_contrastive(features, torch.tensor([0, 1, 2]), 0.1)
    loss.backward()
    assert loss.item() == 0.0
    assert features.grad is not None
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_contrastive_gradients_are_finite_for_identical_features() -> None:
    features = torch.ones(4, 8, requires_grad=True)
    supervised_contrastive(features, LABELS, 0.1).backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_circle_by_hand() -> None:
    features = directions(0, 60, 90, 180) * torch.tensor([[1.0], [5.0], [2.0], [0.1]])
    cosine = {d: math.cos(math.radians(d)) for d in (30, 60, 90, 120, 180)}
    m, scale = 0.25, 2.0

    def positive(d: int) -> float:
        return math.exp(-scale * max(0.0, 1 + m - cosine[d]) * (cosine[d] - (1 - m)))

    def negative(d: int) -> float:
        return math.exp(scale * max(0.0, cosine[d] + m) * (cosine[d] - m))

    anchors = [(60, (90, 180)), (60, (30, 120)), (90, (90, 30)), (90, (180, 120))]
    expected = sum(math.log(1 + positive(p) * sum(negative(n) for n in ns)) for p, ns in anchors) / 4
    assert circle(features, LABELS, m, scale).item() == pytest.approx(expected, rel=1e-5)


def test_circle_of_separated_identities_is_nearly_nothing() -> None:
    assert circle(directions(0, 1, 180, 181), LABELS, 0.25, 128.0).item() < 1e-3
    assert circle(directions(0, 90, 0, 90), LABELS, 0.25, 128.0).item() > 10


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 1, 1]])
def test_circle_gradients_are_finite(labels: list[int]) -> None:
    features = torch.ones(4, 8, requires_grad=True)
    loss = circle(features, torch.tensor(labels), 0.25, 128.0)
    loss.backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()
    assert (loss.item() == 0.0) == (len(set(labels)) != 2)


def test_circle_weights_carry_no_gradient() -> None:
    """The derivative by a cosine is its weight times the scale times its share, as the paper derives it."""
    angle = torch.tensor(1.0, requires_grad=True)
    features = torch.stack([torch.stack([angle.cos(), angle.sin()]), torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0])])
    circle(features, torch.tensor([0, 0, 1]), 0.25, 1.0).backward()
    step = 1e-3

    def with_weights_of(at: float) -> float:
        c, fixed = math.cos(at), math.cos(1.0)
        pull = math.exp(-(1.25 - fixed) * (c - 0.75))
        mutual = math.exp(max(0.0, -fixed + 0.25) * (-c - 0.25))  # the negative lies opposite of the positive
        opposite = math.exp(0.0)
        return (math.log1p(pull * mutual) + math.log1p(pull * opposite)) / 3

    expected = (with_weights_of(1.0 + step) - with_weights_of(1.0 - step)) / (2 * step)
    assert angle.grad.item() == pytest.approx(expected, abs=1e-4)


def test_centers_follow_their_class() -> None:
    loss = CenterLoss(3, 2, rate=0.5)
    features = torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 6.0]], requires_grad=True)
    value = loss(features, torch.tensor([0, 0, 2]))
    value.backward()
    assert value.item() == pytest.approx(0.5 * (4 + 16 + 36) / 3)
    assert torch.allclose(features.grad, features.detach() / 3)
    # c + α · Σ (x − c) / (1 + n)
    assert torch.allclose(loss.centers, torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.5]]))
    loss(features, torch.tensor([0, 0, 2]))
    assert torch.allclose(loss.centers[0], torch.tensor([1.0 + 0.5 * (1 + 3) / 3, 0.0]))


def test_centers_are_state_and_rest_while_evaluating() -> None:
    loss = CenterLoss(3, 2, 0.5)
    loss(torch.ones(2, 2), torch.tensor([0, 1]))
    again = CenterLoss(3, 2, 0.5)
    again.load_state_dict(loss.state_dict())
    assert torch.equal(again.centers, loss.centers)
    assert loss.centers.any()
    again.eval()
    again(torch.ones(2, 2), torch.tensor([0, 1]))
    assert torch.equal(again.centers, loss.centers)
    assert not list(loss.parameters())


@pytest.fixture
def masks() -> torch.Tensor:
    return torch.randint(0, 5, (3, 32, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def maps() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [3 * torch.randn(3, 1, 4, 8, 4, generator=generator), 3 * torch.randn(3, 1, 4, 4, 2, generator=generator)]


def as_published(maps: list[torch.Tensor], masks: torch.Tensor, kind: str) -> float:
    """Part by part and block by block, of probabilities."""
    distance = {"bce": F.binary_cross_entropy, "l1": F.l1_loss, "l2": F.mse_loss}[kind]
    parts = []
    for part in range(4):
        mask = (masks == part + 1).float()[:, None]
        blocks = []
        for logits in maps:
            target = F.interpolate(mask, logits.shape[-2:], mode="bilinear", align_corners=True)
            blocks.append(distance(logits.sigmoid()[:, 0, part], target[:, 0]).item())
        parts.append(sum(blocks) / len(blocks))
    return sum(parts) / 4


@pytest.mark.parametrize("kind", ["bce", "l1", "l2"])
def test_part_loss_is_the_published_one(maps: list[torch.Tensor], masks: torch.Tensor, kind: str) -> None:
    assert part_loss(maps, masks, kind).item() == pytest.approx(as_published(maps, masks, kind), rel=1e-5)


@pytest.mark.parametrize("kind", ["bce", "l1", "l2"])
def test_maps_that_equal_the_masks_cost_nothing(masks: torch.Tensor, kind: str) -> None:
    perfect = torch.stack([masks == part for part in range(1, 5)], dim=1).float() * 80 - 40
    assert part_loss([perfect[:, None]], masks, kind).item() < 1e-6
    assert part_loss([-perfect[:, None]], masks, kind).item() > 0.9
    assert part_loss([perfect[:, None], -perfect[:, None]], masks, kind).item() > 0.4  # each block counts


def test_part_loss_of_clips_is_that_of_their_frames(maps: list[torch.Tensor], masks: torch.Tensor) -> None:
    clips = [logits.transpose(0, 1) for logits in maps]  # one clip of three frames
    assert part_loss(clips, masks[None], "bce").item() == pytest.approx(part_loss(maps, masks, "bce").item())


def test_part_loss_does_not_saturate_and_ignores_autocast(maps: list[torch.Tensor], masks: torch.Tensor) -> None:
    far = [(1e4 * logits).requires_grad_() for logits in maps]
    loss = part_loss(far, masks, "bce")
    loss.backward()
    assert torch.isfinite(loss)
    assert all(logits.grad is not None and logits.grad.abs().max() > 1e-4 for logits in far)
    halves = [logits.bfloat16() for logits in maps]  # as a network under autocast gives them
    with torch.autocast("cpu", torch.bfloat16):
        inside = part_loss(halves, masks, "l1")
    assert torch.equal(inside, part_loss([logits.float() for logits in halves], masks, "l1"))


@pytest.mark.parametrize(
    "config",
    [
        LossConfig(),
        LossConfig(
            identity_weight=2.0,
            label_smoothing=0.0,
            triplet_weight=0.7,
            margin=0.1,
            distance="euclidean",
            mask_weight=0.2,
            mask_loss="l1",
            contrastive_weight=0.3,
            temperature=0.5,
            circle_weight=0.01,
            circle_margin=0.4,
            circle_scale=16.0,
            center_weight=0.05,
            center_rate=0.2,
        ),
    ],
    ids=["published", "others"],
)
def test_the_objective_written_out(config: LossConfig, maps: list[torch.Tensor], masks: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(4)
    features, logits = (3 * torch.randn(3, size, generator=generator) for size in (8, 5))
    labels = torch.tensor([0, 0, 4])
    target = torch.full((3, 5), config.label_smoothing / 5)
    target[torch.arange(3), labels] += 1.0 - config.label_smoothing
    identity = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    triplet = batch_hard_triplet(features, labels, margin=config.margin, distance=config.distance)
    parts = as_published(maps, masks, config.mask_loss)
    expected = config.identity_weight * identity + config.triplet_weight * triplet + config.mask_weight * parts
    expected += config.contrastive_weight * supervised_contrastive(features, labels, config.temperature)
    expected += config.circle_weight * circle(features, labels, config.circle_margin, config.circle_scale)
    expected += config.center_weight * features.square().sum(dim=1).mean() / 2  # the centres are zero
    objective = Objective(config, 5, 8)
    values = objective(ReIDOutput(features, logits, tuple(maps)), labels, masks)
    assert values["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    if objective.center is not None:
        torch.testing.assert_close(objective.center.centers[4], config.center_rate * features[2] / 2)
    assert triplet > 0.1  # or else its weight, margin and distance would not show


def test_losses_without_a_weight_are_not_computed(maps: list[torch.Tensor], masks: torch.Tensor) -> None:
    objective = Objective(LossConfig(identity_weight=0.0, triplet_weight=0.0, circle_weight=1.0, mask_weight=0.0), 5, 8)
    values = objective(ReIDOutput(torch.ones(3, 8), torch.ones(3, 5), tuple(maps)), torch.tensor([0, 0, 4]), masks)
    assert set(values) == {"loss", "circle_loss"}
