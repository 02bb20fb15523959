"""What the fused kernels are for: the cores of channel and part attention, their implementations, and which one is taken."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stcanet.config.model import Attention
from stcanet.model import fused, fused_relation
from stcanet_runtime.errors import BackendError

SOFTMAX_DEPTH = 60.0
"""How far below its row's largest logit a logit can fall before it is raised to that depth."""

FASTER_FUSED: frozenset[tuple[tuple[int, int], torch.dtype, int]] = frozenset()
"""For which (compute capability, dtype, length of a row: P or D) 'auto' takes the fused kernels.

An entry belongs here when benchmarks/bench_attention.py has shown on such a GPU that they are right, and faster at every
shape that has such rows. Empty: no GPU has run them yet, so whoever wants them names them.
"""


def channel_mix(rows: Tensor, attention: Attention = "eager") -> Tensor:
    """``softmax(G Gᵀ) G`` for G = `rows` ``[B, R, P]``, outside of autocast.

    'eager' and 'fused' have logits, softmax and sums in float32 whatever the dtype of `rows`; 'sdpa' leaves them to PyTorch.

    Args:
        rows: G, with R = T·C.
        attention: The implementation; 'auto' as :func:`choose` says.

    Returns:
        ``[B, R, P]``, float32 or the dtype of `rows`.

    Raises:
        BackendError: 'fused' was asked for and cannot run on these rows.
    """
    implementation = choose(rows, attention)
    with torch.autocast(rows.device.type, enabled=False):
        if implementation == "fused":
            return fused.channel_attention(rows)
        return _sdpa(rows) if implementation == "sdpa" else _eager(rows)


def part_relation(nodes: Tensor, weight: Tensor, attention: Attention = "eager") -> Tensor:
    """``e_ij = w · |x_i − x_j|`` for all pairs of nodes x ``[B, M, D]`` and w = `weight` ``[1, D]``, as ``[B, M, M]``.

    'sdpa' has no such thing and means the eager path here.

    Raises:
        BackendError: 'fused' was asked for and cannot run on these nodes.
    """
    if choose(nodes, attention) == "fused":
        return fused_relation.part_relation(nodes, weight.squeeze(0))
    return F.linear(fused_relation.differences(nodes).abs(), weight).squeeze(-1)


def choose(rows: Tensor, attention: Attention) -> Attention:
    """The implementation that a setting means for such tensors: never another one than was named."""
    if attention == "auto":
        usable = rows.device.type == "cuda" and (_capability(rows.device), rows.dtype, rows.shape[-1]) in FASTER_FUSED
        # Not sdpa: its fast kernels stop at P = 256; for the 512 of stage 2 it holds [R, R] in memory as the eager path does.
        return "fused" if usable and fused.why_not(rows) is None else "eager"
    if attention == "fused" and (problem := fused.why_not(rows)) is not None:
        raise BackendError("fused attention", problem, "take model.attention 'auto'")
    return attention


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def _eager(rows: Tensor) -> Tensor:
    """In float32.

    The logits are raw inner products of up to P activations and reach the thousands: half precision overflows, and
    bfloat16 cannot tell neighbouring logits apart. For the same reason most weights would be denormal numbers, with
    which CPUs multiply ten times slower. exp(−60) ≈ 9e-27 is a normal number, and far below what a float32 sum resolves.
    """
    rows = rows.float()
    logits = rows @ rows.mT
    deepest = logits.detach().amax(dim=-1, keepdim=True) - SOFTMAX_DEPTH
    mixed: Tensor = torch.softmax(torch.maximum(logits, deepest), dim=-1) @ rows
    return mixed


def _sdpa(rows: Tensor) -> Tensor:
    """By whatever PyTorch takes for attention with scale 1; in the dtype of `rows`, with float32 sums."""
    tokens = rows.unsqueeze(1)
    return F.scaled_dot_product_attention(tokens, tokens, tokens, scale=1.0).squeeze(1)
