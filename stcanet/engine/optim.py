"""Optimisers and what they update: the backbone and the new layers, with and without weight decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stcanet.config import OptimConfig
from stcanet.model import STCANet


def make_optimizer(model: STCANet, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimiser of a network, in torch's fused implementation. Each group has a ``factor`` of the learning rate."""
    groups = parameter_groups(model, config)
    match config.optimizer:
        case "adam":
            return torch.optim.Adam(groups, lr=config.lr, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=config.lr, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=True)


def parameter_groups(model: STCANet, config: OptimConfig) -> list[dict[str, Any]]:
    """All parameters once, in groups of one learning rate and weight decay; groups without parameters are left out."""
    groups = []
    for of_backbone, factor in ((True, config.backbone_factor), (False, config.new_factor)):
        for spared in (False, True):
            params = [
                parameter
                for name, parameter in model.named_parameters()
                if name.startswith("backbone.") == of_backbone and _is_spared(model, name, config) == spared
            ]
            if params:
                groups.append({"params": params, "factor": factor, "weight_decay": 0.0 if spared else config.weight_decay})
    return groups


def _is_spared(model: nn.Module, name: str, config: OptimConfig) -> bool:
    """Whether a parameter is spared the weight decay."""
    owner, _, kind = name.rpartition(".")
    return not config.decay_norms and (kind == "bias" or isinstance(model.get_submodule(owner), _BatchNorm))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the base learning rate; each group takes its factor of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def freeze_backbone(model: STCANet, frozen: bool) -> None:
    """Put a network into training mode, its backbone resting or not: weights and batch statistics."""
    model.train()
    model.backbone.train(not frozen)
    model.backbone.requires_grad_(not frozen)
