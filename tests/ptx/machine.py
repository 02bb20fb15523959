"""Runs PTX, which nvcc makes of CUDA kernels, on NumPy: for tests of what is compiled where no GPU is.

All threads of some blocks go through an instruction at once, those that are furthest behind first. Held against the
PTX manual, and an error (`KernelError`) wherever a kernel leaves its ground:

* global memory outside of what was given to the launch, shared memory outside of the block's, addresses that are no
  multiple of the size;
* shared memory that is read before it was written, also while a copy in the background may still be on its way;
* races: what one thread writes, another one reads or writes without a barrier between (in global memory: in the same
  launch), other than by atomics;
* barriers that not all threads of a block reach, instructions of a warp that not all of its lanes reach.

Sums of tensor cores are cut off and not rounded, as on the hardware; exp2, logarithms, roots and quotients are rounded
to nearest.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.ptx.instructions import KernelError
from tests.ptx.parser import Kernel

Lanes = slice | NDArray[np.intp]
WARP = 32
_MANY = -2
_MAX_THREADS = 4096  # that go through an instruction at once


class Traces:
    """Who wrote and read each cell of a memory last, and in which epoch: between two barriers, or in one launch."""

    def __init__(self, cells: int, written: bool) -> None:
        self.writer, self.reader = (np.full(cells, -1, np.int32) for _ in range(2))
        self.written_in, self.read_in = (np.full(cells, -1, np.int32) for _ in range(2))
        self.written = np.full(cells, written)

    def read(self, cells: NDArray[Any], threads: NDArray[Any], epochs: NDArray[Any]) -> None:
        """`threads` and `epochs` broadcast to `cells`."""
        if not self.written[cells].all():
            raise KernelError("memory is read that nobody has written yet")
        if ((self.written_in[cells] == epochs) & (self.writer[cells] != threads)).any():
            raise KernelError("race: a thread reads what another one has written without a barrier")
        again = (self.read_in[cells] == epochs) & (self.reader[cells] != threads)
        self.reader[cells] = np.where(again, _MANY, threads)
        self.read_in[cells] = epochs
        if (self.reader[cells] != threads).any():  # several at once
            self.reader[cells[self.reader[cells] != threads]] = _MANY

    def change(self, cells: NDArray[Any], threads: NDArray[Any], epochs: NDArray[Any]) -> None:
        """See `read`; by atomics, which may follow one another in any order."""
        if not self.written[cells].all():
            raise KernelError("memory is changed that nobody has written yet")
        plain = (self.written_in[cells] == epochs) & (self.writer[cells] != threads) & (self.writer[cells] != _MANY)
        if (plain | (self.read_in[cells] == epochs) & (self.reader[cells] != threads)).any():
            raise KernelError("race: an atomic change of what another thread has read or written without a barrier")
        self.writer[cells] = _MANY
        self.written_in[cells] = epochs

    def write(self, cells: NDArray[Any], threads: NDArray[Any], epochs: NDArray[Any]) -> None:
        """See `read`."""
        if ((self.written_in[cells] == epochs) & (self.writer[cells] != threads)).any():
            raise KernelError("race: two threads write to one place without a barrier")
        if ((self.read_in[cells] == epochs) & (self.reader[cells] != threads)).any():
            raise KernelError("race: a thread writes what another one has read without a barrier")
        self.writer[cells] = threads
        self.written_in[cells] = epochs
        self.written[cells] = True
        if (self.writer[cells] != threads).any():
            raise KernelError("race: two threads write to one place at once")


class Global:
    """What a launch may touch of the memory of this process: addresses and sizes."""

    def __init__(self, places: Sequence[tuple[int, int]]) -> None:
        spans: list[list[int]] = []
        for start, end in sorted((address, address + size) for address, size in places if size):
            if spans and start <= spans[-1][1]:
                spans[-1][1] = max(end, spans[-1][1])
            else:
                spans.append([start, end])
        self.starts, self.ends = np.array(spans, np.int64).reshape(-1, 2).T
        self.base = int(self.starts[0]) // 16 * 16 if spans else 0
        size = (int(self.ends[-1]) - self.base + 15) // 16 * 16 if spans else 0
        self._bytes = (
            np.frombuffer((ctypes.c_char * size).from_address(self.base), np.uint8) if spans else np.zeros(0, np.uint8)
        )
        self._bytes.flags.writeable = True
        self._first_cell = np.concatenate([[0], np.cumsum(self.ends - self.starts)])
        self.traces = Traces(int(self._first_cell[-1]), written=True)

    def cells(self, addresses: NDArray[Any], size: int) -> NDArray[Any]:
        """The places [N, size] of the bytes in `traces`."""
        at = addresses.astype(np.int64)
        span = np.searchsorted(self.starts, at, side="right") - 1
        if (span < 0).any() or (at + size > self.ends[span]).any():
            raise KernelError(
                f"global memory outside of what was given: {size} bytes at {at[(span < 0) | (at + size > self.ends[span])][:4]}"
            )
        return (self._first_cell[span] + at - self.starts[span])[:, None] + np.arange(size)

    def values(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """All of it as values of this type, beginning at `base`."""
        return self._bytes.view(dtype)


class Blocks:
    """Some blocks of a launch, on their way through the kernel."""

    def __init__(
        self, kernel: Kernel, blocks: NDArray[Any], grid: tuple[int, int, int], threads: int, memory: Global, dynamic: int
    ) -> None:
        self.kernel, self.memory = kernel, memory
        self.size, self.block_size = len(blocks) * threads, threads
        self.thread = np.repeat(blocks.astype(np.int32) * threads, threads) + np.tile(
            np.arange(threads, dtype=np.int32), len(blocks)
        )
        self.block = np.repeat(np.arange(len(blocks)), threads)
        block = np.repeat(blocks, threads)
        self.registers = {name: np.zeros(self.size, dtype) for name, dtype in kernel.registers.items()}
        place = {
            "tid": (np.tile(np.arange(threads), len(blocks)), 0, 0),
            "ctaid": (block % grid[0], block // grid[0] % grid[1], block // (grid[0] * grid[1])),
            "ntid": (threads, 1, 1),
            "nctaid": grid,
        }
        for name, values in place.items():
            for axis, value in zip("xyz", values, strict=True):
                self.registers[f"%{name}.{axis}"] = np.broadcast_to(np.asarray(value, np.uint32), self.size).copy()
        self.shared_size = -(-(kernel.shared_bytes + dynamic) // 16) * 16
        self.shared = np.zeros(len(blocks) * self.shared_size, np.uint8)
        self.shared_end = kernel.shared_bytes + dynamic
        self.traces = Traces(len(self.shared), written=False)
        self.epoch = np.zeros(len(blocks), np.int32)
        self.pc = np.zeros(self.size, np.int64)
        self.waiting, self.gone = np.zeros(self.size, bool), np.zeros(self.size, bool)
        self.random = np.random.default_rng()
        self.open_copies: list[Any] = []
        self.copies: list[list[Any]] = []

    def run(self) -> None:
        """To the end of the kernel."""
        code, labels = self.kernel.code, self.kernel.targets
        while True:
            ready = np.flatnonzero(~(self.waiting | self.gone))
            if len(ready) == 0:
                if self.gone.all():
                    break
                self._release()
                continue
            pc = int(self.pc[ready].min())
            now = ready[self.pc[ready] == pc]
            lanes: Lanes = slice(None) if len(now) == self.size else now
            left = False
            while not left:
                self.place = pc
                try:
                    left = code[pc](self, lanes)
                except KernelError as fault:
                    raise KernelError(
                        f"{fault}; at {self.kernel.statements[pc]!r}, instruction {pc} of {self.kernel.name}"
                    ) from None
                pc += 1
                if not left and pc in labels:
                    self.pc[lanes] = pc
                    left = True
        if self.open_copies or any(self.copies):
            raise KernelError("copies in the background that nobody waited for")

    def numbers(self, lanes: Lanes) -> NDArray[np.intp]:
        """The threads that `lanes` selects, as places in the registers."""
        return np.arange(self.size)[lanes] if isinstance(lanes, slice) else lanes

    def warps(self, lanes: Lanes) -> NDArray[np.intp]:
        """Those threads as [W, 32]; all lanes of a warp must be there."""
        numbers = self.numbers(lanes)
        if (
            len(numbers) % WARP
            or (numbers.reshape(-1, WARP) != numbers[::WARP, None] + np.arange(WARP)).any()
            or (numbers[::WARP] % WARP).any()
        ):
            raise KernelError("an instruction of a warp that not all of its lanes reach")
        return numbers.reshape(-1, WARP)

    def together(self, lanes: Lanes) -> None:
        """Groups of copies are counted for all threads alike."""
        if not isinstance(lanes, slice):
            raise KernelError("copies in the background that only some threads begin or wait for")

    def shared_cells(self, numbers: NDArray[Any], addresses: NDArray[Any], size: int) -> NDArray[Any]:
        """The places [N, size] of the bytes in `shared`."""
        at = addresses.astype(np.int64)
        if (at % size).any() or (at < 0).any() or (at + size > self.shared_end).any():
            raise KernelError(f"shared memory: {size} bytes at {at[:4]} of {self.shared_end}")
        return (self.block[numbers] * self.shared_size + at)[:, None] + np.arange(size)

    def _release(self) -> None:
        waiting, pcs = self.waiting.reshape(-1, self.block_size), self.pc.reshape(-1, self.block_size)
        some = waiting.any(axis=1)
        if not waiting[some].all() or (pcs[some] != pcs[some, :1]).any():
            raise KernelError("a barrier that not all threads of a block reach")
        self.waiting[:] = False
        self.epoch += 1


def launch(
    kernel: Kernel,
    grid: tuple[int, int, int],
    threads: int,
    arguments: Sequence[bytes],
    places: Sequence[tuple[int, int]],
    dynamic: int = 0,
) -> None:
    """Run a kernel: its arguments as the bytes that a host would pass, and the global memory that it may touch,
    as addresses and sizes."""
    if tuple(map(len, arguments)) != kernel.parameter_sizes:
        raise KernelError(f"arguments of {tuple(map(len, arguments))} bytes, and the kernel takes {kernel.parameter_sizes}")
    if kernel.max_threads and threads > kernel.max_threads:
        raise KernelError(f"{threads} threads, and the kernel is compiled for {kernel.max_threads}")
    memory = Global(places)
    values = b""
    for offset, value in zip(kernel.parameter_offsets, arguments, strict=True):
        values = values.ljust(offset, b"\0") + value
    total, some = grid[0] * grid[1] * grid[2], max(1, _MAX_THREADS // threads)
    with np.errstate(all="ignore"):
        for first in range(0, total, some):
            blocks = Blocks(kernel, np.arange(first, min(first + some, total)), grid, threads, memory, dynamic)
            blocks.parameters = values
            blocks.run()
