"""Which execution providers can run here, and how each is asked for. onnxruntime is imported in the functions only."""

from __future__ import annotations

import functools
import importlib.util
import json
import threading
from typing import Any

from stcanet_runtime.errors import MissingDependencyError, OptionError, quote_choices

EP_NAMES = {
    "cpu": "CPUExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""Our names, and those of ONNX Runtime."""

AUTO_ORDER = ("cuda", "openvino", "cpu")
"""What "auto" tries, in this order. TensorRT is not in it: it builds an engine for minutes, which somebody should want."""

HINTS = {
    "cpu": "pip install onnxruntime",
    "openvino": "pip install onnxruntime-ep-openvino (beside an onnxruntime wheel, 1.24 or newer)",
    "cuda": (
        "pip uninstall onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu (the two wheels overwrite each other), "
        "with an NVIDIA driver, CUDA and cuDNN that it supports"
    ),
    "tensorrt": "install onnxruntime-gpu as for cuda, and TensorRT in the version that it was built for",
}
"""What to do when a provider cannot run."""

_OPENVINO_LIBRARY = "stcanet-openvino"
_REGISTER = threading.Lock()


def import_onnxruntime() -> Any:
    """The onnxruntime module.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError("onnxruntime", "running a model", "cpu") from error
    return onnxruntime


def check_name(name: str) -> str:
    """`name` if it is one of ours.

    Raises:
        OptionError: It is not.
    """
    if name not in EP_NAMES:
        raise OptionError("provider", name, quote_choices(["auto", *EP_NAMES]))
    return name


def available_providers() -> dict[str, str | None]:
    """Every provider with None where it can be asked for, else the reason why not.

    A provider that is available may still fail on a given model, or on its driver when the session opens; `open_session`
    checks that.
    """
    try:
        ort = import_onnxruntime()
    except MissingDependencyError as error:
        return dict.fromkeys(EP_NAMES, f"{error.package} is not installed")
    built_in = set(ort.get_available_providers())
    reasons: dict[str, str | None] = {}
    for name, ep_name in EP_NAMES.items():
        missing = None if ep_name in built_in else f"this onnxruntime ({ort.__version__}) is built without it"
        reasons[name] = openvino_reason() if name == "openvino" else missing
    return reasons


def openvino_reason() -> str | None:
    """Why the OpenVINO plugin cannot run here, or None."""
    if importlib.util.find_spec("onnxruntime_ep_openvino") is None:
        return "onnxruntime-ep-openvino is not installed"
    try:
        return None if openvino_devices() else "OpenVINO finds no CPU device here"
    except Exception as error:  # a C++ library that does not load raises types of its own
        return " ".join(str(error).split())


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


def add_provider(options: Any, name: str, threads: int | None) -> list[Any]:
    """Ask for a provider in `options` (a SessionOptions).

    Returns:
        The `providers` argument of InferenceSession.
    """
    if name == "openvino":
        # Without the hint OpenVINO computes in bfloat16 where the chip can, and says nothing.
        config = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        options.add_provider_for_devices(openvino_devices(), {"load_config": json.dumps({"CPU": config})})
        return []
    if name == "cuda":
        # EXHAUSTIVE, the default, searches anew for each shape, for seconds. TF32 has 10 bits of mantissa.
        return [(EP_NAMES[name], {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}), EP_NAMES["cpu"]]
    if name == "tensorrt":
        return [EP_NAMES[name], EP_NAMES["cuda"], EP_NAMES["cpu"]]
    return [EP_NAMES["cpu"]]
