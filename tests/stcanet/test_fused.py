"""The operators of the fused attention: on the CPU their formulas and registrations, on a GPU (-m gpu) the kernels."""

from __future__ import annotations

import copy
import importlib
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from stcanet.config.model import PRESETS, Attention
from stcanet.model import STCABlock, fused, mixing
from stcanet.model.fused_relation import part_relation
from stcanet.model.mixing import channel_mix, choose
from stcanet_runtime import cuda
from stcanet_runtime.errors import BackendError, ShapeError

FORWARD, BACKWARD = torch.ops.stcanet.channel_attention, torch.ops.stcanet.channel_attention_backward


def make_rows(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of opcheck's own copies
def test_registrations(dtype: torch.dtype) -> None:
    """Schema, autograd, shapes and the ahead-of-time compiler, by PyTorch's own checks."""
    rows = make_rows(2, 6, 5, dtype=dtype)
    torch.library.opcheck(FORWARD.default, (rows.clone().requires_grad_(),))
    mixed, log_sum = FORWARD(rows)
    torch.library.opcheck(BACKWARD.default, (rows, mixed, log_sum, torch.ones_like(mixed)))


def test_gradient_against_differences() -> None:
    rows = make_rows(2, 7, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(fused.channel_attention, (rows,))


def test_equals_the_eager_path_and_its_gradient() -> None:
    rows = make_rows(2, 24, 32)
    grad = torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))
    results = []
    for function in (fused.channel_attention, channel_mix):
        leaf = rows.clone().requires_grad_()
        mixed = function(leaf)
        mixed.backward(grad)
        results.append((mixed.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-5)


def test_strided_rows_and_gradients() -> None:
    rows = make_rows(2, 5, 8).mT.requires_grad_()
    fused.channel_attention(rows).sum().backward()  # the gradient of a sum is expanded, not contiguous
    assert rows.grad is not None
    assert torch.isfinite(rows.grad).all()


def test_exports_and_compiles_to_the_operator() -> None:
    class Module(torch.nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            return fused.channel_attention(rows) * 2

    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(Module(), (make_rows(2, 6, 5),), dynamic_shapes=({0: batch},))
    assert any(node.target is FORWARD.default for node in program.graph.nodes)
    rows = make_rows(3, 6, 5, seed=1)
    torch.testing.assert_close(program.module()(rows), Module()(rows))
    compiled = torch.compile(Module(), backend="aot_eager", fullgraph=True)
    leaf, twin = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    compiled(leaf).sum().backward()
    Module()(twin).sum().backward()
    torch.testing.assert_close(leaf.grad, twin.grad)


def test_kernels_read_contiguous_memory_whatever_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[bool] = []
    monkeypatch.setattr(fused, "launch", lambda _name, arrays, _how: launched.extend(x.is_contiguous() for x in arrays))
    strided = [torch.rand(4, 5, 6).permute(2, 1, 0) for _ in range(3)]
    for operator, given in ((fused._forward, strided[:1]), (fused._backward, [*strided[:2], torch.rand(5, 6).mT, strided[2]])):
        operator._backend_fns["cuda"](*given)
    assert launched == [True] * 9


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("attention", ["fused", "auto"])
def test_the_choice_does_not_end_a_compiled_graph(attention: Attention, dynamic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tensors that only pretend to be on a GPU, and kernels that only pretend to be built."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    monkeypatch.setattr(mixing, "FASTER_FUSED", frozenset({((9, 0), torch.float32, 8)}))
    monkeypatch.setattr(cuda, "why_not", lambda: None if importlib.import_module(cuda.__name__) else "")  # not traceable
    targets = []

    def backend(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Any:
        targets.extend(node.target for node in graph.graph.nodes)
        return graph

    with FakeTensorMode():
        rows, shorter = (torch.empty(2, 4, depth, device="cuda") for depth in (8, 7))
        torch.compile(lambda x: channel_mix(x, attention) * 2, backend=backend, fullgraph=True, dynamic=dynamic)(rows)
        assert choose(shorter, attention) == ("eager" if attention == "auto" else "fused")  # 'auto' where it was measured
    assert FORWARD in targets or FORWARD.default in targets


def test_wrong_shape_is_named() -> None:
    with pytest.raises(ShapeError, match=r"\[3, 4\]"):
        fused.channel_attention(torch.rand(3, 4))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this is about machines without a GPU")
def test_a_named_implementation_that_cannot_run_is_an_error() -> None:
    with pytest.raises(BackendError, match=r"fused attention.*the tensors are on the CPU.*'auto'"):
        channel_mix(make_rows(1, 4, 4), "fused")
    with pytest.raises(BackendError, match="STCANET_CUDA=1"):
        cuda.require("fused attention")


def test_devices_are_counted_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    built = SimpleNamespace(device_count=lambda: counted.append(1) or 1)
    monkeypatch.setitem(sys.modules, "stcanet_runtime._kernels_cuda", built)
    cuda.why_not.cache_clear()
    try:
        assert cuda.why_not() is None
        assert cuda.require("fused attention") is built
    finally:
        cuda.why_not.cache_clear()
    assert len(counted) == 1


def test_auto_is_eager_on_the_cpu_and_says_why_not_fused() -> None:
    rows = make_rows(1, 4, 4)
    assert choose(rows, "auto") == "eager"
    assert fused.why_not(rows) == "the tensors are on the CPU"


def test_the_eager_path_computes_half_precision_in_float32() -> None:
    rows = make_rows(2, 24, 32, dtype=torch.bfloat16)
    torch.testing.assert_close(channel_mix(rows), channel_mix(rows.float()), atol=0, rtol=0)


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
def test_a_block_with_sdpa_equals_the_eager_one(frames: int, half: bool) -> None:
    compare_blocks("sdpa", "cpu", frames, half)


def compare_blocks(attention: Attention, device: str, frames: int, half: bool) -> None:
    """As the model calls it: channels last, under autocast or not, with the gradients of activations and weights."""
    torch.manual_seed(0)
    eager = STCABlock(64, replace(PRESETS["stcanet-image"], attention="eager"))
    for norm in (eager.channel.out_norm, eager.part.out_norm):
        torch.nn.init.ones_(norm.weight)  # else the block is the identity
    eager = eager.to(device).to(memory_format=torch.channels_last)
    other = copy.deepcopy(eager)
    other.channel.attention = other.part.attention = attention
    x = torch.rand(2 * frames, 64, 16, 8).to(device).to(memory_format=torch.channels_last)
    results = []
    for block in (eager, other):
        leaf = x.clone().requires_grad_()
        with torch.autocast(device, torch.bfloat16, enabled=half):
            mixed = block(leaf, frames)[0]
        (mixed.float() * torch.linspace(-1, 1, mixed.numel(), device=device).view_as(mixed)).mean().backward()
        results.append([mixed.detach().float(), leaf.grad, *(weight.grad for weight in block.parameters())])
    largest = max(float(gradient.norm()) for gradient in results[0][1:])
    pairs = list(zip(*results, strict=True))
    for expected, result in pairs[:2] if half else pairs:  # the rounding of bfloat16 drowns small gradients of weights
        # Others are zero but for rounding: of a bias ahead of a normalisation.
        assert (result - expected).norm() <= (0.1 if half else 1e-4) * (expected.norm() + 0.1 * largest)


def test_sdpa_equals_eager() -> None:
    rows = make_rows(2, 24, 32)
    torch.testing.assert_close(channel_mix(rows, "sdpa"), channel_mix(rows), atol=1e-5, rtol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert channel_mix(rows, "sdpa").dtype == torch.float32  # in the dtype it was given


needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available() or cuda.why_not() is not None, reason=f"no GPU for the kernels: {cuda.why_not()}"
)
# float32 1e-5, TF32 1e-3, bf16 and fp16 1e-2 of the largest value; the shapes of the presets, and odd ones.
TOLERANCES = {"tf32x3": 1e-5, "tf32": 1e-3, "bf16": 1e-2, "fp16": 1e-2}
SHAPES = [(2, 512, 512), (2, 1024, 128), (1, 2048, 512), (1, 1, 1), (3, 65, 40), (1, 200, 700), (2, 33, 511), (1, 7, 1030)]


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("precision", list(TOLERANCES))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernels_against_float64(shape: tuple[int, int, int], precision: str) -> None:
    """Forward and gradient; the memory that results are written to is poisoned before."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    rows = (torch.rand(shape, device="cuda") * 3 / shape[2] ** 0.5).to(dtype)
    grad = torch.randn(shape, device="cuda").to(dtype)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        mixed, grad_rows = differentiate(fused.channel_attention, rows, grad)
    finally:
        torch.set_float32_matmul_precision(before)
    exact = differentiate(lambda x: torch.softmax(x @ x.mT, -1) @ x, rows.double(), grad.double())
    for result, expected in zip((mixed, grad_rows), exact, strict=True):
        assert (result.double() - expected).abs().max() <= TOLERANCES[precision] * expected.abs().max()


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(2, 65, 40), (1, 33, 300), (1, 20, 131), (1, 20, 600)], ids=str)
def test_small_sizes_to_sanitize(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    """What `make gpu-bench` runs under compute-sanitizer: depths of a narrow and a wide pass, and of several; few blocks."""
    rows = torch.rand(shape, device="cuda").to(dtype)
    assert all(torch.isfinite(result).all() for result in differentiate(fused.channel_attention, rows, rows))


@pytest.mark.gpu
@needs_gpu
def test_kernels_give_the_same_bits_every_time() -> None:
    rows = torch.rand(2, 300, 512, device="cuda").bfloat16()
    results = [differentiate(fused.channel_attention, rows, rows) for _ in range(3)]
    assert all(torch.equal(a, b) for result in results for a, b in zip(result, results[0], strict=True))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
def test_a_block_with_fused_attention_equals_the_eager_one(frames: int, half: bool) -> None:
    compare_blocks("fused", "cuda", frames, half)


@pytest.mark.gpu
@needs_gpu
def test_tensors_of_two_devices_are_refused() -> None:
    """The kernel would read an address of the other one's memory."""
    with pytest.raises(BackendError, match="one tensor is on cuda:0, another on cpu"):
        part_relation(torch.rand(1, 4, 8, device="cuda"), torch.rand(8))


def differentiate(function, rows: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    if rows.device.type == "cuda":
        torch.full((4 * rows.numel(),), torch.nan, device=rows.device)  # freed memory is handed out again
    leaf = rows.clone().requires_grad_()
    mixed = function(leaf)
    mixed.backward(grad)
    assert leaf.grad is not None
    return mixed.detach(), leaf.grad
