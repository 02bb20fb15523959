"""The part-relation kernels, run thread by thread on the CPU, against float64."""

from __future__ import annotations

import ctypes

import pytest
import torch
from torch import Tensor

from tests.cuda.conftest import ELEMENTS, Element, Guarded, largest_error, random_seed

STORED = {"fp32": ELEMENTS["tf32"], "fp16": ELEMENTS["fp16"], "bf16": ELEMENTS["bf16"]}
# B, M, D: no pair at all, odd sizes, M = 4 T for T = 1, 2 and 5.
SIZES = [(2, 1, 5), (1, 3, 33), (2, 4, 16), (1, 8, 70), (1, 20, 31)]


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("stored", list(STORED))
def test_forward_and_backward(kernels: ctypes.CDLL, stored: str, shape: tuple[int, int, int]) -> None:
    element, seed = STORED[stored], random_seed()
    generator = torch.Generator().manual_seed(seed)
    nodes = torch.randn(shape, generator=generator).to(element.dtype)
    nodes[0, -1] = nodes[0, 0]  # equal nodes: the gradient of their distance is 0
    weight = torch.randn(shape[2], generator=generator)
    grad = torch.randn(shape[0], shape[1], shape[1], generator=generator)  # not symmetric
    logits, grads = run(kernels, element, nodes, weight, grad, seed)
    expected, expected_grads = exact(nodes, weight, grad)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-5)
    assert torch.equal(logits, logits.mT)
    tolerance = 1e-5 if stored == "fp32" else element.error
    for result, wanted in zip(grads, expected_grads, strict=True):
        assert wanted.abs().max() == result.abs().max() == 0 or largest_error(result, wanted) < tolerance


def exact(nodes: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Logits, and the gradients of nodes and weight, in float64."""
    exact_nodes, exact_weight = nodes.double().requires_grad_(), weight.double().requires_grad_()
    logits = ((exact_nodes[:, :, None] - exact_nodes[:, None]).abs() * exact_weight).sum(dim=-1)
    return logits.detach(), torch.autograd.grad(logits, (exact_nodes, exact_weight), grad.double())


def run(
    kernels: ctypes.CDLL, element: Element, nodes: Tensor, weight: Tensor, grad: Tensor, seed: int
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Logits, and the gradients of nodes and weight."""
    x, w, g = Guarded(nodes, element.dtype), Guarded(weight, torch.float32), Guarded(grad, torch.float32)
    out = Guarded(tuple(grad.shape), torch.float32)
    grad_nodes, grad_weight = Guarded(tuple(nodes.shape), element.dtype), Guarded(tuple(nodes.shape), torch.float32)
    pointers = {name: ctypes.c_void_p(value.pointer) for name, value in locals().items() if isinstance(value, Guarded)}
    kernels.relation_forward_on_cpu(element.number, *(pointers[name] for name in ("x", "w", "out")), *nodes.shape, seed)
    kernels.relation_backward_on_cpu(
        element.number, *(pointers[name] for name in ("x", "w", "g", "grad_nodes", "grad_weight")), *nodes.shape
    )
    return out.result(), (grad_nodes.result(), grad_weight.result().sum(dim=(0, 1)))
