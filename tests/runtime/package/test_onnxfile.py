"""The small reader of ONNX files, against files made by onnx itself."""

from __future__ import annotations

import contextlib
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from stcanet_runtime import PackageError
from stcanet_runtime.cameras.detector import Detector
from stcanet_runtime.package.contents import load_manifest
from stcanet_runtime.package.onnxfile import inspect_onnx


def external() -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    onnx.external_data_helper.set_external_data(tensor, "../../etc/passwd")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    return tensor


def graph(*nodes: onnx.NodeProto, initializer: TensorProto | None = None) -> onnx.GraphProto:
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    return helper.make_graph(list(nodes), "g", [], [output], [initializer] if initializer else [])


def save(path: Path, proto: onnx.GraphProto, **metadata: str) -> Path:
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 18)])
    helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())
    return path


def test_metadata(tmp_path: Path) -> None:
    file = inspect_onnx(save(tmp_path / "m.onnx", graph(), a="1", ü="ö" * 300, empty=""))
    assert file.metadata == {"a": "1", "ü": "ö" * 300, "empty": ""}
    assert not file.external_data


def test_weights_inside_are_fine(tmp_path: Path) -> None:
    inside = numpy_helper.from_array(np.zeros(100_000, np.float32), "w")
    assert not inspect_onnx(save(tmp_path / "m.onnx", graph(initializer=inside))).external_data


def test_external_initializer(tmp_path: Path) -> None:
    assert inspect_onnx(save(tmp_path / "m.onnx", graph(initializer=external()))).external_data


def test_external_constant_and_one_deep_inside_of_a_branch(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["y"], value=external())
    assert inspect_onnx(save(tmp_path / "a.onnx", graph(constant))).external_data
    branch = helper.make_node("If", ["c"], ["y"], then_branch=graph(constant), else_branch=graph())
    outer = helper.make_node("If", ["c"], ["y"], then_branch=graph(), else_branch=graph(branch))
    assert inspect_onnx(save(tmp_path / "b.onnx", graph(outer))).external_data


def test_external_constant_in_a_function(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["y"], value=external())
    function = helper.make_function("d", "f", [], ["y"], [constant], [helper.make_opsetid("", 18)])
    model = helper.make_model(graph(), functions=[function])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert inspect_onnx(tmp_path / "m.onnx").external_data


def test_external_data_behind_an_overlong_tag(tmp_path: Path) -> None:
    """ONNX Runtime reads 32 bits of a tag and loads the file; a reader of all bits would see a field that nobody knows."""
    tensor = external()
    entries = [entry.SerializeToString() for entry in tensor.external_data]
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    tag, location = (bytes(((number << 3 | wire) | 0x80, 0x80, 0x80, 0x80, 0x10)) for number, wire in ((13, 2), (14, 0)))
    hidden = b"".join(tag + bytes((len(entry),)) + entry for entry in entries) + location + b"\1"
    content = tensor.SerializeToString() + hidden
    proto = graph().SerializeToString() + bytes((5 << 3 | 2, len(content))) + content
    (tmp_path / "m.onnx").write_bytes(b"\x08\x0a" + bytes((7 << 3 | 2, len(proto))) + proto)
    with pytest.raises(PackageError, match="not an ONNX model"):
        inspect_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize("content", [b"", b"\0", b"#!/bin/sh\necho hello\n", b"{}", b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f"])
def test_not_onnx(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(PackageError, match="not an ONNX model"):
        inspect_onnx(tmp_path / "m.onnx")


def test_a_checkpoint_is_told_what_to_do(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "best.pt", "w") as archive:
        archive.writestr("best/data.pkl", b"")
    with pytest.raises(PackageError, match=r"best\.pt is a checkpoint of PyTorch; make a package of it with 'stcanet export'"):
        load_manifest(tmp_path / "best.pt")
    with pytest.raises(PackageError, match=r"best\.pt is a checkpoint of PyTorch; export it to ONNX with the program"):
        Detector.load(tmp_path / "best.pt")
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("readme.txt", b"")
    with pytest.raises(PackageError, match="not an ONNX model"):
        inspect_onnx(tmp_path / "other.pt")


class _Trap:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return exec, ("raise AssertionError('the pickle was loaded')",)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_told_what_to_do_and_not_loaded(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"state_dict": _Trap()}, protocol))
    with pytest.raises(PackageError, match=r"old\.pth is a pickle, as old checkpoints of PyTorch are; export it to ONNX"):
        inspect_onnx(tmp_path / "old.pth")


def test_truncated(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", graph(initializer=numpy_helper.from_array(np.zeros(1000, np.float32), "w")))
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(PackageError, match="truncated"):
        inspect_onnx(path)


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_result_or_a_package_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.onnx"
    path.write_bytes(b"\x08\x0a" + content)
    with contextlib.suppress(PackageError):
        inspect_onnx(path)
