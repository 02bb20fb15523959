"""The pairwise relation of body parts as a PyTorch operator that never stores ``[B, M, M, D]``.

``torch.ops.stcanet.part_relation`` is ``e_ij = Σ_d w_d |x_id − x_jd|``. On a GPU it runs csrc/cuda; everywhere else the same
formulas in PyTorch, which is what tests hold the operator by.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stcanet.model.fused import launch
from stcanet_runtime.errors import ShapeError

_STORAGE = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


def part_relation(nodes: Tensor, weight: Tensor) -> Tensor:
    """Weighted distances ``[B, M, M]`` between all nodes ``[B, M, D]`` of a clip, by ``weight`` ``[D]``; float32, symmetric.

    Raises:
        ShapeError: The shapes are others.
        BackendError: The nodes are on a GPU, and the kernels are not built.
    """
    if nodes.dim() != 3 or weight.shape != nodes.shape[2:]:
        raise ShapeError(f"expected nodes [B, M, D] and weight [D], got {list(nodes.shape)} and {list(weight.shape)}")
    logits: Tensor = _forward(nodes, weight)
    return logits


@torch.library.custom_op("stcanet::part_relation", mutates_args=())
def _forward(nodes: Tensor, weight: Tensor) -> Tensor:
    wide = _sum_dtype(nodes)
    return differences(nodes.to(wide)).abs() @ weight.to(wide)


@torch.library.custom_op("stcanet::part_relation_backward", mutates_args=())
def _backward(nodes: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the nodes, ``w_d Σ_j (dE_ij + dE_ji) sign(x_id − x_jd)``, and of the weight, ``Σ dE_ij |x_id − x_jd|``."""
    wide = _sum_dtype(nodes)
    apart = differences(nodes.to(wide))
    both = (grad + grad.mT).unsqueeze(-1)
    of_nodes = (both * apart.sign()).sum(dim=2) * weight.to(wide)
    of_weight = (grad.unsqueeze(-1) * apart.abs()).sum(dim=(0, 1, 2))
    return of_nodes.to(nodes.dtype), of_weight.to(weight.dtype)


def differences(nodes: Tensor) -> Tensor:
    """``x_i − x_j`` of all pairs: ``[B, M, D]`` to ``[B, M, M, D]``."""
    return nodes.unsqueeze(2) - nodes.unsqueeze(1)


def _sum_dtype(nodes: Tensor) -> torch.dtype:
    return torch.float64 if nodes.dtype == torch.float64 else torch.float32


@_forward.register_fake
def _(nodes: Tensor, weight: Tensor) -> Tensor:  # noqa: ARG001
    return nodes.new_empty((nodes.shape[0], nodes.shape[1], nodes.shape[1]), dtype=_sum_dtype(nodes))


@_backward.register_fake
def _(nodes: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return torch.empty_like(nodes, memory_format=torch.contiguous_format), torch.empty_like(weight)


@_forward.register_kernel("cuda")
def _(nodes: Tensor, weight: Tensor) -> Tensor:
    nodes, weight = nodes.contiguous(), weight.float().contiguous()
    logits = nodes.new_empty((nodes.shape[0], nodes.shape[1], nodes.shape[1]), dtype=torch.float32)
    launch("relation_forward", (nodes, weight, logits), _STORAGE.get(nodes.dtype, ""))
    return logits


@_backward.register_kernel("cuda")
def _(nodes: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    nodes, grad = nodes.contiguous(), grad.float().contiguous()
    of_nodes, of_weight = torch.empty_like(nodes), torch.empty_like(nodes, dtype=torch.float32)
    launch("relation_backward", (nodes, weight.float().contiguous(), grad, of_nodes, of_weight), _STORAGE.get(nodes.dtype, ""))
    return of_nodes, of_weight.sum(dim=(0, 1)).to(weight.dtype)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    result: tuple[Tensor, Tensor] = _backward(*ctx.saved_tensors, grad)
    return result


_forward.register_autograd(_differentiate, setup_context=_keep)
