"""What providers are told, as text: most of them cannot run where the tests do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from goldens import write_golden

from stcanet_runtime import Encoder, ManifestError, OptionError, ProviderError, load_manifest
from stcanet_runtime.batching import DEFAULT_SIZES
from stcanet_runtime.files import sha256_file
from stcanet_runtime.inference import providers
from stcanet_runtime.inference.golden import MIN_COSINE, verify_package
from stcanet_runtime.inference.providers import (
    BFLOAT16,
    Resources,
    Shapes,
    auto_order,
    cuda_options,
    openvino_config,
    precision_under,
    tensorrt_options,
)
from stcanet_runtime.inference.session import open_session
from stcanet_runtime.package.manifest import METADATA_KEY


@pytest.fixture
def model(package: Path) -> Path:
    return package / "model.onnx"


def test_auto_takes_tensorrt_only_where_its_engine_can_be_kept(tmp_path: Path) -> None:
    assert auto_order(Resources()) == ("cuda", "openvino", "cpu")
    assert auto_order(Resources(cache=tmp_path)) == ("tensorrt", "cuda", "openvino", "cpu")


@pytest.mark.skipif(providers.available_providers()["tensorrt"] is None, reason="TensorRT can run here")
def test_auto_says_why_it_does_not_take_tensorrt(package: Path, tmp_path: Path) -> None:
    assert "not tensorrt: " in Encoder.load(package, cache=tmp_path / "cache").session.explain()


def test_cuda_searches_no_shape_exhaustively_and_keeps_to_its_memory() -> None:
    assert cuda_options(Resources()) == {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
    limited = cuda_options(Resources(gpu_memory=2**30))
    assert limited["gpu_mem_limit"] == str(2**30)
    assert limited["arena_extend_strategy"] == "kSameAsRequested"


def test_what_is_installed_is_not_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers.importlib.util, "find_spec", lambda _: None)
    assert "pip install" in providers.hint("openvino")
    assert providers.hint(BFLOAT16) == providers.hint("openvino")
    monkeypatch.setattr(providers.importlib.util, "find_spec", lambda _: True)
    assert "pip install" not in providers.hint("openvino")


def test_openvino_computes_in_float32_and_caches_on_request(model: Path, tmp_path: Path) -> None:
    assert openvino_config("openvino", model, Resources()) == {"INFERENCE_PRECISION_HINT": "f32"}
    config = openvino_config("openvino", model, Resources(threads=3, cache=tmp_path))
    assert config["INFERENCE_NUM_THREADS"] == "3"
    assert Path(config["CACHE_DIR"]).parent == tmp_path


def test_bfloat16_is_asked_for_by_name_and_refused_where_the_processor_has_none(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = openvino_config(BFLOAT16, model, Resources(cache=tmp_path))
    assert config["INFERENCE_PRECISION_HINT"] == "bf16"
    assert config["CACHE_DIR"] != openvino_config("openvino", model, Resources(cache=tmp_path))["CACHE_DIR"]
    assert BFLOAT16 not in auto_order(Resources(cache=tmp_path))

    def with_features(*features: str) -> str | None:
        monkeypatch.setattr(providers, "processor", lambda: {"features": list(features)})
        monkeypatch.setattr(providers, "openvino_reason", lambda: None)
        return providers.available_providers()[BFLOAT16]

    assert with_features("avx512f", "amx_bf16") is None
    assert with_features("avx512f", "avx512_bf16") is None
    assert with_features("avx512f") == "this processor has no bfloat16 products (amx_bf16 or avx512_bf16)"
    with pytest.raises(ProviderError, match=r"'openvino-bf16' cannot run: this processor has no bfloat16 .* take openvino"):
        open_session(model, BFLOAT16)


def test_bfloat16_here(package: Path) -> None:
    if reason := providers.available_providers()[BFLOAT16]:
        pytest.skip(reason)
    crops = np.random.default_rng(0).integers(0, 256, (2, 32, 16, 3), dtype=np.uint8)
    lowered, exact = (Encoder.load(package, name) for name in (BFLOAT16, "cpu"))
    assert set(lowered.session.nodes) == {BFLOAT16}
    (rows, _), (expected, _) = lowered.embed_batch(crops), exact.embed_batch(crops)
    assert not np.allclose(rows, expected, atol=1e-6)  # else it computed in float32
    assert np.sum(rows * expected, axis=1).min() > 0.99
    write_golden(package)
    assert verify_package(package, BFLOAT16).bound == MIN_COSINE["bf16"]


@pytest.mark.parametrize(("precision", "lowest"), [("fp32", "bf16"), ("fp16", "bf16"), ("int8", "int8")])
def test_the_bound_is_that_of_the_lowest_precision_at_work(precision: str, lowest: str) -> None:
    assert precision_under(BFLOAT16, precision) == lowest
    assert precision_under("openvino", precision) == precision


def test_tensorrt_builds_one_engine_for_all_batches(model: Path) -> None:
    shapes = Shapes((1, 32, 16, 3), (4, 32, 16, 3), (8, 32, 16, 3))
    options = tensorrt_options(model, Resources(shapes={"images": shapes}))
    assert options == {
        "trt_profile_min_shapes": "images:1x32x16x3",
        "trt_profile_opt_shapes": "images:4x32x16x3",
        "trt_profile_max_shapes": "images:8x32x16x3",
    }


def test_engines_are_kept_by_model_gpu_and_version(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def folder() -> str:
        return tensorrt_options(model, Resources(cache=tmp_path))["trt_engine_cache_path"]

    def gpu(name: str) -> None:
        facts = tmp_path / name / "0000:01:00.0"
        facts.mkdir(parents=True)
        (facts / "information").write_text(f"Model: \t\t NVIDIA {name}\nIRQ: 1\n")
        monkeypatch.setattr(providers, "_GPU_FACTS", tmp_path / name)

    gpu("A100")
    first = folder()
    assert Path(first).is_dir()
    assert "NVIDIA_A100" in first
    assert folder() == first
    gpu("H100")
    other_gpu = folder()
    model.write_bytes(model.read_bytes() + b"\0")
    assert len({first, other_gpu, folder()}) == 3


def test_what_reaches_the_session(model: Path, tmp_path: Path) -> None:
    """The chain of each provider ends on the CPU, where shape arithmetic runs; who compiles nothing needs no cache."""
    for name, chain in (("cpu", ["cpu"]), ("cuda", ["cuda", "cpu"]), ("tensorrt", ["tensorrt", "cuda", "cpu"])):
        asked: list[Any] = providers.add_provider(None, name, model, Resources(cache=tmp_path / name))
        assert (tmp_path / name).exists() == (name == "tensorrt")
        assert [item if isinstance(item, str) else item[0] for item in asked] == [providers.EP_NAMES[part] for part in chain]


def test_encoder_tells_the_smallest_and_largest_batch(
    package: Path, clip_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Resources] = []
    original = providers.add_provider

    def spy(options: Any, name: str, model: Path, resources: Resources) -> list[Any]:
        seen.append(resources)
        return original(options, name, model, resources)

    monkeypatch.setattr("stcanet_runtime.inference.session.add_provider", spy)
    Encoder.load(package, "cpu", threads=2, batch_sizes=(8, 2), gpu_memory=5)
    Encoder.load(clip_package, "cpu", batch_sizes=(1,), cache=str(tmp_path))
    assert seen[0] == Resources(2, 5, None, {"images": Shapes((2, 32, 16, 3), (8, 32, 16, 3), (8, 32, 16, 3))})
    assert seen[1] == Resources(None, None, tmp_path, {"clips": Shapes(*[(1, 4, 32, 16, 3)] * 3)})
    for kind, row in ((package, (32, 16, 3)), (clip_package, (4, 32, 16, 3))):
        state(kind, {"profile": {"min": [1, *row], "opt": [6, *row], "max": [8, *row]}})
        encoder = Encoder.load(kind, "cpu", threads=1)
        assert list(seen[-1].shapes.values()) == [Shapes((1, *row), (6, *row), (8, *row))]
        assert encoder.batch_sizes == (1, 2, 4, 6, 8)
        Encoder.load(kind, "cpu", threads=1, batch_sizes=(3, 16))
        assert list(seen[-1].shapes.values()) == [Shapes((3, *row), (16, *row), (16, *row))]


def state(package: Path, target: Any) -> None:
    """Let a package say what it was made for."""
    manifest = replace(load_manifest(package), conversion={"target": target}, model_sha256=None)
    model = onnx.load(package / "model.onnx")
    onnx.helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})
    onnx.save(model, package / "model.onnx")
    manifest = replace(manifest, model_sha256=sha256_file(package / "model.onnx"))
    (package / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")


@pytest.mark.parametrize("target", [None, "jetson", {}, {"profile": None}])
def test_a_package_for_any_batch(package: Path, target: Any) -> None:
    state(package, target)
    assert Encoder.load(package, "cpu", threads=1).batch_sizes == DEFAULT_SIZES


@pytest.mark.parametrize(
    ("smallest", "usual", "largest"),
    [(1, 4, 10**9), (0, 4, 8), (4, 2, 8), (1, 9, 8), (1, True, 8), (1, 4.0, 8), (1, "4", 8), (1, None, 8)],
)
def test_a_profile_that_is_none(package: Path, smallest: Any, usual: Any, largest: Any) -> None:
    row = [32, 16, 3]
    for profile in (
        {"min": [smallest, *row], "opt": [usual, *row], "max": [largest, *row]},
        {"min": [1, *row], "opt": [2, *row], "max": [4, 64, 16, 3]},
        {"min": [1, *row]},
        {"min": 1, "opt": 2, "max": 3},
        [[1, *row]],
        7,
    ):
        state(package, {"profile": profile})
        with pytest.raises(ManifestError, match=r"conversion\.target\.profile must be .*; got "):
            Encoder.load(package, "cpu", threads=1)
    Encoder.load(package, "cpu", threads=1, batch_sizes=(1,))


def test_options(model: Path) -> None:
    with pytest.raises(OptionError, match="gpu_memory must be at least 1, got 0"):
        Resources(gpu_memory=0)
    with pytest.raises(ProviderError, match=r"provider 'tensorrt' cannot run: .*; install onnxruntime-gpu"):
        open_session(model, "tensorrt")
