"""Where re-ranking gets distances from: embeddings, or matrices that the caller made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stcanet_runtime.arrays import as_array
from stcanet_runtime.backends import Backend, reference_distance
from stcanet_runtime.backends.neighbours import GalleryLists, Neighbours, Sparse
from stcanet_runtime.embeddings import MAX_MAGNITUDE, conversion_bytes
from stcanet_runtime.errors import ShapeError
from stcanet_runtime.progress import Progress
from stcanet_runtime.retrieval.distance import as_pair
from stcanet_runtime.retrieval.kreciprocal import Settings
from stcanet_runtime.retrieval.rerank_output import check_apart


class Source(Protocol):
    """Distances of the joint set, queries first."""

    backend: Backend
    num_query: int
    num_gallery: int
    dim: int
    """Columns of the embeddings; 0 where there are none."""
    copied_bytes: int
    """What `load` allocates in memory."""

    def check_out(self, out: NDArray[np.float32] | Path) -> None:
        """Refuse an `out` that is an input; see `check_apart`."""
        ...

    def load(self) -> None:
        """Check and convert what is large, once the memory for it is planned; before it, only sizes are known."""
        ...

    def neighbours(self, k: int, dense: NDArray[np.float32] | None, progress: Progress | None, scratch: int) -> Neighbours:
        """The k nearest of each of the N rows; `dense` [Q, G] is filled with the distances."""
        ...

    def measure(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.float32]:
        """Exact distances [P] of pairs of joint rows."""
        ...

    def block(self, queries: slice, scratch: int) -> NDArray[np.float32]:
        """Distances [R, G] of some queries, in an array of its own, made in about `scratch` bytes."""
        ...

    def joint(self) -> NDArray[np.float32]:
        """The joint matrix [N, N], for the reference."""
        ...


class EmbeddingSource:
    """Distances of embeddings, as `form_pair` gives them: of any real type until `load`."""

    def __init__(self, query: NDArray[Any], gallery: NDArray[Any], metric: str, backend: Backend) -> None:
        self.query, self.gallery, self.metric, self.backend = query, gallery, metric, backend
        self.num_query, self.num_gallery, self.dim = len(query), len(gallery), query.shape[1]
        self.copied_bytes = conversion_bytes(query) + conversion_bytes(gallery)

    def check_out(self, out: NDArray[np.float32] | Path) -> None:
        """Refuse an `out` that is of the embeddings; see `check_apart`."""
        check_apart(out, query=self.query, gallery=self.gallery)

    def load(self) -> None:
        """Check the values, and make them float32."""
        self.query, self.gallery = as_pair(self.query, self.gallery, self.backend, keep_float16=False)

    def neighbours(
        self,
        k: int,
        dense: NDArray[np.float32] | None,
        progress: Progress | None,
        scratch: int,
        lists: GalleryLists | None = None,
    ) -> Neighbours:
        """The k nearest of each of the N rows; from the same products `lists`, which matrices have no need for."""
        return self.backend.neighbours(
            self.query, self.gallery, k, self.metric, dense=dense, lists=lists, progress=progress, scratch_bytes=scratch
        )

    def best(
        self,
        rows: Sparse,
        farthest: NDArray[np.float32],
        lists: GalleryLists,
        places: int,
        settings: Settings,
        progress: Progress,
        scratch: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Final distances and indices [Q, places] of the best gallery rows of every query."""
        return self.backend.select_best(
            *(self.query, self.gallery, self.metric, rows, farthest, lists, places, settings.power, settings.lambda_value),
            progress=progress,
            scratch_bytes=scratch,
        )

    def measure(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.float32]:
        """Exact distances [P] of pairs of joint rows."""
        return self.backend.pair_distances(self.query, self.gallery, rows, cols, self.metric)

    def block(self, queries: slice, scratch: int) -> NDArray[np.float32]:
        """Distances [R, G] of some queries."""
        return self.backend.distance_matrix(self.query[queries], self.gallery, self.metric, scratch_bytes=scratch)

    def joint(self) -> NDArray[np.float32]:
        """The joint matrix [N, N]."""
        joint = np.concatenate([self.query, self.gallery])
        return reference_distance.distance_matrix(joint, joint, self.metric)


class MatrixSource:
    """Distances from matrices; the distances *to* row i, column i of the joint matrix, are those of row i.

    Blocks are converted to float32 one at a time: the joint matrix is never made.
    """

    dim = 0
    copied_bytes = 0

    def __init__(self, q_g: ArrayLike, q_q: ArrayLike, g_g: ArrayLike, backend: Backend) -> None:
        self._q_g = _as_distances(q_g, "q_g")
        self.num_query, self.num_gallery = self._q_g.shape
        self._q_q = _as_distances(q_q, "q_q", self.num_query)
        self._g_g = _as_distances(g_g, "g_g", self.num_gallery)
        self.backend = backend

    def check_out(self, out: NDArray[np.float32] | Path) -> None:
        """Refuse an `out` that is a matrix; but an array may be `q_g`, since that stays as it is until the end."""
        if isinstance(out, Path) or not _is_same(out, self._q_g):
            check_apart(out, q_g=self._q_g, q_q=self._q_q, g_g=self._g_g)

    def load(self) -> None:
        """Nothing: the values are checked, and blocks are converted as they are read."""

    def neighbours(self, k: int, dense: NDArray[np.float32] | None, progress: Progress | None, scratch: int) -> Neighbours:
        """The k nearest of each of the N rows."""
        total = self.num_query + self.num_gallery
        result = Neighbours(np.empty((total, k), np.int32), np.empty((total, k), np.float32), np.empty(total, np.float32))
        step = max(1, scratch // (16 * total))
        for first, last in ((0, self.num_query), (self.num_query, total)):
            for start in range(first, last, step):
                if progress is not None:
                    progress(start, total)
                rows = slice(start, min(start + step, last))
                values = self._columns(rows)
                result.distances[rows], result.indices[rows] = self.backend.smallest(values, k)
                result.farthest[rows] = values.max(axis=1)
        if dense is not None:
            dense[:] = self._q_g
        if progress is not None:
            progress(total, total)
        return result

    def _columns(self, rows: slice) -> NDArray[np.float32]:
        """Rows [R, N] of the transposed joint matrix, all of queries or all of the gallery."""
        result = np.empty((rows.stop - rows.start, self.num_query + self.num_gallery), np.float32)
        if rows.start < self.num_query:
            result[:, : self.num_query] = self._q_q[:, rows].T
            result[:, self.num_query :] = self._q_g[rows]
        else:
            gallery = slice(rows.start - self.num_query, rows.stop - self.num_query)
            result[:, : self.num_query] = self._q_g[:, gallery].T
            result[:, self.num_query :] = self._g_g[:, gallery].T
        return result

    def measure(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.float32]:
        """Distances [P] of the joint matrix at (cols, rows)."""
        result = np.empty(len(rows), np.float32)
        row_of_query, col_of_query = rows < self.num_query, cols < self.num_query
        i, j = rows - self.num_query * ~row_of_query, cols - self.num_query * ~col_of_query
        for mask, matrix, first, second in (
            (row_of_query & col_of_query, self._q_q, j, i),
            (row_of_query & ~col_of_query, self._q_g, i, j),
            (~row_of_query & col_of_query, self._q_g, j, i),
            (~row_of_query & ~col_of_query, self._g_g, j, i),
        ):
            result[mask] = matrix[first[mask], second[mask]]
        return result

    def block(self, queries: slice, scratch: int) -> NDArray[np.float32]:  # noqa: ARG002  (a copy, no more)
        """Distances [R, G] of some queries."""
        return np.array(self._q_g[queries], np.float32, order="C")

    def joint(self) -> NDArray[np.float32]:
        """The joint matrix [N, N]."""
        return np.block([[self._q_q, self._q_g], [self._q_g.T, self._g_g]]).astype(np.float32)


def _is_same(out: NDArray[np.float32], matrix: NDArray[Any]) -> bool:
    """Whether a matrix of the shape of `out`, which is contiguous, lies in its place."""
    return matrix.dtype == out.dtype and matrix.flags.c_contiguous and matrix.ctypes.data == out.ctypes.data


def _as_distances(matrix: ArrayLike, name: str, size: int | None = None) -> NDArray[np.floating | np.integer]:
    """Check distances, [size, size] if a size is given."""
    array = as_array(matrix, name)
    wanted = "two dimensions" if size is None else f"shape [{size}, {size}], as q_g has it"
    if array.ndim != 2 or (size is not None and array.shape != (size, size)):
        raise ShapeError(f"{name} must have {wanted}, got {list(array.shape)}")
    if array.dtype.kind not in "fiu":
        raise ShapeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    # NaN fails both comparisons; as Python floats, since float16 would overflow on the limit.
    if array.size and not (float(array.min()) >= 0.0 and float(array.max()) <= MAX_MAGNITUDE):
        bad = next(i for i, row in enumerate(array) if not (float(row.min()) >= 0.0 and float(row.max()) <= MAX_MAGNITUDE))
        raise ShapeError(
            f"{name} must hold distances from 0 to {MAX_MAGNITUDE:g}, row {bad} has others (from {float(array[bad].min()):g} "
            f"to {float(array[bad].max()):g}); clip what rounding made negative, and turn similarities into distances"
        )
    return array
