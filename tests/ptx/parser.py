"""The text of PTX, taken apart: kernels with their registers, parameters, shared memory and instructions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests.ptx.instructions import TYPES, Symbols, compile_instruction

_ENTRY = re.compile(r"\.entry\s+(?P<name>[\w$]+)\s*\((?P<parameters>[^)]*)\)(?P<directives>[^{]*)\{")
_VARIABLE = re.compile(r"(?:\.align (?P<align>\d+) )?\.(?P<type>\w+) (?P<name>[\w$%]+)(?:\[(?P<count>\d*)\])?")


class Kernel(NamedTuple):
    """A kernel that can be run."""

    name: str
    registers: dict[str, np.dtype[Any]]
    parameter_offsets: tuple[int, ...]
    parameter_sizes: tuple[int, ...]
    shared_bytes: int
    """Of the variables of fixed size; memory whose size the launch states comes after them."""
    max_threads: int
    """0 where none is stated."""
    statements: tuple[str, ...]
    code: list[Callable[..., bool]]
    """A step for each of the statements."""
    targets: frozenset[int]
    """Places in `code` that branches lead to."""


class Module:
    """The kernels of one text."""

    def __init__(self, text: str) -> None:
        text = re.sub(r"//[^\n]*", "", text)
        self._dynamic = re.findall(r"\.extern \.shared \.align \d+ \.b8 ([\w$]+)\[\];", text)
        self._entries = {}
        for entry in _ENTRY.finditer(text):
            self._entries[entry["name"]] = entry, text[entry.end() : text.index("\n}", entry.end())]
        self._kernels: dict[str, Kernel] = {}

    @property
    def names(self) -> list[str]:
        """The (mangled) names of all kernels."""
        return list(self._entries)

    def kernel(self, name: str) -> Kernel:
        """The one of this name."""
        if name not in self._kernels:
            self._kernels[name] = _kernel(*self._entries[name], self._dynamic)
        return self._kernels[name]


def _kernel(entry: re.Match[str], body: str, dynamic: list[str]) -> Kernel:
    parameters = [_place(match) for match in _VARIABLE.finditer(entry["parameters"].replace(".param ", "").replace("\t", " "))]
    offsets, symbols = _lay_out(parameters)
    registers: dict[str, np.dtype[Any]] = {}
    shared, statements, labels = [], [], {}
    for line in body.split("\n"):
        line = re.sub(r"\s+", " ", line).strip()
        if label := re.fullmatch(r"([\w$]+):", line):
            labels[label[1]] = len(statements)
            continue
        line = re.sub(r"^\{|(?:^|(?<=;)) ?\}$", "", line)  # the scope of inline assembly
        for statement in filter(None, map(str.strip, line.split(";"))):
            if declared := re.fullmatch(r"\.reg \.(\w+) (%\w+)(?:<(\d+)>)?", statement):
                names = [f"{declared[2]}{i}" for i in range(int(declared[3]))] if declared[3] else [declared[2]]
                registers.update(dict.fromkeys(names, TYPES[declared[1]]))
            elif statement.startswith(".shared "):
                shared.append(_place(_VARIABLE.fullmatch(statement.removeprefix(".shared "))))
            elif not statement.startswith(".pragma"):
                statements.append(statement)
    shared_offsets, shared_symbols = _lay_out(shared)
    shared_bytes = max((offset + size for offset, (_, size, _) in zip(shared_offsets, shared, strict=True)), default=0)
    shared_symbols.update(dict.fromkeys(dynamic, -(-shared_bytes // 16) * 16))
    if any(name in body for name in dynamic):
        shared_bytes = -(-shared_bytes // 16) * 16
    most = re.search(r"\.maxntid (\d+)", entry["directives"])
    known = Symbols(registers, symbols, shared_symbols, labels)
    return Kernel(
        entry["name"],
        registers,
        offsets,
        tuple(size for _, size, _ in parameters),
        shared_bytes,
        int(most[1]) if most else 0,
        tuple(statements),
        [compile_instruction(statement, known) for statement in statements],
        frozenset(labels.values()),
    )


def _place(declared: re.Match[str] | None) -> tuple[str, int, int]:
    """Name, size and alignment of a variable."""
    assert declared is not None
    size = TYPES[declared["type"]].itemsize
    return declared["name"], size * int(declared["count"] or 1), int(declared["align"] or size)


def _lay_out(variables: list[tuple[str, int, int]]) -> tuple[tuple[int, ...], dict[str, int]]:
    """Variables one after another: their offsets, in order and by name."""
    offsets, end = [], 0
    for _, size, align in variables:
        offsets.append(-(-end // align) * align)
        end = offsets[-1] + size
    return tuple(offsets), {name: offset for (name, _, _), offset in zip(variables, offsets, strict=True)}
