"""How much memory a re-ranking needs, told before it starts, and kept to."""

from __future__ import annotations

from dataclasses import dataclass

from stcanet_runtime.backends.neighbours import CONVERTED_ELEMENTS, DEFAULT_SCRATCH, stage_bytes
from stcanet_runtime.errors import MemoryLimitError

MIN_SCRATCH = 1 << 20
"""Below it the blocks are so small that a search takes many times as long."""

_SET_ENTRY_BYTES = 64
"""For a neighbour: its share of the rows V before and after averaging (measured: 17 and 35 entries for 21 neighbours, 8 bytes
each; allowed: twice that) and of the temporaries."""
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
        sets = self.total * self.k * _SET_ENTRY_BYTES
        best = 0 if self.top is None else 12 * self.num_query * (self.top + shortlist_length(self.top, self.num_gallery))
        return self.held_bytes + lists + sets + best + self._search_bytes()

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
        return min(limit, max(1, 16 * self.total * (self.total + self.dim)))


def plan_scratch(task: Task, max_memory: int | None) -> int:
    """Bytes that blocks may have.

    Raises:
        MemoryLimitError: not even small blocks fit into the limit.
    """
    wanted = task.scratch()
    if max_memory is None:
        return wanted
    needed = task.fixed_bytes() + min(MIN_SCRATCH, wanted)
    if needed > max_memory:
        raise MemoryLimitError(needed, max_memory, _HINT)
    return min(wanted, max_memory - task.fixed_bytes())


def check_sets(entries: int, task: Task, max_memory: int | None) -> None:
    """Raise MemoryLimitError when the rows V have so many entries that they do not fit into the limit."""
    needed = task.fixed_bytes() + max(0, 24 * entries - task.total * task.k * _SET_ENTRY_BYTES)
    if max_memory is not None and needed > max_memory:
        raise MemoryLimitError(needed, max_memory, f"the sets are unusually large, {entries:,} entries; give more, or lower k1")
