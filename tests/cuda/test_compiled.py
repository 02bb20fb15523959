"""What nvcc makes of the CUDA kernels, from the bindings to the instructions, on a machine of PTX; see tests/ptx."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.cuda import test_channel_attention
from tests.cuda.conftest import ELEMENTS, Guarded, largest_error, random_seed
from tests.cuda.test_channel_attention import Problem
from tests.cuda.test_part_relation import STORED, exact
from tests.ptx import device
from tests.ptx.device import Gpu
from tests.ptx.instructions import KernelError
from tests.ptx.parser import Module

pytestmark = pytest.mark.skipif(device.NVCC is None, reason="no nvcc to compile the CUDA kernels with")

# (GPU, B, R, P): every shape of channel_shapes.hpp; block borders ± 1, odd sizes, depths of one and several passes.
CASES = [("ada", 2, 65, 40), ("ada", 1, 33, 136), ("a100", 1, 31, 261), ("hopper", 1, 70, 200), ("ada", 1, 17, 517)]


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Gpu:
    return Gpu(device.build(tmp_path_factory.mktemp("kernels")))


@pytest.fixture
def launched(gpu: Gpu) -> Iterator[list[str]]:
    gpu.launched.clear()
    yield gpu.launched
    gpu.launched.clear()


@pytest.mark.parametrize("precision", list(ELEMENTS))
def test_all_kernels_of_the_channel_attention(gpu: Gpu, launched: list[str], precision: str) -> None:
    """The launchers choose every kernel that there is for some GPU and depth, and all are right."""
    cases = [*CASES, ("turing", 1, 65, 40), ("turing", 1, 20, 131)] if precision == "fp16" else CASES
    for case in cases:
        compare_channel_attention(gpu, precision, *case)
    element = {"fp16": "Fp16", "bf16": "Bf16", "tf32": "Tf32E", "tf32x3": "Tf32x3E"}[precision]
    kernels = {name for name in gpu.beside(launched[0]) if element in name}
    assert len(kernels) == (7 if precision in {"fp16", "bf16"} else 5)
    assert kernels == set(launched)


def compare_channel_attention(gpu: Gpu, precision: str, kind: str, clips: int, num_rows: int, depth: int) -> None:
    """Forward and backward as a model has them, one from the results of the other."""
    problem = Problem(ELEMENTS[precision], clips, num_rows, depth)
    dtype, error = problem.element.dtype, problem.element.error
    mixed, result = (Guarded(problem.shape, dtype, problem.shift) for _ in range(2))
    log_sum, scratch = (Guarded(problem.shape[:2], torch.float32) for _ in range(2))
    how = problem.shape, precision, 0, 0
    with gpu.of_kind(kind, problem.rows.tensor, mixed.tensor, log_sum.tensor) as kernels:
        kernels.channel_forward(problem.rows.pointer, mixed.pointer, log_sum.pointer, *how)
    assert largest_error(mixed.result(), problem.mixed) < error
    torch.testing.assert_close(log_sum.result(), problem.log_sum, atol=2e-2 if precision == "tf32" else 2e-5, rtol=1e-5)
    arrays = [problem.rows, mixed, log_sum, problem.grad, result, scratch]
    with gpu.of_kind(kind, *(array.tensor for array in arrays)) as kernels:
        kernels.channel_backward(*(array.pointer for array in arrays), *how)
    assert largest_error(result.result(), problem.grad_rows) < 2 * error


@pytest.mark.parametrize("kind", ["turing", "a100"])
@pytest.mark.parametrize("stored", list(STORED))
def test_part_relation(gpu: Gpu, stored: str, kind: str) -> None:
    element, generator = STORED[stored], torch.Generator().manual_seed(random_seed())
    for clips, count, depth in ((2, 1, 5), (1, 3, 33), (2, 8, 140)):
        nodes = torch.randn(clips, count, depth, generator=generator).to(element.dtype)
        nodes[0, -1] = nodes[0, 0]  # equal nodes: the gradient of their distance is 0
        weight, grad = torch.randn(depth, generator=generator), torch.randn(clips, count, count, generator=generator)
        x, w, g = Guarded(nodes, element.dtype), Guarded(weight, torch.float32), Guarded(grad, torch.float32)
        out, of_nodes = Guarded((clips, count, count), torch.float32), Guarded((clips, count, depth), element.dtype)
        of_weight = Guarded((clips, count, depth), torch.float32)
        how = (clips, count, depth), stored, 0, 0
        with gpu.of_kind(kind, *(array.tensor for array in (x, w, g, out, of_nodes, of_weight))) as kernels:
            kernels.relation_forward(x.pointer, w.pointer, out.pointer, *how)
            kernels.relation_backward(x.pointer, w.pointer, g.pointer, of_nodes.pointer, of_weight.pointer, *how)
        logits, wanted = exact(nodes, weight, grad)
        torch.testing.assert_close(out.result(), logits, atol=1e-4, rtol=1e-5)
        for result, right in zip((of_nodes.result(), of_weight.result().sum(dim=(0, 1))), wanted, strict=True):
            torch.testing.assert_close(result, right, atol=element.error * float(right.abs().max()), rtol=0)


def test_without_tensor_cores_for_the_type(gpu: Gpu) -> None:
    rows = Guarded(torch.rand(1, 4, 4), torch.bfloat16)
    with pytest.raises(RuntimeError, match="launching the channel attention"), gpu.of_kind("turing", rows.tensor) as kernels:
        kernels.channel_forward(rows.pointer, rows.pointer, rows.pointer, (1, 4, 4), "bf16", 0, 0)


# --- the machine finds what is wrong ---


def test_memory_that_was_not_given(gpu: Gpu) -> None:
    rows, mixed = Guarded(torch.rand(1, 9, 8), torch.float16), Guarded((1, 9, 8), torch.float16)
    log_sum = Guarded((1, 9), torch.float32)
    for missing in range(3):
        arrays = [array.tensor for array in (rows, mixed, log_sum)]
        arrays[missing] = arrays[missing].reshape(-1)[:-1]
        with pytest.raises(KernelError, match="outside of what was given"), gpu.of_kind("a100", *arrays) as kernels:
            kernels.channel_forward(rows.pointer, mixed.pointer, log_sum.pointer, (1, 9, 8), "fp16", 0, 0)


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_a_barrier_less(gpu: Gpu, launched: list[str], precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever barrier of the kernels is left out, or wait for a copy: a race is found, or memory that nobody wrote."""
    monkeypatch.setattr(test_channel_attention, "random_seed", lambda: 2)  # rows that can be copied in the background
    case = ("small", 1, 65, 136) if precision == "bf16" else ("ada", 1, 65, 132)  # two tiles of rows, in two passes
    compare_channel_attention(gpu, precision, *case)
    whole = {name: gpu.kernel(name) for name in launched}
    points = [
        (name, i)
        for name, kernel in whole.items()
        for i, statement in enumerate(kernel.statements)
        if statement.startswith(("bar.sync", "cp.async.wait_group"))
    ]
    assert len(points) > 10
    for name, i in points:
        code = [*whole[name].code[:i], lambda *_: None, *whole[name].code[i + 1 :]]
        broken = {**whole, name: whole[name]._replace(code=code)}
        monkeypatch.setattr(Module, "kernel", lambda self, name, broken=broken: broken[name])  # noqa: ARG005
        with pytest.raises(KernelError, match=r"race|nobody has written|waited for"):
            compare_channel_attention(gpu, precision, *case)
