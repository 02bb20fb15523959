"""Sessions run where they were told to. The OpenVINO tests need the plugin and are skipped without it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from onnx import TensorProto, helper, numpy_helper

from stcanet_runtime import OptionError, PackageError, ProviderError
from stcanet_runtime.errors import MissingDependencyError
from stcanet_runtime.inference import providers
from stcanet_runtime.inference.providers import Resources
from stcanet_runtime.inference.session import Session, _check_assignment, available_providers, open_session
from stcanet_runtime.machine import cores

needs_openvino = pytest.mark.skipif(providers.openvino_reason() is not None, reason=str(providers.openvino_reason()))
BATCH = np.random.default_rng(0).integers(0, 256, (5, 32, 16, 3), dtype=np.uint8)


def embed(session: Session) -> np.ndarray:
    return session.run({"images": BATCH})["embeddings"]


def test_cpu(package: Path) -> None:
    session = open_session(package / "model.onnx", "cpu")
    assert session.provider == "cpu"
    assert session.inputs[0].shape == (None, 32, 16, 3)
    assert session.inputs[0].dtype == "uint8"
    assert_allclose(np.linalg.norm(embed(session), axis=1), 1, atol=1e-6)
    assert session.nodes["cpu"] > 0
    assert session.explain().startswith("cpu: asked for")


def test_threads_do_not_change_the_result(package: Path) -> None:
    one = open_session(package / "model.onnx", "cpu", Resources(threads=1))
    assert_allclose(embed(one), embed(open_session(package / "model.onnx", "cpu")), atol=1e-6)
    for threads, expected in ((0, "at least 1, got 0"), (100_000, "at most 1,024, got 100000")):
        with pytest.raises(OptionError, match=f"threads must be {expected}"):
            Resources(threads=threads)


def test_threads_beyond_the_cores_do_not_wait_in_loops(package: Path) -> None:
    """A run of 32 threads on 2 cores would take a hundred times as long, and nobody else would get a core."""
    many = open_session(package / "model.onnx", "cpu", Resources(threads=cores() + 1))
    assert_allclose(embed(many), embed(open_session(package / "model.onnx", "cpu")), atol=1e-6)
    assert many._session.get_session_options().get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_quota_bounds_the_threads_that_nobody_named(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stcanet_runtime.inference.session.quota", lambda: 1)
    assert open_session(package / "model.onnx", "cpu").threads == 1
    assert open_session(package / "model.onnx", "cpu", Resources(threads=2)).threads == 2


def test_weights_of_eight_bits_do_not_overflow(tmp_path: Path) -> None:
    """255 × 127, twice, is more than 16 bits hold, in which x86 without VNNI adds; ONNX Runtime then gives 32,767."""
    one, zero = numpy_helper.from_array(np.float32(1), "one"), numpy_helper.from_array(np.uint8(0), "zero")
    weights = numpy_helper.from_array(np.full((16, 16, 1, 1), 127, np.int8), "weights")
    large, nil = numpy_helper.from_array(np.float32(2**12), "large"), numpy_helper.from_array(np.int8(0), "nil")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["weights", "one", "nil"], ["w"]),
        helper.make_node("Conv", ["d", "w"], ["sum"]),
        helper.make_node("QuantizeLinear", ["sum", "large", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["rounded", "large", "zero"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16, 4, 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [one, zero, weights, large, nil])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "m.onnx")
    (got,) = open_session(tmp_path / "m.onnx", "cpu").run({"x": np.full((1, 16, 4, 4), 255, np.float32)}).values()
    assert_allclose(got, 16 * 255 * 127, atol=2**11)


@needs_openvino
def test_openvino_does_all_of_the_work_in_float32(package: Path) -> None:
    session = open_session(package / "model.onnx", "openvino", Resources(threads=1))
    assert session.provider == "openvino"
    assert set(session.nodes) == {"openvino"}
    # In bfloat16, which OpenVINO takes by itself on some chips, this differs in the fourth digit.
    assert_allclose(embed(session), embed(open_session(package / "model.onnx", "cpu")), atol=1e-6)


@needs_openvino
def test_openvino_that_takes_nothing_is_an_error(tmp_path: Path) -> None:
    """ONNX Runtime still lists the provider first here: only the record of the nodes tells."""
    text = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n"]) for name in "ab"]
    graph = helper.make_graph([helper.make_node("StringConcat", ["a", "a"], ["b"])], "g", text[:1], text[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    with pytest.raises(ProviderError, match="put the whole graph on the default CPU provider"):
        open_session(tmp_path / "m.onnx", "openvino")


@needs_openvino
def test_openvino_twice_in_one_process(package: Path) -> None:
    first, second = (open_session(package / "model.onnx", "openvino") for _ in range(2))
    assert_array_equal(embed(first), embed(second))


def test_auto_takes_what_can_run_and_says_why(package: Path) -> None:
    session = open_session(package / "model.onnx")
    can_run = [name for name in providers.AUTO_ORDER if available_providers()[name] is None]
    assert session.provider == can_run[0]
    assert "chosen by auto" in session.explain()
    for name in providers.AUTO_ORDER[: providers.AUTO_ORDER.index(session.provider)]:
        assert f"not {name}: " in session.explain()


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    reasons = {name: "it is switched off" if name in names else None for name in providers.EP_NAMES}
    monkeypatch.setattr("stcanet_runtime.inference.session.available_providers", lambda: reasons)


def test_auto_goes_on_to_the_next(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "cuda", "openvino", "tensorrt")
    session = open_session(package / "model.onnx")
    assert session.provider == "cpu"
    assert "not cuda: it is switched off; not openvino: it is switched off" in session.explain()


@pytest.mark.parametrize("name", ["cuda", "tensorrt", "openvino"])
def test_a_named_provider_is_never_downgraded(package: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    without(monkeypatch, "cuda", "openvino", "tensorrt")
    with pytest.raises(ProviderError, match=f"provider '{name}' cannot run: it is switched off; .*install") as caught:
        open_session(package / "model.onnx", name)
    assert caught.value.provider == name


def test_a_list_is_tried_in_order_and_no_further(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "cuda", "tensorrt")
    assert open_session(package / "model.onnx", ["cuda", "cpu"]).provider == "cpu"
    with pytest.raises(ProviderError, match="cuda: it is switched off; tensorrt: it is switched off"):
        open_session(package / "model.onnx", ["cuda", "tensorrt"])


@pytest.mark.parametrize("name", ["gpu", "CPUExecutionProvider", "", ["cpu", "gpu"], []])
def test_unknown_provider(package: Path, name: str | Sequence[str]) -> None:
    with pytest.raises(OptionError, match="provider"):
        open_session(package / "model.onnx", name)


def fake_session(listed: Sequence[str], nodes: Sequence[tuple[str, str]]) -> SimpleNamespace:
    """What onnxruntime would answer after it opened a session somewhere."""
    parts = [SimpleNamespace(ep_name=ep, get_nodes=lambda op=op: [SimpleNamespace(op_type=op)]) for ep, op in nodes]
    return SimpleNamespace(get_providers=lambda: list(listed), get_provider_graph_assignment_info=lambda: parts)


CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def test_shape_arithmetic_on_the_cpu_is_no_fallback() -> None:
    nodes = [(CUDA, "Conv"), (CPU, "Shape"), (CPU, "Gather")]
    assert _check_assignment(fake_session([CUDA, CPU], nodes), "cuda") == {"cuda": 1, "cpu": 2}


@pytest.mark.parametrize(
    ("listed", "nodes", "message"),
    [
        ([CPU], [(CPU, "Conv")], "fell back to another provider"),
        ([CUDA, CPU], [(CPU, "Conv"), (CPU, "Relu")], "put Conv on the default CPU provider"),
        ([CUDA, CPU], [(CUDA, "Conv"), (CPU, "MatMul")], "put MatMul on the default CPU provider"),
        ([CUDA, CPU], [(CPU, "Relu")], "put the whole graph"),
    ],
)
def test_every_kind_of_fallback_is_seen(listed: list[str], nodes: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(ProviderError, match=message):
        _check_assignment(fake_session(listed, nodes), "cuda")


def test_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("not a model")
    with pytest.raises(PackageError, match="not an ONNX model"):
        open_session(tmp_path / "m.onnx")
    with pytest.raises(PackageError, match="no such file"):
        open_session(tmp_path / "none.onnx")


def test_a_model_that_onnxruntime_refuses(tmp_path: Path, package: Path) -> None:
    model = onnx.load(package / "model.onnx")
    model.graph.node[0].op_type = "Cats"
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(PackageError, match="cannot be loaded") as caught:
        open_session(tmp_path / "m.onnx", "cpu")
    assert "\n" not in str(caught.value)


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\0" * 16)
    (tmp_path / "package").mkdir()
    weights = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    onnx.external_data_helper.set_external_data(weights, "../secret")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [output], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (tmp_path / "package" / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(PackageError, match="keeps weights in other files"):
        open_session(tmp_path / "package" / "m.onnx", "cpu")


def test_without_onnxruntime(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert set(available_providers().values()) == {"onnxruntime is not installed"}
    with pytest.raises(MissingDependencyError, match=r"pip install 'stcanet\[cpu\]'"):
        open_session(package / "model.onnx")


def test_an_onnxruntime_that_does_not_load_is_installed(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text("import of_the_wheel_for_another_board")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "onnxruntime", raising=False)
    fault = "onnxruntime is installed and does not load: No module named 'of_the_wheel_for_another_board'"
    assert set(available_providers().values()) == {fault}
    with pytest.raises(MissingDependencyError, match=r"which is installed and does not load: No module named '\w+'$"):
        open_session(package / "model.onnx")
