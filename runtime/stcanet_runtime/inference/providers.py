"""Which execution providers can run here, and how each is asked for. onnxruntime is imported in the functions only."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from stcanet_runtime.errors import MissingDependencyError, OptionError, quote_choices
from stcanet_runtime.extras import import_extra
from stcanet_runtime.files import sha256_file
from stcanet_runtime.machine import processor
from stcanet_runtime.wording import one_line

BFLOAT16 = "openvino-bf16"
"""OpenVINO, computing in bfloat16 what the package has in float32."""

EP_NAMES = {
    "cpu": "CPUExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    BFLOAT16: "OpenVINOExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""Our names, and those of ONNX Runtime."""

AUTO_ORDER = ("cuda", "openvino", "cpu")
"""What "auto" tries, in this order; see `auto_order`."""

_HINTS = {
    "cpu": "pip install onnxruntime",
    "openvino": "pip install onnxruntime-ep-openvino (beside an onnxruntime wheel, 1.24 or newer)",
    BFLOAT16: "take openvino, which computes in float32",
    "cuda": (
        "pip uninstall onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu (the two wheels overwrite each other), "
        "with an NVIDIA driver, CUDA and cuDNN that it supports"
    ),
    "tensorrt": "install onnxruntime-gpu as for cuda, and TensorRT in the version that it was built for",
}

_MAX_THREADS = 1024  # where the system grants no more, ONNX Runtime waits for ever for those that it did not get

Shape = tuple[int, ...]


class Shapes(NamedTuple):
    """Of an input: what an engine is built for."""

    smallest: Shape
    usual: Shape
    """For which it is made fastest."""
    largest: Shape


@dataclass(frozen=True)
class Resources:
    """What a provider may use, and what it may expect."""

    threads: int | None = None
    """Of one run; None leaves it to the provider, but for the quota of a container, which providers do not see."""
    gpu_memory: int | None = None
    """Most bytes that CUDA may take for tensors; None for all."""
    cache: Path | None = None
    """Folder for what TensorRT and OpenVINO compile, by model and machine. Its files are code: keep it from strangers."""
    shapes: Mapping[str, Shapes] = field(default_factory=dict)
    """Of each input, for which TensorRT builds its engine."""

    def __post_init__(self) -> None:
        for name in ("threads", "gpu_memory"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(name, value, "at least 1")
        if self.threads is not None and self.threads > _MAX_THREADS:
            raise OptionError("threads", self.threads, f"at most {_MAX_THREADS:,}")


def auto_order(resources: Resources) -> tuple[str, ...]:
    """What "auto" tries: TensorRT, which builds an engine for minutes, only where a folder can keep it, and then first."""
    return AUTO_ORDER if resources.cache is None else ("tensorrt", *AUTO_ORDER)


_OPENVINO_LIBRARY = "stcanet-openvino"
_REGISTER = threading.Lock()
_GPU_FACTS = Path("/proc/driver/nvidia/gpus")


def import_onnxruntime(part: str = "", purpose: str = "running a model") -> Any:
    """The onnxruntime module, or a part of it such as ".quantization"; the one way to it in this project.

    Raises:
        MissingDependencyError: It is not installed, or does not load.
    """
    # Since 1.32 it reports to its makers over the network and keeps an id of the machine in the home folder, unless it is told
    # not to before it is imported. Who sets the variable has the last word.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return import_extra(f"onnxruntime{part}", "onnxruntime", purpose, "cpu")


def check_name(name: str) -> str:
    """`name` if it is one of ours.

    Raises:
        OptionError: It is not.
    """
    if name not in EP_NAMES:
        raise OptionError("provider", name, quote_choices(["auto", *EP_NAMES]))
    return name


def precision_under(provider: str, precision: str) -> str:
    """The lowest precision that is at work when a package of a precision runs under a provider."""
    return "bf16" if provider == BFLOAT16 and precision != "int8" else precision


def available_providers() -> dict[str, str | None]:
    """Every provider with None where it can be asked for, else the reason why not.

    A provider that is available may still fail on a given model, or on its driver when the session opens; `open_session`
    checks that.
    """
    try:
        ort = import_onnxruntime()
    except MissingDependencyError as error:
        return dict.fromkeys(EP_NAMES, f"{error.package} {error.problem}")
    built_in, missing = set(ort.get_available_providers()), f"this onnxruntime ({ort.__version__}) is built without it"
    plugin = openvino_reason()
    reasons = {name: None if ep_name in built_in else missing for name, ep_name in EP_NAMES.items()}
    return reasons | {"openvino": plugin, BFLOAT16: plugin or bfloat16_reason()}


def hint(name: str) -> str:
    """What to do when a provider cannot run."""
    if name == BFLOAT16 and openvino_reason() is not None:
        return hint("openvino")
    if name == "openvino" and importlib.util.find_spec("onnxruntime_ep_openvino"):
        return "the plugin is installed; take 'cpu', or in `stcanet parity` 'openvino-native', which is OpenVINO by itself"
    return _HINTS[name]


def openvino_reason() -> str | None:
    """Why the OpenVINO plugin cannot run here, or None."""
    if importlib.util.find_spec("onnxruntime_ep_openvino") is None:
        return "onnxruntime-ep-openvino is not installed"
    try:
        return None if openvino_devices() else "OpenVINO finds no CPU device here"
    except Exception as error:  # a C++ library that does not load raises types of its own
        return one_line(error)


def bfloat16_reason() -> str | None:
    """Why this processor cannot multiply bfloat16, or None: OpenVINO would then compute in float32, and say nothing."""
    if not {"amx_bf16", "avx512_bf16"}.isdisjoint(processor()["features"]):
        return None
    return "this processor has no bfloat16 products (amx_bf16 or avx512_bf16)"


def openvino_devices() -> list[Any]:
    """The CPU device of the OpenVINO plugin, whose library is loaded once per process."""
    ort = import_onnxruntime()
    # 1.23 loads plugins but cannot tell which nodes they take, so that a fallback to the CPU would go unseen.
    if not hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"):
        raise RuntimeError(f"onnxruntime {ort.__version__} is too old for it; 1.24 or newer is needed")
    with _REGISTER:
        # Somebody else in the process may have loaded it under another name; twice is an error in ONNX Runtime.
        if not any(device.ep_name == EP_NAMES["openvino"] for device in ort.get_ep_devices()):
            _load_openvino()
    mine = [device for device in ort.get_ep_devices() if device.ep_name == EP_NAMES["openvino"]]
    return [device for device in mine if device.ep_metadata.get("ov_device") == "CPU"][:1]


@functools.cache
def _load_openvino() -> None:
    """Once, also where the library then lists no device (that of version 1.8.1 on a processor that is not Intel's)."""
    import onnxruntime_ep_openvino

    import_onnxruntime().register_execution_provider_library(_OPENVINO_LIBRARY, onnxruntime_ep_openvino.get_library_path())


def add_provider(options: Any, name: str, model: Path, resources: Resources) -> list[Any]:
    """Ask for a provider in `options` (a SessionOptions).

    Returns:
        The `providers` argument of InferenceSession.
    """
    if EP_NAMES[name] == EP_NAMES["openvino"]:
        config = {"CPU": openvino_config(name, model, resources)}
        options.add_provider_for_devices(openvino_devices(), {"load_config": json.dumps(config)})
        return []
    chain: list[Any] = []
    if name == "tensorrt":  # and not for others: its options make a folder for engines
        chain.append((EP_NAMES["tensorrt"], tensorrt_options(model, resources)))
    if name in ("tensorrt", "cuda"):
        chain.append((EP_NAMES["cuda"], cuda_options(resources)))
    return [*chain, EP_NAMES["cpu"]]


def openvino_config(name: str, model: Path, resources: Resources) -> dict[str, str]:
    """Settings of OpenVINO's CPU device under a provider of that name."""
    # Without the hint OpenVINO computes in bfloat16 where the chip can, and says nothing.
    config = {"INFERENCE_PRECISION_HINT": "bf16" if name == BFLOAT16 else "f32"}
    if resources.threads is not None:
        config["INFERENCE_NUM_THREADS"] = str(resources.threads)
    if resources.cache is not None:
        config["CACHE_DIR"] = str(_cache_folder(resources.cache, name, model))
    return config


def cuda_options(resources: Resources) -> dict[str, str]:
    """Settings of the CUDA provider."""
    # EXHAUSTIVE, the default, searches anew for each shape, for seconds. TF32 has 10 bits of mantissa.
    options = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
    if resources.gpu_memory is not None:
        # Else the arena grows by powers of two, and reaches the limit at half of what is needed.
        options |= {"gpu_mem_limit": str(resources.gpu_memory), "arena_extend_strategy": "kSameAsRequested"}
    return options


def tensorrt_options(model: Path, resources: Resources) -> dict[str, str]:
    """Settings of the TensorRT provider."""
    options: dict[str, str] = {}
    if resources.cache is not None:
        folder = str(_cache_folder(resources.cache, "tensorrt", model))
        options |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": folder}
        options |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": folder}
    if resources.shapes:
        # Without a profile an engine is built anew whenever a batch is larger or smaller than all before.
        for place, end in enumerate(("min", "opt", "max")):
            shapes = (f"{name}:{'x'.join(map(str, known[place]))}" for name, known in resources.shapes.items())
            options[f"trt_profile_{end}_shapes"] = ",".join(shapes)
    return options


def _cache_folder(root: Path, name: str, model: Path) -> Path:
    """A folder of its own for each model, machine and version: engines of others do not load, or worse, do."""
    version = import_onnxruntime().__version__
    folder = root / "-".join([name, sha256_file(model)[:16], version, *(_gpus() if name == "tensorrt" else [])])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _gpus() -> list[str]:
    """Names of the NVIDIA GPUs here, fit for a file name."""
    lines = (line for path in sorted(_GPU_FACTS.glob("*/information")) for line in path.read_text().splitlines())
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("Model:")}
    return ["".join(letter if letter.isalnum() else "_" for letter in name) for name in sorted(names)]
