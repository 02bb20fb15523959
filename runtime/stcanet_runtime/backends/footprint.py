"""What calls into the C++ backend allocate whatever their ``scratch_bytes`` say, so that plans of memory can count it."""

from __future__ import annotations

_BLOCK_ROWS = 384  # kBlock of csrc: a panel holds a block of rows at least
_PADDED_COLUMNS = 32  # at most, to a multiple of which a product fills its columns up
# A block of sums, 384 × 384 float32, twice since allocators keep much for every thread (measured: 1.2 MiB).
_THREAD_BYTES = 5 << 18
_UNIT_ROWS = 16  # the smallest unit of work outside the sweep


def panel_bytes(backend: str, dim: int) -> int:
    """The two smallest panels that a sweep can pack, of rows [D]; 0 for backends that have none."""
    if backend != "compiled":
        return 0
    return 2 * 4 * _BLOCK_ROWS * _round_up(dim, _PADDED_COLUMNS)


def thread_bytes(backend: str, rows: int, row_bytes: int = 0) -> int:
    """What all threads have for themselves; 0 for backends without threads of their own.

    Args:
        backend: a name.
        rows: N of both sides together; few rows are work for few threads.
        row_bytes: that each thread keeps for every row.
    """
    if backend != "compiled":
        return 0
    from stcanet_runtime.backends.compiled import resolve_threads

    threads = resolve_threads()
    blocks, units = _round_up(rows, _BLOCK_ROWS) // _BLOCK_ROWS, _round_up(rows, _UNIT_ROWS) // _UNIT_ROWS
    # Sums belong to the sweep, rows to what follows it.
    return max(_THREAD_BYTES * min(threads, blocks**2), row_bytes * rows * min(threads, units))


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step
