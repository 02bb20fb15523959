"""Who is on the images of both sides of an evaluation, and what is therefore a match, hidden or junk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stcanet_runtime.arrays import as_ids, as_list
from stcanet_runtime.backends.matches import Truth
from stcanet_runtime.backends.neighbours import row_groups
from stcanet_runtime.errors import ShapeError

JUNK_PID = -1


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Identities and cameras of Q queries and G gallery images."""

    q_pids: NDArray[np.int64]
    """[Q]"""
    g_pids: NDArray[np.int64]
    """[G]"""
    cameras: tuple[NDArray[Any], NDArray[Any]] | None
    """[Q] and [G]; None: nothing is hidden by camera."""
    by_pid: NDArray[np.int64]
    """Gallery indices without junk, by (identity, index)."""
    start: NDArray[np.int64]
    """[Q]; the images of the identity of query i are ``by_pid[start[i]:stop[i]]``."""
    stop: NDArray[np.int64]
    """[Q]"""
    junk: NDArray[np.int64]
    """Gallery indices of junk, ascending."""

    @classmethod
    def of(
        cls,
        q_pids: ArrayLike,
        g_pids: ArrayLike,
        q_camids: ArrayLike | None,
        g_camids: ArrayLike | None,
        shape: tuple[int, int],
    ) -> GroundTruth:
        """Check identities and cameras, and find the images of each query's identity.

        Args:
            q_pids: [Q] integers.
            g_pids: [G] integers; −1 is junk.
            q_camids: [Q] integers or names, or None.
            g_camids: [G], given if and only if `q_camids` is.
            shape: Q and G.

        Raises:
            ShapeError: lengths do not fit, or ids are of the wrong kind.
        """
        queries, gallery = as_ids(q_pids, shape[0], "q_pids"), as_ids(g_pids, shape[1], "g_pids")
        cameras = _cameras(q_camids, g_camids, shape)
        is_junk = gallery == JUNK_PID
        kept = np.flatnonzero(~is_junk)
        by_pid = kept[np.argsort(gallery[kept], kind="stable")]
        found = gallery[by_pid]
        start, stop = (np.searchsorted(found, queries, side).astype(np.int64) for side in ("left", "right"))
        return cls(queries, gallery, cameras, by_pid, start, stop, np.flatnonzero(is_junk))

    def groups(self, row_cost: int, limit: int) -> Iterator[slice]:
        """Queries in slices whose costs add up to the limit, or single: `row_cost` each, and 1 for each of its images."""
        return row_groups(self.stop - self.start + row_cost, limit)

    def matches(self, queries: slice) -> Truth:
        """Matches of some queries, and what is hidden from them."""
        lengths = (self.stop - self.start)[queries]
        query = np.repeat(np.arange(len(lengths)), lengths)
        # Less the number of images in the lists before, so that each list counts from its start.
        offset = self.start[queries] - (np.cumsum(lengths) - lengths)
        image = self.by_pid[np.arange(len(query)) + offset[query]]
        if self.cameras is None:
            hidden = np.zeros(len(image), np.bool_)
        else:
            hidden = self.cameras[0][queries][query] == self.cameras[1][image]
        seen, gone = np.flatnonzero(~hidden), np.flatnonzero(hidden)
        match_start, hidden_start = _starts(query[seen], len(lengths)), _starts(query[gone], len(lengths))
        return Truth(match_start, image[seen], hidden_start, image[gone], self.junk)


def _starts(query: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Where the list of each query starts, and the end, [count + 1]; `query` ascends."""
    return np.concatenate([[0], np.cumsum(np.bincount(query, minlength=count))]).astype(np.int64)


def _cameras(
    q_camids: ArrayLike | None, g_camids: ArrayLike | None, shape: tuple[int, int]
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    if q_camids is None or g_camids is None:
        if q_camids is not g_camids:
            raise ShapeError("q_camids and g_camids: give both, or neither (no camera rule)")
        return None
    q_cams, g_cams = as_list(q_camids, shape[0], "q_camids"), as_list(g_camids, shape[1], "g_camids")
    kinds = {cameras.dtype.kind.replace("u", "i") for cameras in (q_cams, g_cams) if cameras.size}
    if len(kinds) > 1 or not kinds <= {"i", "U"}:
        raise ShapeError(f"q_camids and g_camids must both be integers or both names, got {q_cams.dtype} and {g_cams.dtype}")
    if "i" in kinds:
        return as_ids(q_cams, shape[0], "q_camids"), as_ids(g_cams, shape[1], "g_camids")
    return q_cams, g_cams
