"""How much memory a re-ranking needs, told before it starts, and kept to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stcanet_runtime.backends.footprint import panel_bytes, thread_bytes
from stcanet_runtime.backends.neighbours import CONVERTED_ELEMENTS, DEFAULT_SCRATCH, stage_bytes
from stcanet_runtime.errors import MemoryLimitError

_MIN_SCRATCH = 1 << 20  # below it the blocks are so small that a search takes many times as long

_SET_ENTRY_BYTES = 64
"""For a neighbour: its share of the rows V before and after averaging (measured: 17 and 35 entries for 21 neighbours, 8 bytes
each; allowed: twice that) and of the temporaries."""
_MEMBER_BYTES = 48  # of a set, while it is weighed (measured: 44)
_AVERAGED_BYTES = 24  # of an entry of V while it is made (measured: 23 in C++; 27 in NumPy, which no longer has its search)
_THREAD_ROW_BYTES = 12  # a sum of overlaps, which may be listed, or a mark
_GPU_SCRATCH = 1 << 30  # blocks that keep a large GPU busy
_SHORTLIST_BYTES = 900  # of a row in a compiled search, besides three times its neighbours: 64 places, the farthest, limits
_HINT = "give more, ask for top= instead of all distances, or write them to a file with out='….npy'"


def shortlist_length(top: int, num_gallery: int) -> int:
    """Nearest gallery rows kept of every query: more than `top`, so that what is not among them is nearly always out."""
    return min(num_gallery, top + max(16, top // 8))


@dataclass(frozen=True)
class Task:
    """What the memory depends on."""

    num_query: int
    num_gallery: int
    dim: int
    """Columns of the embeddings; 0 where distances were given."""
    k: int
    """Length of the neighbour lists."""
    top: int | None
    """Places of every list, cut to `num_gallery`; None where all distances are wanted."""
    backend: str
    held_bytes: int
    """Of a result [Q, G] and of copies of the inputs."""

    def __post_init__(self) -> None:
        if self.top is not None:
            object.__setattr__(self, "top", min(self.top, self.num_gallery))

    @property
    def total(self) -> int:
        """N."""
        return self.num_query + self.num_gallery

    def fixed_bytes(self) -> int:
        """Everything but the blocks, which can be made smaller."""
        if self.backend == "reference":
            return self.held_bytes + 48 * self.total**2 + 8 * self.total * self.dim
        lists = self.total * (8 * self.k + 4)
        best = 0 if self.top is None else 12 * self.num_query * (self.top + shortlist_length(self.top, self.num_gallery))
        threads = thread_bytes(self.backend, self.total, _THREAD_ROW_BYTES)
        return self.held_bytes + lists + self.sets_bytes() + best + threads + self._search_bytes()

    def sets_bytes(self) -> int:
        """Allowed for the sets and the rows V, of which nobody knows beforehand how large they are."""
        return self.total * self.k * _SET_ENTRY_BYTES

    def _search_bytes(self) -> int:
        if self.backend == "compiled":
            listed = 0 if self.top is None else shortlist_length(self.top, self.num_gallery)
            lists = (_SHORTLIST_BYTES + 24 * self.k) * self.total
            return lists + ((_SHORTLIST_BYTES + 24 * listed) * self.num_query if listed else 0)
        # A scaled copy of the rows (on a GPU float16, made of pieces that are there up to three times in float64); pairs that
        # are measured; the tiles of a distance matrix in float64, or the stages.
        tiles = 8 * min(CONVERTED_ELEMENTS, self.num_gallery * self.dim) + 20 * min(1 << 20, self.num_query * self.num_gallery)
        pairs = 40 * min(1 << 18, self.total * self.k * self.dim)
        values = self.total * self.dim
        scaled = 2 * values + 24 * min(CONVERTED_ELEMENTS, values) if self.backend == "gpu" else 4 * values
        return scaled + pairs + max(tiles, stage_bytes(self.total, self.k))

    def scratch(self) -> int:
        """Bytes for blocks when there is no limit: no more than one block that holds everything."""
        limit = _GPU_SCRATCH if self.backend == "gpu" else DEFAULT_SCRATCH
        return max(self.least_scratch(), min(limit, self._whole_block()))

    def least_scratch(self) -> int:
        """Bytes for the smallest blocks."""
        return min(_MIN_SCRATCH, self._whole_block()) + panel_bytes(self.backend, self.dim)

    def _whole_block(self) -> int:
        return max(1, 16 * self.total * (self.total + self.dim))


def plan_scratch(task: Task, max_memory: int | None) -> int:
    """Bytes that blocks may have.

    Raises:
        MemoryLimitError: not even small blocks fit into the limit.
    """
    wanted = task.scratch()
    if max_memory is None:
        return wanted
    needed = task.fixed_bytes() + task.least_scratch()
    if needed > max_memory:
        raise MemoryLimitError(needed, max_memory, _HINT)
    return min(wanted, max_memory - task.fixed_bytes())


@dataclass(frozen=True)
class SetsRoom:
    """What a limit leaves for sets and the rows V: they may be unusually large, which is known when the neighbours are."""

    task: Task
    max_memory: int

    def check_members(self, count: int) -> None:
        """Raise MemoryLimitError when so many members of the sets cannot be weighed within the limit."""
        self._check(_MEMBER_BYTES * count, count)

    def check_rows(self, most: int, count: Callable[[], int]) -> None:
        """Raise MemoryLimitError when the rows V cannot be made within the limit.

        Args:
            most: that their entries can be; nearly always this is enough to know.
            count: the entries themselves, which takes about as long as to make them.
        """
        if self._needed(_AVERAGED_BYTES * most) <= self.max_memory:
            return
        entries = count()
        self._check(_AVERAGED_BYTES * entries, entries)

    def left(self, entries: int, scratch: int) -> int:
        """Of the bytes for blocks those that are left beside so many entries of V."""
        taken = self._needed(_AVERAGED_BYTES * entries) - self.task.least_scratch()
        return max(self.task.least_scratch(), min(scratch, self.max_memory - taken))

    def _needed(self, sets_bytes: int) -> int:
        return self.task.fixed_bytes() + self.task.least_scratch() + max(0, sets_bytes - self.task.sets_bytes())

    def _check(self, sets_bytes: int, entries: int) -> None:
        needed = self._needed(sets_bytes)
        if needed > self.max_memory:
            hint = f"the sets are unusually large, {entries:,} entries; give more, or lower k1 or k2"
            raise MemoryLimitError(needed, self.max_memory, hint)
