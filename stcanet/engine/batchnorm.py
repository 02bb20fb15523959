"""Batch normalisation with the statistics of the joint batch of all processes.

On GPUs that is torch's SyncBatchNorm. It does not exist on CPUs, where this module's is used; that one is what the tests can
hold against a single process.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stcanet.engine.distributed import World
from stcanet.model import STCANet


def synchronise_batchnorm(model: STCANet, device: torch.device, world: World) -> STCANet:
    """The network with every batch normalisation made a joint one; names and values of its weights stay."""
    if device.type == "cuda":
        converted: STCANet = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return converted
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, JointBatchNorm.of(child, world))
    return model


class JointBatchNorm(_BatchNorm):
    """``(x − mean) / √(var + eps) · weight + bias`` over all dimensions but the second, and all processes.

    Processes must have the same number of values. The variance is taken around the mean in a second pass: the mean of
    squares less the square of the mean would cancel.
    """

    world: World

    @classmethod
    def of(cls, norm: _BatchNorm, world: World) -> JointBatchNorm:
        """The same layer, made joint: it shares the parameters and buffers of `norm`."""
        joint = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        joint._parameters, joint._buffers = norm._parameters, norm._buffers  # noqa: SLF001  (as torch's own conversion)
        joint.train(norm.training)
        joint.world = world
        return joint

    def _check_input_dim(self, _: Tensor) -> None:
        """Any number of dimensions from two on."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, …]`` to the same shape."""
        if not self.training:
            return super().forward(x)
        given = x.dtype
        x = x.to(torch.promote_types(given, torch.float32))  # sums of bfloat16 would be too coarse
        dims = [0, *range(2, x.dim())]
        shape = [1, -1] + [1] * (x.dim() - 2)
        mean = _mean_over(self.world, x.mean(dims))
        centred = x - mean.view(shape)
        variance = _mean_over(self.world, centred.square().mean(dims))
        self._follow(mean.detach(), variance.detach(), self.world.size * x.numel() // x.shape[1])
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(shape) + self.bias.view(shape)).to(given)

    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)


def _mean_over(world: World, values: Tensor) -> Tensor:
    mean: Tensor = _Mean.apply(values, world)
    return mean


class _Mean(torch.autograd.Function):
    """The mean over all processes, of values and of gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, world: World) -> Tensor:
        ctx.world = world
        return _reduced(values, world)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _reduced(gradient, ctx.world), None


def _reduced(values: Tensor, world: World) -> Tensor:
    total = values.contiguous().clone()
    if world.size > 1:
        dist.all_reduce(total)
    return total / world.size
