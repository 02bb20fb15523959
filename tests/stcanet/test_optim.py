"""Optimisers, groups, freezing, accumulation, clipping, averaging."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

from stcanet.config import LossConfig, OptimConfig, TrainConfig, make_config
from stcanet.engine.average import WeightAverage
from stcanet.engine.batches import Batch
from stcanet.engine.learner import Learner
from stcanet.engine.optim import make_optimizer, parameter_groups, set_rate
from stcanet.engine.schedule import lr_factor
from stcanet.model import STCANet, build_model
from stcanet_runtime.errors import ConfigError

CPU = torch.device("cpu")


def model(seed: int = 0) -> STCANet:
    torch.manual_seed(seed)
    return build_model("stcanet-tiny", 6, height=32, width=32)


def config(**optim: object) -> TrainConfig:
    return make_config({"data": "x", "preset": "stcanet-tiny", "optim": optim})


def batch(seed: int = 1, size: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(torch.randn(size, 3, 32, 32, generator=generator), torch.arange(size) // 2)


def weights_after(steps: int, **optim: object) -> dict[str, torch.Tensor]:
    learner = Learner(model(), config(**optim), CPU)
    learner.begin_epoch(1)
    for step in range(steps):
        learner.step(batch(step), 1, step, steps)
    return {name: value.clone() for name, value in learner.state_dict()["model"].items()}


@pytest.mark.parametrize("decay_norms", [True, False])
def test_groups_hold_every_parameter_once(decay_norms: bool) -> None:
    network = model()
    groups = parameter_groups(network, OptimConfig(backbone_factor=0.1, new_factor=2.0, decay_norms=decay_norms))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    seen = [(names[id(parameter)], group) for group in groups for parameter in group["params"]]
    assert sorted(name for name, _ in seen) == sorted(names.values())
    for name, group in seen:
        assert group["factor"] == (0.1 if name.startswith("backbone.") else 2.0)
        spared = not decay_norms and (name.endswith("bias") or "norm" in name or "bn" in name or "neck" in name)
        # The second layer of a down-sampling branch and of the stem is a normalisation without that in its name.
        spared = spared or (not decay_norms and (".downsample.1." in name or ".stem.1." in name))
        assert group["weight_decay"] == (0.0 if spared else 5e-4), name


def test_rates_follow_their_factors() -> None:
    optimizer = make_optimizer(model(), OptimConfig(backbone_factor=0.1, new_factor=2.0))
    set_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 1.0]


def test_the_cosine_begins_where_the_warmup_ends() -> None:
    optim = OptimConfig(schedule="cosine", warmup_epochs=2.0, final=0.1)
    assert [lr_factor(epoch, 10, optim) for epoch in (0, 1, 2, 6, 10)] == pytest.approx([0.01, 0.505, 1.0, 0.55, 0.1])


def test_the_rate_follows_the_epochs_that_are_done() -> None:
    """That of the first batch of each update: of two, here."""
    learner = Learner(model(), config(lr=0.5, backbone_factor=0.1, milestones=[1], warmup_epochs=0.5, accumulate=2), CPU)
    rates = []
    for epoch, step in ((1, 3), (1, 5), (2, 1)):
        learner.step(batch(), epoch, step, 8)
        rates.append(learner.rate)
    assert rates == pytest.approx([0.5 * 0.505, 0.5, 0.05])


@pytest.mark.parametrize(
    ("amp", "units", "taken", "said"),
    [
        ("on", False, True, True),
        ("on", True, True, False),
        ("auto", False, False, False),
        ("auto", True, True, False),
        ("off", True, False, False),
    ],
)
def test_bf16_where_it_is_slow_is_said(monkeypatch: pytest.MonkeyPatch, amp: str, units: bool, taken: bool, said: bool) -> None:
    monkeypatch.setattr("stcanet.engine.learner.has_bf16_units", lambda _: units)
    learner = Learner(model(), make_config({"data": "x", "amp": amp}), CPU)
    assert learner.autocast == taken
    kinds = []
    learner.model.backbone.stem[0].register_forward_hook(lambda _, __, output: kinds.append(output.dtype))
    learner.step(batch(), 1, 0, 1)
    assert kinds == [torch.bfloat16 if taken else torch.float32]
    assert [note.startswith("bf16 is slower than fp32 on this CPU") for note in learner.notes()] == [True] * said


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, torch.optim.Adam),
        ({"optimizer": "adamw"}, torch.optim.AdamW),
        ({"optimizer": "sgd", "nesterov": True}, torch.optim.SGD),
    ],
)
def test_fused_steps_are_those_of_the_textbook_loop(settings: dict, expected: type[torch.optim.Optimizer]) -> None:
    network, twin = model(), model()
    optimizer = make_optimizer(network, OptimConfig(lr=1e-2, **settings))
    assert type(optimizer) is expected
    momentum = {"momentum": 0.9, "nesterov": True} if expected is torch.optim.SGD else {}
    plain = expected(twin.parameters(), lr=1e-2, weight_decay=5e-4, foreach=False, fused=False, **momentum)  # type: ignore[call-arg]
    for _ in range(3):
        for net, opt in ((network, optimizer), (twin, plain)):
            generator = torch.Generator().manual_seed(5)
            for parameter in net.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            opt.step()
    for ours, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_frozen_backbone_rests_while_new_layers_train() -> None:
    before = model().state_dict()
    learner = Learner(model(), config(freeze_epochs=1), CPU)
    learner.begin_epoch(1)
    learner.step(batch(), 1, 0, 1)
    after = {name: value.clone() for name, value in learner.model.state_dict().items()}
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("backbone."))
    assert not torch.equal(after["head.classifier.weight"], before["head.classifier.weight"])
    learner.model.eval()
    learner.begin_epoch(2)
    assert all(module.training for module in learner.model.modules())
    learner.step(batch(), 2, 0, 1)
    moved = learner.model.state_dict()
    assert not torch.equal(moved["backbone.stem.0.weight"], after["backbone.stem.0.weight"])
    assert not torch.equal(moved["backbone.stem.1.running_mean"], after["backbone.stem.1.running_mean"])


def test_accumulated_batches_make_one_update_of_their_mean_gradient() -> None:
    """Five batches by two: updates after 2, 4 and 5; the same batch twice gives the gradient of one, as the last one does."""
    learner = Learner(model(), config(accumulate=2, optimizer="sgd", momentum=0.0, lr=0.1), CPU)
    learner.begin_epoch(1)
    assert [learner.ends_update(step, 5) for step in range(5)] == [False, True, False, True, True]
    start = {name: value.clone() for name, value in learner.model.named_parameters()}
    learner.step(batch(), 1, 0, 5)
    assert all(torch.equal(value, start[name]) for name, value in learner.model.named_parameters())
    learner.step(batch(), 1, 1, 5)
    once = Learner(model(), config(optimizer="sgd", momentum=0.0, lr=0.1), CPU)
    once.begin_epoch(1)
    once.step(batch(), 1, 0, 5)
    for either in (learner, once):
        either.step(batch(2), 1, 4, 5)
        assert all(parameter.grad is None for parameter in either.model.parameters())  # or else it would count again
    for (name, ours), theirs in zip(learner.model.named_parameters(), once.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_loss_that_is_no_number_moves_no_weight(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = Learner(model(), config(lr=0.01), CPU)
    learner.begin_epoch(1)
    forward = learner._objective.forward
    monkeypatch.setattr(learner._objective, "forward", lambda *given: {"loss": value * forward(*given)["loss"]})
    with pytest.raises(ConfigError, match=rf"the loss became {value}; lower the learning rate \(now 0\.01\)"):
        learner.step(batch(), 1, 0, 1)
    assert all(torch.equal(*pair) for pair in zip(learner.model.parameters(), model().parameters(), strict=True))


def test_the_accuracy_is_the_share_of_right_classes() -> None:
    given = batch()
    labels = model().train()(given.images).logits.argmax(dim=1)
    labels[0] = (labels[0] + 1) % 6  # of 6 classes
    values = Learner(model(), config(), CPU).step(given._replace(labels=labels), 1, 0, 1)
    assert values["accuracy"] == pytest.approx(1 - 1 / len(labels))


def test_clipping_bounds_the_update() -> None:
    start = model().state_dict()

    def moved(**optim: object) -> float:
        after = weights_after(1, optimizer="sgd", momentum=0.0, weight_decay=0.0, lr=1.0, **optim)
        names = [name for name, _ in model().named_parameters()]
        return float(torch.cat([(after[name] - start[name]).flatten() for name in names]).norm())

    assert moved() > 0.1
    assert moved(clip_norm=0.1) == pytest.approx(0.1, rel=1e-2)  # float32 weights round what is added


def test_the_average_is_what_is_evaluated() -> None:
    learner = Learner(model(), config(ema_decay=0.5, lr=1e-2), CPU)
    learner.begin_epoch(1)
    expected: dict[str, torch.Tensor] = {}
    for step in range(4):
        learner.step(batch(step), 1, step, 4)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in learner.state_dict()["model"].items():
            first = step == 0 or not value.is_floating_point()
            expected[name] = value.clone() if first else decay * expected[name] + (1 - decay) * value
    averaged = learner.model.state_dict()
    for name, value in expected.items():
        if value.is_floating_point():
            torch.testing.assert_close(averaged[name], value, rtol=1e-5, atol=1e-6)
    assert not torch.equal(averaged["head.neck.bias"], learner.state_dict()["model"]["head.neck.bias"])


def test_a_learner_goes_on_from_its_state() -> None:
    """With everything that has a state: weights, optimiser, average, centres."""
    settings = replace(config(ema_decay=0.5, lr=1e-2), loss=LossConfig(center_weight=0.1))
    first, again = Learner(model(), settings, CPU), Learner(model(1), settings, CPU)
    first.step(batch(1), 1, 0, 2)
    again.load_state_dict(copy.deepcopy(first.state_dict()))
    values = [learner.step(batch(2), 1, 1, 2) for learner in (first, again)]
    assert values[0] == values[1]
    states = [learner.state_dict() for learner in (first, again)]
    for kept in ("model", "objective", "average"):
        assert all(torch.equal(*pair) for pair in zip(*(state[kept].values() for state in states), strict=True)), kept


def test_a_new_average_is_the_network() -> None:
    network = model()
    average = WeightAverage(network, 0.999)
    average.update(network)
    assert all(torch.equal(a, b) for a, b in zip(average.model.parameters(), network.parameters(), strict=True))


def test_compiled_training_traces_the_whole_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without generating code, which takes a minute on a CPU: `torch.compile` is given one graph with the same losses."""
    graphs, compiler = [], torch.compile

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    def trace(network: torch.nn.Module) -> object:
        return compiler(network, backend=backend, fullgraph=True)

    monkeypatch.setattr(torch, "compile", trace)
    losses = []
    for compiled in (False, True):
        learner = Learner(model(), replace(config(), compile=compiled), CPU)
        learner.begin_epoch(1)
        losses.append([learner.step(batch(step), 1, step, 2)["loss"] for step in range(2)])
    assert len(graphs) == 1
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
