"""Opens ONNX Runtime sessions that run where they were told to, or not at all.

ONNX Runtime falls back on its own: a GPU provider whose library does not load becomes the CPU with a log line, and a
plugin that takes no node of the graph still heads the list of providers. So after a session is open, its record of which
node went where is read, and a provider that was named and does not do the work is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends import gpu_arrays, gpu_device
from stcanet_runtime.errors import OptionError, PackageError, ProviderError, StcanetError
from stcanet_runtime.inference.providers import (
    EP_NAMES,
    Resources,
    add_provider,
    auto_order,
    available_providers,
    check_name,
    hint,
    import_onnxruntime,
)
from stcanet_runtime.machine import cores, quota
from stcanet_runtime.package.onnxfile import inspect_onnx
from stcanet_runtime.wording import one_line

__all__ = ["Session", "available_providers", "open_session"]

_HEAVY = frozenset({"Conv", "ConvInteger", "FusedConv", "Gemm", "MatMul", "MatMulInteger", "QLinearConv", "QLinearMatMul"})
"""Where the time goes. Shape arithmetic on the CPU is normal on any provider; one of these there is a fallback."""
_GPU_PROVIDERS = ("cuda", "tensorrt")
_LOG_ERRORS_ONLY, _LOG_NOTHING = 3, 4


@dataclass(frozen=True)
class Tensor:
    """Name, element type ("uint8", "float", …) and shape (None where any length goes) of an input or output."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Session:
    """A model that is ready to run. Made by :func:`open_session`; safe to call from several threads.

    Attributes:
        provider: Which provider runs it: "cpu", "openvino", "openvino-bf16", "cuda" or "tensorrt".
        inputs: The inputs of the graph.
        outputs: The outputs of the graph.
        nodes: Number of graph nodes per provider, as ONNX Runtime assigned them (empty where it cannot tell).
        threads: Of one run; None where it was left to the provider.
    """

    def __init__(self, ort_session: Any, provider: str, nodes: Mapping[str, int], why: str, threads: int | None = None) -> None:
        self._session, self._why, self.threads = ort_session, why, threads
        self._options = import_onnxruntime().RunOptions()
        self._options.log_severity_level = _LOG_NOTHING  # errors of a run are exceptions, and would be on stderr besides
        self.provider = provider
        self.nodes = dict(nodes)
        self.inputs = tuple(_tensor(item) for item in ort_session.get_inputs())
        self.outputs = tuple(_tensor(item) for item in ort_session.get_outputs())

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the graph once.

        Args:
            inputs: Arrays by input name, contiguous. CUDA and TensorRT read those of their GPU where they are; for the other
                providers they are copied.

        Returns:
            Arrays of NumPy by output name.

        Raises:
            PackageError: The model cannot run them: its shapes contradict each other, say, or there is not the memory for it.
        """
        names = [tensor.name for tensor in self.outputs]
        try:
            if self.provider in _GPU_PROVIDERS and all(map(gpu_arrays.is_on_gpu, inputs.values())):
                values = self._run_bound(inputs, names)
            else:
                here = {name: gpu_arrays.to_host(array) for name, array in inputs.items()}
                values = self._session.run(names, here, self._options)
        except Exception as error:  # onnxruntime's own types
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
            raise PackageError(f"the model does not run {shapes} on provider '{self.provider}': {one_line(error)}") from error
        return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}

    def _run_bound(self, inputs: Mapping[str, Any], names: Sequence[str]) -> list[NDArray[Any]]:
        """Run without a copy of the inputs, which are on the GPU."""
        binding = self._session.io_binding()
        device = gpu_device.device()
        for name, array in inputs.items():
            with device.at(array):
                number = device.finish()  # ONNX Runtime has a stream of its own, which waits for no other
            place = array.__cuda_array_interface__["data"][0]
            binding.bind_input(name, "cuda", number, array.dtype, array.shape, place)
        for name in names:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding, self._options)
        return list(binding.copy_outputs_to_cpu())

    def explain(self) -> str:
        """Which provider runs the model, why it was taken, and how many nodes of the graph it has."""
        shares = ", ".join(f"{name} {count}" for name, count in self.nodes.items())
        return f"{self.provider}: {self._why}" + (f"; nodes: {shares}" if shares else "")


def open_session(
    onnx_path: str | Path,
    providers: str | Sequence[str] = "auto",
    resources: Resources | None = None,
) -> Session:
    """Open an ONNX model.

    Args:
        onnx_path: The model, weights inside: a model that refers to other files is refused.
        providers: "auto" takes the first of cuda, openvino, cpu that can run the model, and tries tensorrt before them where
            `resources` has a cache. A name takes that one or fails. A list is tried in its order, and fails when none can run.
        resources: What the provider may use; None leaves it to the provider.

    Raises:
        OptionError: An unknown provider.
        ProviderError: A provider was named and cannot run this model here.
        PackageError: The file is missing, no ONNX model, or refers to other files.
        MissingDependencyError: onnxruntime is not installed.
    """
    resources = resources or Resources()
    if resources.threads is None:
        resources = replace(resources, threads=quota())
    names = _requested(providers, resources)
    path = Path(onnx_path)
    if inspect_onnx(path).external_data:
        raise PackageError(f"{path} keeps weights in other files, which is not allowed: export it into one file")
    import_onnxruntime()
    failures: list[ProviderError] = []
    for name in names:
        try:
            session, nodes = _open(path, name, resources)
        except ProviderError as error:
            failures.append(error)
        else:
            return Session(session, name, nodes, _why(providers, failures), resources.threads)
    if len(failures) == 1:
        raise failures[0]
    reasons = "; ".join(f"{error.provider}: {error.reason}" for error in failures)
    raise ProviderError(", ".join(names), reasons, failures[0].hint)


def _requested(providers: str | Sequence[str], resources: Resources) -> tuple[str, ...]:
    if providers == "auto":
        return auto_order(resources)
    names = (providers,) if isinstance(providers, str) else tuple(providers)
    if not names:
        raise OptionError("providers", list(names), "'auto', a name, or a list with at least one name")
    return tuple(check_name(name) for name in names)


def _why(providers: str | Sequence[str], failures: Sequence[ProviderError]) -> str:
    chosen = "chosen by auto" if providers == "auto" else "asked for"
    return "; ".join([chosen, *(f"not {error.provider}: {error.reason}" for error in failures)])


def _open(path: Path, name: str, resources: Resources) -> tuple[Any, dict[str, int]]:
    """One session on one provider, or ProviderError."""
    if reason := available_providers()[name]:
        raise ProviderError(name, reason, hint(name))
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # Without VNNI the fast int8 products of x86 overflow with weights beyond 7 bits, and embeddings are silently wrong. This
    # takes the slower products for such weights, and for no others.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if resources.threads is not None:
        options.intra_op_num_threads = resources.threads
        if resources.threads > cores():  # those that have none would be kept from one by those that wait in a loop for them
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        providers = add_provider(options, name, path, resources)
        # Else a provider that fails is replaced by others, with a message on stdout, where --json is.
        session = ort.InferenceSession(str(path), options, enable_fallback=0, **({"providers": providers} if providers else {}))
    except Exception as error:  # onnxruntime's own types, which derive from Exception directly
        raise _failed(path, name, error) from error
    return session, _check_assignment(session, name)


def _failed(path: Path, name: str, error: Exception) -> StcanetError:
    reason = one_line(error)
    # The CPU provider is the specification of what is a model: what it refuses is the file's fault.
    return PackageError(f"{path} cannot be loaded: {reason}") if name == "cpu" else ProviderError(name, reason, hint(name))


def _check_assignment(session: Any, name: str) -> dict[str, int]:
    """Nodes per provider, once it is certain that the named one does the work.

    Raises:
        ProviderError: ONNX Runtime fell back to another provider.
    """
    wanted = EP_NAMES[name]
    if wanted not in session.get_providers():
        raise ProviderError(
            name,
            "onnxruntime fell back to another provider (its library or driver does not load; its log on stderr says more)",
            hint(name),
        )
    nodes = _assigned_nodes(session)
    counts = Counter(provider for provider, _ in nodes)
    on_cpu = sorted({kind for provider, kind in nodes if provider == EP_NAMES["cpu"] and kind in _HEAVY})
    if name != "cpu" and nodes and (on_cpu or not counts[wanted]):
        what = ", ".join(on_cpu) if on_cpu else "the whole graph"
        raise ProviderError(name, f"it does not take this model: onnxruntime put {what} on the default CPU provider")
    ours = {ep_name: short for short, ep_name in EP_NAMES.items()} | {wanted: name}
    return {ours.get(provider, provider): count for provider, count in counts.items()}


def _assigned_nodes(session: Any) -> list[tuple[str, str]]:
    """Provider and operator of each node; empty where onnxruntime is too old to record it."""
    record = getattr(session, "get_provider_graph_assignment_info", None)
    if record is None:
        return []
    return [(part.ep_name, node.op_type) for part in record() for node in part.get_nodes()]


def _tensor(item: Any) -> Tensor:
    dtype = str(item.type).removeprefix("tensor(").removesuffix(")")
    return Tensor(item.name, dtype, tuple(length if isinstance(length, int) else None for length in item.shape))
