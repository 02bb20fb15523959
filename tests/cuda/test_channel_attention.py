"""The channel-attention kernels, run thread by thread on the CPU, against float64."""

from __future__ import annotations

import ctypes

import pytest
import torch
from torch import Tensor

from tests.cuda.conftest import ELEMENTS, Call, Element, Guarded, largest_error, random_seed

# (element, place in the list of channel_shapes.hpp, B, R, P): block borders ± 1, odd sizes, depths of one and several passes.
WIDE16, SMALL16, NARROW16 = 0, 1, 2
WIDE32, NARROW32 = 0, 1
SIZES = [
    ("bf16", NARROW16, 2, 65, 40),
    ("bf16", NARROW16, 1, 1, 1),
    ("bf16", NARROW16, 1, 63, 129),
    ("bf16", SMALL16, 1, 33, 512),
    ("bf16", WIDE16, 1, 96, 136),
    ("fp16", NARROW16, 1, 64, 128),
    ("fp16", NARROW16, 1, 20, 261),
    ("fp16", SMALL16, 2, 31, 77),
    ("fp16", WIDE16, 1, 129, 48),
    ("tf32", NARROW32, 1, 33, 36),
    ("tf32", WIDE32, 1, 32, 500),
    ("tf32x3", NARROW32, 2, 31, 128),
    ("tf32x3", NARROW32, 1, 17, 131),
    ("tf32x3", WIDE32, 1, 48, 200),
    ("tf32x3", WIDE32, 1, 3, 7),
]


class Problem:
    """G and dY as the element stores them, and all results in float64."""

    def __init__(
        self, element: Element, clips: int, num_rows: int, depth: int, size: float = 1.0, one_sign: bool = False
    ) -> None:
        self.element, self.shape, self.seed = element, (clips, num_rows, depth), random_seed()
        generator = torch.Generator().manual_seed(self.seed)
        rows = torch.rand(self.shape, generator=generator) * size * (3.0 / depth**0.5)  # as after a ReLU
        grad = torch.randn(self.shape, generator=generator)
        grad = grad.abs() if one_sign else grad
        # Sometimes at an address that is no multiple of 16 bytes.
        self.shift = self.seed % 2
        self.rows, self.grad = (Guarded(x.to(element.dtype), element.dtype, self.shift) for x in (rows, grad))
        exact = self.rows.tensor.double().requires_grad_()
        logits = exact @ exact.mT
        self.mixed, self.log_sum = torch.softmax(logits, dim=-1) @ exact, logits.logsumexp(dim=-1).detach()
        (self.grad_rows,) = torch.autograd.grad(self.mixed, exact, self.grad.tensor.double())
        self.mixed = self.mixed.detach()

    def call(self, out: Guarded, log_sum: Guarded, grad_dot: Guarded | None = None) -> Call:
        dot = grad_dot.pointer if grad_dot else None
        return Call(self.rows.pointer, self.grad.pointer, log_sum.pointer, dot, out.pointer, *self.shape, self.seed)


@pytest.mark.parametrize(("name", "shape", "clips", "num_rows", "depth"), SIZES)
def test_forward(kernels: ctypes.CDLL, name: str, shape: int, clips: int, num_rows: int, depth: int) -> None:
    problem = Problem(ELEMENTS[name], clips, num_rows, depth)
    mixed, log_sum = run_forward(kernels, problem, shape)
    assert largest_error(mixed, problem.mixed) < problem.element.error
    torch.testing.assert_close(log_sum, problem.log_sum, atol=2e-2 if name == "tf32" else 2e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "shape", "clips", "num_rows", "depth"), SIZES)
def test_backward(kernels: ctypes.CDLL, name: str, shape: int, clips: int, num_rows: int, depth: int) -> None:
    problem = Problem(ELEMENTS[name], clips, num_rows, depth)
    result = run_backward(kernels, problem, shape)
    assert largest_error(result, problem.grad_rows) < 2 * problem.element.error


@pytest.mark.parametrize("frames", range(1, 9))
def test_frames(kernels: ctypes.CDLL, frames: int) -> None:
    """R = T·C for T = 1 to 8, C = 24."""
    problem = Problem(ELEMENTS["bf16"], 1, 24 * frames, 32)
    mixed, _ = run_forward(kernels, problem, NARROW16)
    assert largest_error(mixed, problem.mixed) < problem.element.error
    assert largest_error(run_backward(kernels, problem, NARROW16), problem.grad_rows) < 2 * problem.element.error


def test_logits_in_the_thousands(kernels: ctypes.CDLL) -> None:
    """Far above what float16 holds after a few doublings, and where exp of a logit itself overflows."""
    problem = Problem(ELEMENTS["tf32x3"], 1, 40, 64, size=30.0)
    assert problem.log_sum.max() > 2000
    mixed, log_sum = run_forward(kernels, problem, NARROW32)
    assert largest_error(mixed, problem.mixed) < 2e-3  # the rounding of such logits to float32, not of the products
    torch.testing.assert_close(log_sum, problem.log_sum, atol=1e-3, rtol=1e-6)


def test_negative_logits_and_zero_rows(kernels: ctypes.CDLL) -> None:
    problem = Problem(ELEMENTS["tf32x3"], 1, 40, 20)
    problem.rows.tensor[:, ::2] *= -1
    problem.rows.tensor[:, 5:9] = 0
    exact = problem.rows.tensor.double()
    mixed, _ = run_forward(kernels, problem, NARROW32)
    assert largest_error(mixed, torch.softmax(exact @ exact.mT, -1) @ exact) < problem.element.error


def test_float32_accuracy_with_many_rows(kernels: ctypes.CDLL) -> None:
    """Sums over all rows of a clip are not left to tensor cores, which cut them off at every step."""
    problem = Problem(ELEMENTS["tf32x3"], 1, 1500, 8)
    mixed, _ = run_forward(kernels, problem, NARROW32)
    assert largest_error(mixed, problem.mixed) < 2e-6


@pytest.mark.parametrize(("size", "forward_error", "error"), [(1, 6e-7, 1.5e-6), (3, 1.3e-6, 2e-5)])
@pytest.mark.parametrize("shape", [WIDE32, NARROW32])
def test_float32_accuracy_of_deep_rows(
    kernels: ctypes.CDLL, shape: int, size: float, forward_error: float, error: float
) -> None:
    """Nor are sums over the depth: where all products have one sign, what is cut off adds up, the more for logits of 25."""
    problem = Problem(ELEMENTS["tf32x3"], 1, 32, 512, size, one_sign=True)
    mixed, log_sum = run_forward(kernels, problem, shape)
    assert largest_error(mixed, problem.mixed) < forward_error
    assert largest_error(run_backward(kernels, problem, shape, (mixed, log_sum)), problem.grad_rows) < error


def test_a_gradient_that_only_rounding_keeps_from_cancelling(kernels: ctypes.CDLL) -> None:
    """The softmax of one row is 1 whatever its logit, so the gradient is dY; what δ is taken from is rounded to TF32."""
    for _ in range(20):
        problem = Problem(ELEMENTS["tf32"], 1, 1, 1)
        result = run_backward(kernels, problem, NARROW32, run_forward(kernels, problem, NARROW32))
        assert largest_error(result, problem.grad_rows) < 1e-3


@pytest.mark.parametrize(("name", "shape"), [("bf16", NARROW16), ("fp16", WIDE16), ("tf32x3", NARROW32)])
def test_the_order_of_threads_does_not_matter(kernels: ctypes.CDLL, name: str, shape: int) -> None:
    """Every run lets them take turns in another order."""
    problem = Problem(ELEMENTS[name], 1, 70, 32)
    results = []
    for seed in range(3):
        problem.seed = seed
        results.append((run_forward(kernels, problem, shape)[0], run_backward(kernels, problem, shape)))
    assert all(torch.equal(one, results[0][0]) and torch.equal(two, results[0][1]) for one, two in results)


def test_sixteen_bit_conversions_of_the_model(kernels: ctypes.CDLL) -> None:
    """The tests on the CPU round as torch does."""
    generator = torch.Generator().manual_seed(random_seed())
    bits = torch.randint(0, 2**31 - 1, (2000,), generator=generator, dtype=torch.int32)
    values = torch.cat([bits.view(torch.float32), torch.randn(2000, generator=generator), torch.rand(2000) * 1e-6])
    for name in ("fp16", "bf16"):
        number, dtype, _ = ELEMENTS[name]
        finite = values[values.to(dtype).isfinite()]
        for value, expected in zip(finite.tolist(), finite.to(dtype).view(torch.int16).tolist(), strict=True):
            stored = kernels.from_float_on_cpu(number, ctypes.c_float(value)) & 0xFFFF
            assert stored == expected & 0xFFFF, value
            back = torch.tensor(expected, dtype=torch.int16).view(dtype).float()
            assert kernels.to_float_on_cpu(number, stored) == back


def run_forward(kernels: ctypes.CDLL, problem: Problem, shape: int) -> tuple[Tensor, Tensor]:
    """Y and L."""
    out, log_sum = Guarded(problem.shape, problem.element.dtype, problem.shift), Guarded(problem.shape[:2], torch.float32)
    call = problem.call(out, log_sum)
    assert kernels.channel_forward_on_cpu(problem.element.number, shape, ctypes.byref(call)) == 0
    return out.result(), log_sum.result()


def run_backward(kernels: ctypes.CDLL, problem: Problem, shape: int, forward: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """dG, from Y and L (exact if they are not given) rounded as they are stored, and from the kernel's own δ."""
    element, (clips, num_rows, depth) = problem.element, problem.shape
    mixed_of_forward, log_sum_of_forward = forward or (problem.mixed, problem.log_sum)
    mixed = Guarded(mixed_of_forward.to(element.dtype), element.dtype)
    out, dot = Guarded(problem.shape, element.dtype, problem.shift), Guarded(problem.shape[:2], torch.float32)
    kernels.dot_rows_on_cpu(
        element.number,
        *map(ctypes.c_void_p, (problem.grad.pointer, mixed.pointer, dot.pointer)),
        clips * num_rows,
        depth,
    )
    dot.result()
    log_sum = Guarded(log_sum_of_forward.float(), torch.float32)
    call = problem.call(out, log_sum, dot)
    assert kernels.channel_backward_on_cpu(element.number, shape, ctypes.byref(call)) == 0
    return out.result()
