"""What the instructions of PTX do to the registers and memories of `machine.Blocks`; see the PTX manual for each.

Each is compiled to a function of the machine and the threads that run it. What is not known is an error when a kernel is
parsed, not when it is run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Read = Callable[[Any, Any], Array]
Write = Callable[[Any, Any, Array], None]
Step = Callable[[Any, Any], bool | None]
"""True where the threads did not go on to the next instruction."""

TYPES: dict[str, np.dtype[Any]] = {
    "pred": np.dtype(bool),
    **{f"{kind}{8 * size}": np.dtype(f"u{size}") for kind in "ub" for size in (1, 2, 4, 8)},
    **{f"s{8 * size}": np.dtype(f"i{size}") for size in (1, 2, 4, 8)},
    **{f"f{8 * size}": np.dtype(f"f{size}") for size in (2, 4, 8)},
}
_UNSIGNED = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}
_F32, _U16, _U32, _U64 = np.dtype(np.float32), np.dtype(np.uint16), np.dtype(np.uint32), np.dtype(np.uint64)
_LANE = np.arange(32)
_GROUP, _IN_GROUP = _LANE // 4, _LANE % 4


class KernelError(Exception):
    """What a kernel must not do, or what is not known here."""


class Symbols(NamedTuple):
    """The names of a kernel."""

    registers: dict[str, np.dtype[Any]]
    parameters: dict[str, int]
    shared: dict[str, int]
    labels: dict[str, int]


def compile_instruction(statement: str, symbols: Symbols) -> Step:
    """One instruction, with its predicate."""
    match = re.fullmatch(r"(?:@(?P<no>!?)(?P<predicate>%\w+) )?(?P<name>[\w.]+)(?: +(?P<operands>.*))?", statement)
    if match is None:
        raise KernelError(f"not an instruction: {statement}")
    name, *parts = match["name"].split(".")
    operands = [part.strip() for part in re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|[^,{\[])+", match["operands"] or "")]
    try:
        step = _INSTRUCTIONS[name](parts, operands, symbols)
    except (KeyError, AssertionError, ValueError) as error:
        raise KernelError(f"not known here: {statement} ({error!r})") from error
    if match["predicate"] is None:
        return step
    return _predicated(step, match["predicate"], bool(match["no"]))


def _predicated(step: Step, predicate: str, negated: bool) -> Step:
    def run(m: Any, lanes: Any) -> bool | None:
        numbers, chosen = m.numbers(lanes), m.registers[predicate][lanes]
        taken, rest = numbers[chosen != negated], numbers[chosen == negated]
        if len(taken) == 0:
            return None
        if len(rest) == 0:
            return step(m, lanes)
        left = step(m, taken)
        if left:
            m.pc[rest] = m.place + 1
        return left

    return run


# --- operands ---


def _reader(operand: str, dtype: np.dtype[Any], symbols: Symbols) -> Read:
    if operand.startswith("%"):

        def read(m: Any, lanes: Any) -> Array:
            value = m.registers[operand][lanes]
            if value.dtype == dtype:
                return value
            if value.itemsize > dtype.itemsize:
                value = value.astype(_UNSIGNED[dtype.itemsize])
            return value.view(dtype)

        return read
    constant = _constant(operand, dtype, symbols)
    return lambda m, lanes: constant  # noqa: ARG005


def _constant(operand: str, dtype: np.dtype[Any], symbols: Symbols) -> Array:
    if match := re.fullmatch(r"0[fF]([0-9A-Fa-f]{8})|0[dD]([0-9A-Fa-f]{16})", operand):
        digits = match[1] or match[2]
        return np.array([int(digits, 16)], f"u{len(digits) // 2}").view(dtype)
    number = symbols.shared[operand] if operand in symbols.shared else int(operand.removesuffix("U"), 0)
    if dtype == np.bool_:
        return np.array([number != 0])
    size = 8 * dtype.itemsize
    return np.array([number % (1 << size)], _UNSIGNED[dtype.itemsize]).view(dtype)


def _writer(operand: str) -> Write:
    assert operand.startswith("%")

    def write(m: Any, lanes: Any, value: Array) -> None:
        register = m.registers[operand]
        if value.dtype != register.dtype:
            value = value.view(register.dtype) if value.itemsize == register.itemsize else value.astype(register.dtype)
        register[lanes] = value

    return write


def _vector(operand: str) -> list[str]:
    return [part.strip() for part in operand[1:-1].split(",")] if operand.startswith("{") else [operand]


def _address(operand: str, symbols: Symbols) -> Read:
    match = re.fullmatch(r"\[([%\w$]+)(?:\+(-?\d+))?\]", operand)
    assert match is not None, operand
    base, offset = match[1], np.int64(int(match[2] or 0))
    if base.startswith("%"):
        return lambda m, lanes: m.registers[base][lanes].astype(np.int64) + offset
    constant = np.array([_constant(base, _U64, symbols).astype(np.int64)[0] + offset])
    return lambda m, lanes: np.broadcast_to(constant, len(m.numbers(lanes)))


# --- arithmetic ---


def _flush(value: Array) -> Array:
    """Subnormal numbers as zeros of their sign."""
    if value.dtype != _F32:
        return value
    return np.where(np.abs(value) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), value), value)


def _elementwise(function: Callable[..., Array], *allowed: str) -> Callable[[list[str], list[str], Symbols], Step]:
    """An instruction whose operands and result are of one type, element by element."""

    def build(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
        *modifiers, kind = parts
        assert set(modifiers) <= {"rn", "ftz", *allowed}, modifiers
        dtype, flush = TYPES[kind], "ftz" in modifiers
        write, reads = _writer(operands[0]), [_reader(operand, dtype, symbols) for operand in operands[1:]]

        def run(m: Any, lanes: Any) -> None:
            values = [read(m, lanes) for read in reads]
            if flush:
                values = [_flush(value) for value in values]
            result = function(*values)
            write(m, lanes, _flush(result) if flush else result)

        return run

    return build


def _fma(a: Array, b: Array, c: Array) -> Array:
    wide = np.float64 if a.dtype == _F32 else np.longdouble
    return (a.astype(wide) * b.astype(wide) + c.astype(wide)).astype(a.dtype)


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return a / b
    if a.dtype.kind == "u":
        return a // b
    size = np.abs(a) // np.abs(b)
    return np.where((a < 0) != (b < 0), -size, size)


def _remainder(a: Array, b: Array) -> Array:
    return a - _divide(a, b) * b


def _multiply(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
    if "wide" not in parts:
        assert "hi" not in parts
        return _elementwise(np.multiply, "lo")(parts, operands, symbols)
    dtype = TYPES[parts[-1]]
    wide = np.dtype(f"{dtype.kind}{2 * dtype.itemsize}")
    write, a, b = _writer(operands[0]), *(_reader(operand, dtype, symbols) for operand in operands[1:])

    def run(m: Any, lanes: Any) -> None:
        write(m, lanes, a(m, lanes).astype(wide) * b(m, lanes).astype(wide))

    return run


def _shift(left: bool) -> Callable[[list[str], list[str], Symbols], Step]:
    def build(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
        dtype = TYPES[parts[-1]]
        bits = 8 * dtype.itemsize
        write, value, by = _writer(operands[0]), _reader(operands[1], dtype, symbols), _reader(operands[2], _U32, symbols)

        def run(m: Any, lanes: Any) -> None:
            amount = by(m, lanes)
            clamped = np.minimum(amount, bits - 1).astype(dtype)
            shifted = value(m, lanes) << clamped if left else value(m, lanes) >> clamped
            gone = amount >= bits if left or dtype.kind == "u" else False  # signs fill what a signed shift leaves
            write(m, lanes, np.where(gone, 0, shifted).astype(dtype))

        return run

    return build


def _insert_bits(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
    dtype = TYPES[parts[-1]]
    write = _writer(operands[0])
    a, b = (_reader(operand, dtype, symbols) for operand in operands[1:3])
    position, length = int(operands[3]), int(operands[4])
    mask = np.array([((1 << length) - 1) << position], dtype)

    def run(m: Any, lanes: Any) -> None:
        write(m, lanes, (a(m, lanes) << dtype.type(position)) & mask | b(m, lanes) & ~mask)

    return run


_COMPARE: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal,
    "ne": lambda a, b: (a < b) | (a > b) if a.dtype.kind == "f" else np.not_equal(a, b),
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    # true where one is NaN
    "equ": lambda a, b: ~((a < b) | (a > b)),
    "neu": np.not_equal,
    "ltu": lambda a, b: ~(a >= b),
    "leu": lambda a, b: ~(a > b),
    "gtu": lambda a, b: ~(a <= b),
    "geu": lambda a, b: ~(a < b),
    "nan": lambda a, b: np.isnan(a) | np.isnan(b),
    "num": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
}
_COMBINE = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def _set_predicate(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
    compare, dtype, flush = _COMPARE[parts[0]], TYPES[parts[-1]], "ftz" in parts
    combine = next((_COMBINE[part] for part in parts[1:-1] if part in _COMBINE), None)
    assert set(parts[1:-1]) <= {"ftz", *_COMBINE}
    write, a, b = _writer(operands[0]), *(_reader(operand, dtype, symbols) for operand in operands[1:3])
    other = _reader(operands[3], TYPES["pred"], symbols) if combine else None

    def run(m: Any, lanes: Any) -> None:
        left, right = a(m, lanes), b(m, lanes)
        result = compare(_flush(left), _flush(right)) if flush else compare(left, right)
        write(m, lanes, combine(result, other(m, lanes)) if combine and other else result)

    return run


def _select(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
    dtype = TYPES[parts[-1]]
    write, a, b = _writer(operands[0]), *(_reader(operand, dtype, symbols) for operand in operands[1:3])
    which = _reader(operands[3], TYPES["pred"], symbols)

    def run(m: Any, lanes: Any) -> None:
        write(m, lanes, np.where(which(m, lanes), a(m, lanes), b(m, lanes)))

    return run


def _move(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
    dtype = TYPES[parts[-1]]
    to, source = _vector(operands[0]), _vector(operands[1])
    part = _UNSIGNED.get(dtype.itemsize // max(len(to), len(source)), dtype)
    writes = [_writer(name) for name in to]
    reads = [_reader(name, part if len(source) > 1 else dtype, symbols) for name in source]

    def run(m: Any, lanes: Any) -> None:
        values = np.broadcast_arrays(*(read(m, lanes) for read in reads))
        if len(source) > 1:
            values = [np.stack(values, -1).view(dtype)[:, 0]]
        if len(to) > 1:
            pieces = np.ascontiguousarray(values[0]).view(part).reshape(-1, len(to))
            values = [pieces[:, i].copy() for i in range(len(to))]
        for write, value in zip(writes, values, strict=True):
            write(m, lanes, value)

    return run


# --- conversions ---

_TO_INTEGER = {"rzi": np.trunc, "rni": np.rint, "rmi": np.floor, "rpi": np.ceil}


def _to_integer(value: Array, dtype: np.dtype[Any], rounding: str) -> Array:
    limits = np.iinfo(dtype)
    whole = np.nan_to_num(_TO_INTEGER[rounding](value.astype(np.float64)), nan=0.0)
    inside = (whole > float(limits.min)) & (whole < float(limits.max))
    return np.where(inside, np.where(inside, whole, 0).astype(dtype), np.where(whole > 0, limits.max, limits.min)).astype(dtype)


def _to_bfloat16(value: Array) -> Array:
    bits = np.ascontiguousarray(value).view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(value), np.uint16(0x7FFF), rounded)


def _to_tf32(value: Array) -> Array:
    """To nearest, ties away from zero."""
    return (np.ascontiguousarray(value).view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)


def _convert(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
    *modifiers, to, source = parts
    flush = "ftz" in modifiers
    rounding = next((part for part in modifiers if part != "ftz"), "")
    assert rounding in {"", "rn", "rna", *_TO_INTEGER}, rounding
    read = _reader(operands[1], _U16 if source == "bf16" else TYPES[source], symbols)
    write = _writer(operands[0])

    def convert(value: Array) -> Array:
        if to == "tf32":
            assert rounding == "rna"
            return _to_tf32(value)
        if to == "bf16":
            return _to_bfloat16(value)
        if source == "bf16":
            return (value.astype(np.uint32) << np.uint32(16)).view(np.float32)
        if value.dtype.kind == "f" and TYPES[to].kind != "f":
            return _to_integer(value, TYPES[to], rounding)
        return value.astype(TYPES[to])

    def run(m: Any, lanes: Any) -> None:
        value = read(m, lanes)
        result = convert(_flush(value) if flush else value)
        write(m, lanes, _flush(result) if flush else result)

    return run


def _convert_address(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
    """Addresses of global memory are their own generic ones."""
    assert parts[:2] == ["to", "global"], parts
    return _move(parts[2:], operands, symbols)


# --- memory ---


def _load(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
    space, *modifiers, kind = parts
    assert set(modifiers) <= {"v2", "v4", "nc"}, modifiers
    dtype = TYPES[kind]
    writes = [_writer(name) for name in _vector(operands[0])]
    if space == "param":
        match = re.fullmatch(r"\[([\w$]+)(?:\+(\d+))?\]", operands[1])
        assert match is not None
        first = symbols.parameters[match[1]] + int(match[2] or 0)

        def run(m: Any, lanes: Any) -> None:
            for write, value in zip(writes, np.frombuffer(m.parameters, dtype, len(writes), first), strict=True):
                write(m, lanes, np.array([value]))

        return run
    values = _memory(space, dtype, len(writes), operands[1], symbols, "read")

    def run(m: Any, lanes: Any) -> None:
        memory, places = values(m, lanes)
        for i, write in enumerate(writes):
            write(m, lanes, memory[places + i])

    return run


def _store(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
    space, *modifiers, kind = parts
    assert set(modifiers) <= {"v2", "v4"}, modifiers
    dtype = TYPES[kind]
    reads = [_reader(name, dtype, symbols) for name in _vector(operands[1])]
    values = _memory(space, dtype, len(reads), operands[0], symbols, "write")

    def run(m: Any, lanes: Any) -> None:
        memory, places = values(m, lanes)
        for i, read in enumerate(reads):
            memory[places + i] = read(m, lanes)

    return run


def _memory(
    space: str, dtype: np.dtype[Any], count: int, operand: str, symbols: Symbols, access: str
) -> Callable[[Any, Any], tuple[Array, Array]]:
    """What an instruction reads, writes or changes: a memory as values of this type, and the places in it."""
    assert space in {"global", "shared"}, space
    address, size = _address(operand, symbols), count * dtype.itemsize

    def find(m: Any, lanes: Any) -> tuple[Array, Array]:
        at, numbers = address(m, lanes), m.numbers(lanes)
        cells = touch(m, space, access, numbers, at, size)
        if space == "shared":
            return m.shared.view(dtype), cells[:, 0] // dtype.itemsize
        return m.memory.values(dtype), (at - m.memory.base) // dtype.itemsize

    return find


def touch(m: Any, space: str, access: str, numbers: Array, at: Array, size: int) -> Array:
    """Check and note an access of these threads; the cells [N, size] of the memory."""
    if (at % size).any():
        raise KernelError(f"{size} bytes of {space} memory at {at[at % size != 0][:4]}")
    owners = m.thread[numbers][:, None]
    if space == "shared":
        cells = m.shared_cells(numbers, at, size)
        getattr(m.traces, access)(cells, owners, m.epoch[m.block[numbers]][:, None])
    else:
        cells = m.memory.cells(at, size)
        getattr(m.memory.traces, access)(cells, owners, np.zeros((1, 1), np.int32))
    return cells


_ATOMIC: dict[str, Callable[[Any, Any], Any]] = {"add": lambda a, b: a + b, "max": max, "min": min}


def _atomic(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
    space, operation, kind = parts
    change, dtype = _ATOMIC[operation], TYPES[kind]
    write, read = _writer(operands[0]), _reader(operands[2], dtype, symbols)
    values = _memory(space, dtype, 1, operands[1], symbols, "change")

    def run(m: Any, lanes: Any) -> None:
        memory, places = values(m, lanes)
        operand = np.broadcast_to(read(m, lanes), len(places))
        before = np.empty(len(places), dtype)
        for i in m.random.permutation(len(places)):
            before[i] = memory[places[i]]
            memory[places[i]] = change(before[i], operand[i])
        write(m, lanes, before)

    return run


def _copy_in_background(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
    if parts == ["async", "commit_group"]:

        def run(m: Any, lanes: Any) -> None:
            m.together(lanes)
            m.copies.append(m.open_copies)
            m.open_copies = []

    elif parts == ["async", "wait_group"]:
        left = int(operands[0])

        def run(m: Any, lanes: Any) -> None:
            m.together(lanes)
            while len(m.copies) > left:
                for numbers, to, source, size in m.copies.pop(0):
                    cells = touch(m, "shared", "write", numbers, to, 16)
                    m.shared[cells] = 0
                    whole = size > 0
                    if whole.any():
                        touch(m, "global", "read", numbers[whole], source[whole], 16)
                        places = (source[whole] - m.memory.base)[:, None] + np.arange(16)
                        m.shared[cells[whole]] = m.memory.values(np.dtype(np.uint8))[places]

    else:
        assert parts == ["async", "cg", "shared", "global"], parts
        assert operands[2] == "16"
        to, source, size = _address(operands[0], symbols), _address(operands[1], symbols), _reader(operands[3], _U32, symbols)

        def run(m: Any, lanes: Any) -> None:
            numbers = m.numbers(lanes)
            count = np.broadcast_to(size(m, lanes), len(numbers)).copy()
            assert np.isin(count, (0, 16)).all()
            cells = touch(m, "shared", "write", numbers, to(m, lanes), 16)
            m.traces.written[cells] = False  # until it is waited for
            m.open_copies.append((numbers, to(m, lanes), source(m, lanes), count))

    return run


# --- the warp ---


def _shuffle(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
    assert parts == ["sync", "bfly", "b32"], parts
    write, *second = (_writer(name) for name in operands[0].split("|"))
    value, by, clamp, members = (_reader(operand, _U32, symbols) for operand in operands[1:])

    def run(m: Any, lanes: Any) -> None:
        numbers = m.numbers(lanes)
        assert (clamp(m, lanes) == 31).all()
        present = np.zeros((m.size // 32, 32), bool)
        present.reshape(-1)[numbers] = True
        wanted = (np.broadcast_to(members(m, lanes), len(numbers))[:, None] >> _LANE.astype(np.uint32)) & 1 == 1
        source = numbers ^ by(m, lanes).astype(np.int64)
        if (wanted & ~present[numbers // 32]).any() or not wanted[np.arange(len(numbers)), source % 32].all():
            raise KernelError("a shuffle that not all of its lanes reach")
        everywhere = np.zeros(m.size, np.uint32)
        everywhere[numbers] = value(m, lanes)
        write(m, lanes, everywhere[source])
        for also in second:
            also(m, lanes, np.ones(1, bool))

    return run


def _load_matrices(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
    across = "trans" in parts
    assert [part for part in parts if part != "trans"] == ["sync", "aligned", "m8n8", "x4", "shared", "b16"], parts
    writes, address = [_writer(name) for name in _vector(operands[0])], _address(operands[1], symbols)

    def run(m: Any, lanes: Any) -> None:
        warps = m.warps(lanes)
        cells = touch(m, "shared", "read", warps.reshape(-1), address(m, lanes), 16)
        rows = m.shared.view(_U16)[cells[:, ::2] // 2].reshape(-1, 4, 8, 8)  # [W, matrix, row, col]
        if across:
            rows = rows.swapaxes(2, 3)
        pairs = np.ascontiguousarray(rows).view(_U32).reshape(-1, 4, 32)
        for i, write in enumerate(writes):
            write(m, lanes, pairs[:, i].reshape(-1))

    return run


def _singles(bits: Array) -> Array:
    """Registers [W, 32] as values [W, 32, 1]: tensor cores ignore what float32 has beyond TF32."""
    return (bits & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)[..., None]


def _halves(kind: str) -> Callable[[Array], Array]:
    """Registers [W, 32] as values [W, 32, 2]."""
    if kind == "f16":
        return lambda bits: np.ascontiguousarray(bits).view(np.float16).reshape(*bits.shape, 2).astype(np.float64)
    return lambda bits: np.stack([bits << np.uint32(16), bits & np.uint32(0xFFFF0000)], -1).view(np.float32).astype(np.float64)


def _cut_off(value: Array) -> Array:
    """To float32 as tensor cores do (Fasi, Higham, Mikaitis and Pranesh, PeerJ Computer Science, 2021)."""
    rounded = value.astype(np.float32)
    return np.where(np.abs(rounded.astype(np.float64)) > np.abs(value), np.nextafter(rounded, np.float32(0)), rounded)


def _matrix_product(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
    sync, aligned, shape, row, col, *kinds = parts
    assert (sync, aligned, row, col) == ("sync", "aligned", "row", "col"), parts
    kind = kinds[1]
    assert kinds == ["f32", kind, kind, "f32"], kinds
    assert (shape, kind) in {("m16n8k16", "f16"), ("m16n8k16", "bf16"), ("m16n8k8", "f16"), ("m16n8k8", "tf32")}
    depth = int(shape.split("k")[1])
    writes = [_writer(name) for name in _vector(operands[0])]
    a, b, c = (
        [_reader(name, dtype, symbols) for name in _vector(operand)]
        for operand, dtype in zip(operands[1:], (_U32, _U32, _F32), strict=True)
    )
    if kind == "tf32":
        values, along, step = _singles, _IN_GROUP[:, None], 4
    else:
        values, along, step = _halves(kind), 2 * _IN_GROUP[:, None] + np.arange(2), 8
    assert len(a) == 2 * depth // step
    assert len(b) == depth // step

    def run(m: Any, lanes: Any) -> None:
        count = len(m.warps(lanes))
        left, right, sums = np.empty((count, 16, depth)), np.empty((count, depth, 8)), np.empty((count, 16, 8))
        get = lambda read: np.ascontiguousarray(np.broadcast_to(read(m, lanes), count * 32)).reshape(count, 32)  # noqa: E731
        for i, read in enumerate(a):
            left[:, (_GROUP + 8 * (i % 2))[:, None], along + step * (i // 2)] = values(get(read))
        for i, read in enumerate(b):
            right[:, along + step * i, _GROUP[:, None]] = values(get(read))
        for i, read in enumerate(c):
            sums[:, _GROUP + 8 * (i // 2), 2 * _IN_GROUP + i % 2] = get(read)
        result = _cut_off(sums + left @ right)
        for i, write in enumerate(writes):
            write(m, lanes, result[:, _GROUP + 8 * (i // 2), 2 * _IN_GROUP + i % 2].reshape(-1))

    return run


# --- control ---


def _branch(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
    assert parts in ([], ["uni"])
    (label,) = operands

    def run(m: Any, lanes: Any) -> bool:
        m.pc[lanes] = symbols.labels[label]
        return True

    return run


def _barrier(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
    assert (parts, operands) == (["sync"], ["0"])

    def run(m: Any, lanes: Any) -> bool:
        m.pc[lanes] = m.place + 1
        m.waiting[lanes] = True
        return True

    return run


def _return(parts: list[str], operands: list[str], symbols: Symbols) -> Step:
    assert not parts

    def run(m: Any, lanes: Any) -> bool:
        m.gone[lanes] = True
        return True

    return run


_INSTRUCTIONS: dict[str, Callable[[list[str], list[str], Symbols], Step]] = {
    "add": _elementwise(np.add),
    "sub": _elementwise(np.subtract),
    "mul": _multiply,
    "mad": _elementwise(lambda a, b, c: a * b + c, "lo"),
    "fma": _elementwise(_fma),
    "div": _elementwise(_divide),
    "rem": _elementwise(_remainder),
    "min": _elementwise(np.fmin),
    "max": _elementwise(np.fmax),
    "abs": _elementwise(np.abs),
    "neg": _elementwise(np.negative),
    "and": _elementwise(np.bitwise_and),
    "or": _elementwise(np.bitwise_or),
    "xor": _elementwise(np.bitwise_xor),
    "not": _elementwise(np.invert),
    "sqrt": _elementwise(np.sqrt),
    "rcp": _elementwise(lambda x: (1 / x).astype(x.dtype)),
    "ex2": _elementwise(np.exp2, "approx"),
    "shl": _shift(left=True),
    "shr": _shift(left=False),
    "bfi": _insert_bits,
    "setp": _set_predicate,
    "selp": _select,
    "mov": _move,
    "cvt": _convert,
    "cvta": _convert_address,
    "ld": _load,
    "st": _store,
    "atom": _atomic,
    "cp": _copy_in_background,
    "shfl": _shuffle,
    "ldmatrix": _load_matrices,
    "mma": _matrix_product,
    "bra": _branch,
    "bar": _barrier,
    "ret": _return,
}
