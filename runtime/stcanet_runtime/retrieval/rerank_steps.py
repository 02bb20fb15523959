"""The course of a re-ranking, the same for embeddings and matrices, for all backends and all kinds of results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.arrays import check_count
from stcanet_runtime.backends import reference
from stcanet_runtime.backends.footprint import panel_bytes
from stcanet_runtime.backends.neighbours import GalleryLists, Neighbours, Sparse, overlap_costs, row_groups
from stcanet_runtime.errors import OptionError
from stcanet_runtime.files import check_writable
from stcanet_runtime.progress import Progress
from stcanet_runtime.retrieval.kreciprocal import Settings, encode
from stcanet_runtime.retrieval.ranking import SearchResult, best_of
from stcanet_runtime.retrieval.rerank_memory import SetsRoom, Task, plan_scratch, shortlist_length
from stcanet_runtime.retrieval.rerank_output import check_array, save_blocks
from stcanet_runtime.retrieval.rerank_sources import EmbeddingSource, Source

Groups = tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]

_OVERLAP_BYTES = 24  # an entry with its temporaries


@dataclass(frozen=True, eq=False)
class Request:
    """What shall come out, and within which bounds; that `out` has the shape is seen later."""

    top: int | None
    groups: Groups
    out: NDArray[np.float32] | Path | None
    max_memory: int | None
    progress: Progress | None

    def __post_init__(self) -> None:
        if self.top is None and self.groups[0] is not None:
            raise OptionError("q_camids", "cameras", "left out without top; `evaluate` applies the camera rule to a matrix")
        if self.top is not None and self.out is not None:
            raise OptionError("out", type(self.out).__name__, "left out together with top, whose result is small")
        for name in ("top", "max_memory"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, check_count(value, name))


@dataclass(frozen=True, eq=False)
class Run:
    """One re-ranking; `run` does it."""

    source: Source
    settings: Settings
    request: Request
    backend_name: str

    def run(self) -> NDArray[np.float32] | Path | SearchResult:
        """Distances [Q, G], the file that they are in, or the best of every query."""
        out, shape = self.request.out, (self.source.num_query, self.source.num_gallery)
        if isinstance(out, np.ndarray):
            check_array(out, shape)
        if out is not None:
            self.source.check_out(out)
        scratch = plan_scratch(self._task, self.request.max_memory)
        if isinstance(out, Path):
            check_writable(out)
        self.source.load()
        if 0 in shape:
            return self._deliver(iter(()), np.empty(shape, np.float32))
        if self.backend_name == "reference":
            return self._run_reference()
        whole = self.request.top is None and not isinstance(out, Path)
        dense = (np.empty(shape, np.float32) if out is None else np.asarray(out)) if whole else None
        length = self.settings.list_length(self._task.total)
        if self._task.top is not None and isinstance(self.source, EmbeddingSource):
            return self._run_top(self.source, length, self._task.top, scratch)
        neighbours = self.source.neighbours(length, dense, self._report_search, scratch)
        rows, scratch = self._encode(neighbours, scratch)
        return self._deliver(self._finished(rows, neighbours.farthest, dense, scratch), dense)

    def _run_top(self, source: EmbeddingSource, length: int, places: int, scratch: int) -> SearchResult:
        shape = source.num_query, shortlist_length(places, source.num_gallery)
        # Beside the embeddings, in memory or on a GPU: what lies there stays there.
        distances, indices = (np.empty(shape, dtype, like=source.query) for dtype in (np.float32, np.int64))
        lists = GalleryLists(distances, indices, *self.request.groups)
        neighbours = source.neighbours(length, None, self._report_search, scratch, lists)
        rows, scratch = self._encode(neighbours, scratch)
        return SearchResult(
            *source.best(rows, neighbours.farthest, lists, places, self.settings, self._report_queries, scratch)
        )

    def _encode(self, neighbours: Neighbours, scratch: int) -> tuple[Sparse, int]:
        """The rows V, within the limit, and the bytes that blocks may have beside them."""
        limit = self.request.max_memory
        room = None if limit is None else SetsRoom(self._task, limit)
        rows = encode(self.source.backend, neighbours, self.settings, self.source.measure, room)
        self._report_queries(0)
        return rows, scratch if room is None else room.left(len(rows[1]), scratch)

    @cached_property
    def _task(self) -> Task:
        source, request = self.source, self.request
        result = 0 if request.out is not None or request.top is not None else 4 * source.num_query * source.num_gallery
        length = self.settings.list_length(source.num_query + source.num_gallery)
        return Task(
            source.num_query,
            source.num_gallery,
            source.dim,
            length,
            request.top,
            self.backend_name,
            result + source.copied_bytes,
        )

    def _finished(
        self, rows: Sparse, farthest: NDArray[np.float32], dense: NDArray[np.float32] | None, scratch: int
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Blocks of final distances [R, G]: of `dense`, in place, or one at a time."""
        backend, count = self.source.backend, self.source.num_query
        row_bytes = 0 if dense is not None else 8 * self.source.num_gallery
        if dense is None:  # half for the rows of a block, half for what makes them, unless that takes more
            scratch = max(1, scratch - max(scratch // 2, panel_bytes(self.backend_name, self.source.dim)))
        for queries in row_groups(overlap_costs(rows, count) * _OVERLAP_BYTES + row_bytes, scratch):
            block = self.source.block(queries, scratch) if dense is None else dense[queries]
            nearness = backend.overlaps(*rows, count, queries.start, queries.stop)
            backend.blend(block, nearness, farthest[queries], self.settings.power, self.settings.lambda_value)
            yield queries, block
            self._report_queries(queries.stop)

    def _deliver(
        self, blocks: Iterator[tuple[slice, NDArray[np.float32]]], dense: NDArray[np.float32] | None
    ) -> NDArray[np.float32] | Path | SearchResult:
        """Bring blocks of final distances [R, G] to where the result is wanted; `dense` holds them when they are done."""
        shape = (self.source.num_query, self.source.num_gallery)
        if self._task.top is not None:
            return self._select(blocks, self._task.top)
        if isinstance(self.request.out, Path):
            return save_blocks(self.request.out, shape, (block for _, block in blocks))
        for _ in blocks:
            pass
        return self.request.out if self.request.out is not None else np.asarray(dense)

    def _select(self, blocks: Iterator[tuple[slice, NDArray[np.float32]]], places: int) -> SearchResult:
        """The best of every query from blocks of final distances."""
        shape, (q_groups, g_groups) = (self.source.num_query, places), self.request.groups
        result = SearchResult(np.full(shape, np.inf, np.float32), np.full(shape, -1, np.int64))
        for queries, block in blocks:
            found = best_of(block, places, None if q_groups is None else q_groups[queries], g_groups, self.source.backend)
            result.distances[queries], result.indices[queries] = found.distances, found.indices
        return result

    def _run_reference(self) -> NDArray[np.float32] | Path | SearchResult:
        count, settings = self.source.num_query, self.settings
        self._report_search(0, 1)
        final = reference.rerank(
            self.source.joint(), count, settings.k1, settings.k2, settings.lambda_value, settings.power
        ).astype(np.float32)
        if isinstance(self.request.out, np.ndarray):
            self.request.out[:] = final
        self._report_search(1, 1)
        delivered = self._deliver(iter([(slice(0, count), final)]), final)
        self._report_queries(count)
        return delivered

    def _report_search(self, done: int, total: int) -> None:
        if self.request.progress is not None:
            rows = self._task.total
            self.request.progress(done * rows // max(1, total), rows + self.source.num_query)

    def _report_queries(self, done: int, _: int = 0) -> None:
        if self.request.progress is not None:
            self.request.progress(self._task.total + done, self._task.total + self.source.num_query)
