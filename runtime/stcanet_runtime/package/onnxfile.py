"""Looks into an ONNX file without onnx and without onnxruntime: metadata, and whether it points outside of itself.

An ONNX file is one protobuf message. Only its skeleton is walked; weights are skipped, not copied, so that this takes
milliseconds for any size. Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stcanet_runtime.errors import PackageError

_VARINT, _BYTES = 0, 2  # wire types
_LENGTHS = {1: 8, 5: 4}  # of the fixed wire types, in bytes
_MAX_DEPTH = 64
_MAX_FIELD = (1 << 29) - 1
"""Largest field number. Protobuf drops the bits of a tag beyond 32, and would see another field than is told here."""
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
"""How pickles begin: the opcode PROTO, and the protocol."""
_INSIDE = 0  # TensorProto.DataLocation.DEFAULT

# Message → field number → message inside it. What is not listed cannot hold a tensor.
_CHILDREN = {
    "Model": {7: "Graph", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
}
_MODEL_IR_VERSION, _MODEL_GRAPH, _MODEL_METADATA = 1, 7, 14
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14


class _MalformedError(Exception):
    """Not a protobuf message."""


@dataclass(frozen=True)
class OnnxFile:
    """What can be known about an ONNX file before anything runs it."""

    metadata: dict[str, str]
    """`metadata_props`."""
    external_data: bool
    """Whether any tensor lives in another file."""


@dataclass(frozen=True)
class _Field:
    """One field of a message: an integer, or the extent of what has a length."""

    number: int
    integer: int | None
    start: int
    stop: int


def inspect_onnx(path: str | Path, remedy: str = "export it to ONNX with the program that made it") -> OnnxFile:
    """Read the metadata of an ONNX file and look for tensors outside of it.

    Args:
        path: The file.
        remedy: What to do with a checkpoint, for the message.

    Raises:
        PackageError: There is no such file, or it is not an ONNX model; a checkpoint is named as such.
    """
    path = Path(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _inspect(data)
    except FileNotFoundError:
        raise PackageError(f"{path}: no such file") from None
    except (_MalformedError, ValueError):  # ValueError: text that is not UTF-8; an empty file, which cannot be mapped
        if kind := _kind_of_checkpoint(path):
            raise PackageError(f"{path} is {kind}; {remedy}") from None
        raise PackageError(f"{path} is not an ONNX model, or it is truncated") from None


def _kind_of_checkpoint(path: Path) -> str | None:
    """What PyTorch saved it as, if it did: a zip file with ``NAME/data.pkl``, or a pickle before 1.6. Neither is unpacked."""
    with path.open("rb") as file:
        if file.read(2) in _PICKLES:
            return "a pickle, as old checkpoints of PyTorch are"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return None
    return "a checkpoint of PyTorch" if any(name.endswith("/data.pkl") for name in names) else None


def _inspect(data: mmap.mmap) -> OnnxFile:
    fields = list(_fields(data, 0, len(data)))
    if not {_MODEL_IR_VERSION, _MODEL_GRAPH} <= {field.number for field in fields}:
        raise _MalformedError
    metadata = dict(_entry(data, field) for field in fields if field.number == _MODEL_METADATA)
    return OnnxFile(metadata, _has_external_data(data, "Model", 0, len(data), 0))


def _has_external_data(data: mmap.mmap, kind: str, start: int, stop: int, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise _MalformedError
    if kind == "Tensor":
        return any(_is_external(field) for field in _fields(data, start, stop))
    children = _CHILDREN[kind]
    return any(
        _has_external_data(data, children[field.number], field.start, field.stop, depth + 1)
        for field in _fields(data, start, stop)
        if field.number in children
    )


def _is_external(field: _Field) -> bool:
    return field.number == _TENSOR_EXTERNAL_DATA or (field.number == _TENSOR_DATA_LOCATION and field.integer != _INSIDE)


def _entry(data: mmap.mmap, field: _Field) -> tuple[str, str]:
    """A StringStringEntryProto: 1 = key, 2 = value."""
    parts = {part.number: data[part.start : part.stop] for part in _fields(data, field.start, field.stop)}
    return parts.get(1, b"").decode("utf-8"), parts.get(2, b"").decode("utf-8")


def _fields(data: mmap.mmap, start: int, stop: int) -> Iterator[_Field]:
    """The fields of the message in ``data[start:stop]``."""
    while start < stop:
        tag, start = _varint(data, start, stop)
        number, wire = tag >> 3, tag & 7
        integer, length = None, _LENGTHS.get(wire)
        if wire == _VARINT:
            begin = start
            integer, start = _varint(data, begin, stop)
            length, start = start - begin, begin
        elif wire == _BYTES:
            length, start = _varint(data, start, stop)
        if not 0 < number <= _MAX_FIELD or length is None or start + length > stop:
            raise _MalformedError
        yield _Field(number, integer, start, start + length)
        start += length


def _varint(data: mmap.mmap, position: int, stop: int) -> tuple[int, int]:
    """Little-endian base 128: value, and the position behind it."""
    value = shift = 0
    while position < stop and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise _MalformedError
