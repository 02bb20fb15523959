"""Fused attention as PyTorch operators: shapes for the compiler, gradients, and the CUDA kernels behind them.

``torch.ops.stcanet.channel_attention`` is ``softmax(G Gᵀ) G``. On a GPU it runs csrc/cuda and never stores the matrix of
logits; everywhere else it runs the same formulas in PyTorch, which is what tests hold the operator by.
Formulas: csrc/README.md.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stcanet_runtime import cuda
from stcanet_runtime.errors import BackendError, ShapeError

_NAME = "fused attention"


def channel_attention(rows: Tensor) -> Tensor:
    """``softmax(G Gᵀ) G`` for G = `rows` ``[B, R, P]``, in the dtype of `rows`; logits, softmax and sums in float32.

    float32 rows are multiplied in three TF32 products, which is float32 accuracy, or in one where
    ``torch.set_float32_matmul_precision`` allows TF32.

    Raises:
        ShapeError: `rows` has other dimensions.
        BackendError: `rows` is on a GPU, and the kernels are not built or have no instructions for the dtype there.
    """
    if rows.dim() != 3:
        raise ShapeError(f"expected rows [B, R, P], got {list(rows.shape)}")
    mixed: Tensor = _forward(rows)[0]
    return mixed


def why_not(rows: Tensor) -> str | None:
    """None where the kernels can take such tensors, else the reason."""
    problem: str | None = _why_not(rows.device, rows.dtype)
    return problem


# What is built and which GPU is there stays as it is: looking at it would end a compiled graph in each block.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _why_not(device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cuda":
        return f"the tensors are on the {device.type.upper()}"
    if dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"there are no kernels for {dtype}"
    capability = torch.cuda.get_device_capability(device)
    if capability < ((7, 5) if dtype == torch.float16 else (8, 0)):
        return f"a GPU of compute capability {capability[0]}.{capability[1]} has no tensor cores for {dtype}"
    return cuda.why_not()


@torch.library.custom_op("stcanet::channel_attention", mutates_args=())
def _forward(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Y ``[B, R, P]``, and the logarithm of the sum of exponentials of each row of logits ``[B, R]``."""
    exact = _wide(rows)
    logits = exact @ exact.mT
    return (torch.softmax(logits, dim=-1) @ exact).to(rows.dtype), logits.logsumexp(dim=-1)


@torch.library.custom_op("stcanet::channel_attention_backward", mutates_args=())
def _backward(rows: Tensor, mixed: Tensor, log_sum: Tensor, grad: Tensor) -> Tensor:
    """Gradient ``[B, R, P]``: with F = exp(G Gᵀ − L) and dS = F (dY Gᵀ − δ), it is ``Fᵀ dY + (dS + dSᵀ) G``."""
    exact, grad_exact = _wide(rows), _wide(grad)
    weights = (exact @ exact.mT - log_sum.unsqueeze(-1)).exp()
    dots = (grad_exact * _wide(mixed)).sum(dim=-1, keepdim=True)
    grad_logits = weights * (grad_exact @ exact.mT - dots)
    return (weights.mT @ grad_exact + (grad_logits + grad_logits.mT) @ exact).to(rows.dtype)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


@_forward.register_fake
def _(rows: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if rows.dtype == torch.float64 else torch.float32
    return torch.empty_like(rows, memory_format=torch.contiguous_format), rows.new_empty(rows.shape[:2], dtype=dtype)


@_backward.register_fake
def _(rows: Tensor, mixed: Tensor, log_sum: Tensor, grad: Tensor) -> Tensor:  # noqa: ARG001
    return torch.empty_like(rows, memory_format=torch.contiguous_format)


@_forward.register_kernel("cuda")
def _(rows: Tensor) -> tuple[Tensor, Tensor]:
    rows = rows.contiguous()
    mixed, log_sum = torch.empty_like(rows), rows.new_empty(rows.shape[:2], dtype=torch.float32)
    launch("channel_forward", (rows, mixed, log_sum), _precision(rows.dtype))
    return mixed, log_sum


@_backward.register_kernel("cuda")
def _(rows: Tensor, mixed: Tensor, log_sum: Tensor, grad: Tensor) -> Tensor:
    given = (rows, mixed, log_sum, grad.to(rows.dtype))
    rows, mixed, log_sum, grad = (x.contiguous() for x in given)  # also what the forward made: a caller may have moved it
    result, scratch = torch.empty_like(rows), torch.empty_like(log_sum)
    launch("channel_backward", (rows, mixed, log_sum, grad, result, scratch), _precision(rows.dtype))
    return result


def launch(function: str, arrays: tuple[Tensor, ...], name: str) -> None:
    """Call a kernel on the stream that PyTorch uses.

    Args:
        function: Its name in the module of the kernels.
        arrays: What it reads and writes, contiguous and on one device; the shape of the first goes with them.
        name: What the kernel calls its dtype.

    Raises:
        BackendError: The kernels cannot take this.
    """
    first = arrays[0]
    if (problem := why_not(first)) is not None:
        raise BackendError(_NAME, problem)
    if (elsewhere := next((array.device for array in arrays if array.device != first.device), None)) is not None:
        raise BackendError(_NAME, f"one tensor is on {first.device}, another on {elsewhere}")
    kernels = cuda.require(_NAME)
    with torch.cuda.device(first.device):
        stream = torch.cuda.current_stream().cuda_stream
        pointers = [array.data_ptr() for array in arrays]
        getattr(kernels, function)(*pointers, tuple(first.shape), name, first.device.index, stream)


def _precision(dtype: torch.dtype) -> str:
    if dtype == torch.float32:  # asked for float32 only: PyTorch has two ways to set it, and minds if both are used
        return "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32"
    return {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype, "")  # `launch` refuses the others


def _keep(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
    mixed, log_sum = output
    ctx.mark_non_differentiable(log_sum)
    ctx.save_for_backward(*inputs, mixed, log_sum)


def _differentiate(ctx: Any, grad_mixed: Tensor, _grad_log_sum: Tensor | None) -> Tensor:
    rows, mixed, log_sum = ctx.saved_tensors
    result: Tensor = _backward(rows, mixed, log_sum, grad_mixed)
    return result


_forward.register_autograd(_differentiate, setup_context=_keep)
