"""The operator of the part relation: its formulas and registrations on the CPU, the kernels on a GPU (-m gpu)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stcanet.model.fused_relation import part_relation
from stcanet.model.mixing import part_relation as by_setting
from stcanet_runtime import cuda
from stcanet_runtime.errors import BackendError, ShapeError

FORWARD, BACKWARD = torch.ops.stcanet.part_relation, torch.ops.stcanet.part_relation_backward


def make_inputs(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(dtype), torch.randn(shape[2], generator=generator)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of opcheck's own copies
def test_registrations() -> None:
    nodes, weight = make_inputs(2, 4, 5, dtype=torch.bfloat16)
    torch.library.opcheck(FORWARD.default, (nodes.clone().requires_grad_(), weight.clone().requires_grad_()))
    torch.library.opcheck(BACKWARD.default, (nodes, weight, torch.ones(2, 4, 4)))


def test_gradient_against_differences() -> None:
    nodes, weight = (x.double().requires_grad_() for x in make_inputs(2, 4, 3))
    assert torch.autograd.gradcheck(part_relation, (nodes, weight))


def test_equals_the_eager_path_and_its_gradients() -> None:
    nodes, weight = make_inputs(2, 12, 16)
    nodes[:, 3] = nodes[:, 7]
    grad = torch.randn(2, 12, 12, generator=torch.Generator().manual_seed(1))
    results = []
    for function in (lambda x, w: part_relation(x, w.squeeze(0)), by_setting):
        leaves = nodes.clone().requires_grad_(), weight[None].clone().requires_grad_()
        logits = function(*leaves)
        logits.backward(grad)
        results.append((logits.detach(), *(leaf.grad for leaf in leaves)))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-5)


def test_wrong_shapes_and_a_device_without_kernels() -> None:
    nodes, weight = make_inputs(1, 4, 3)
    with pytest.raises(ShapeError, match=r"\[1, 4, 3\] and \[2\]"):
        part_relation(nodes, weight[:2])
    with pytest.raises(BackendError, match="the tensors are on the CPU"):
        by_setting(nodes, weight[None], "fused")


needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available() or cuda.why_not() is not None, reason=f"no GPU for the kernels: {cuda.why_not()}"
)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 4, 40), (3, 7, 131), (32, 16, 256), (4, 32, 512)], ids=str)
def test_kernels_against_float64_sanitize(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    """Drawn anew each run."""
    nodes = torch.randn(shape, device="cuda").to(dtype).requires_grad_()
    weight = torch.randn(shape[2], device="cuda", requires_grad=True)
    grad = torch.randn(shape[0], shape[1], shape[1], device="cuda")
    logits = part_relation(nodes, weight)
    exact = nodes.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    expected = part_relation_of(*exact)
    torch.testing.assert_close(logits.double(), expected, atol=1e-3, rtol=1e-5)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    results = torch.autograd.grad(logits, (nodes, weight), grad)
    for result, wanted in zip(results, torch.autograd.grad(expected, exact, grad.double()), strict=True):
        assert (result.double() - wanted).abs().max() <= tolerance * wanted.abs().max()


def part_relation_of(nodes: Tensor, weight: Tensor) -> Tensor:
    return ((nodes.unsqueeze(2) - nodes.unsqueeze(1)).abs() * weight).sum(dim=-1)
