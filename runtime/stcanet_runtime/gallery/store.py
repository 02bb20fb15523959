"""What a gallery needs of its storage. SQLite is the one here; a distributed engine can take its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.gallery.entry import Entry, Space, Where

Embeddings = NDArray[np.float32] | NDArray[np.float16]
Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """Embeddings with whose they are, ordered by id."""

    ids: Ids
    """[N]"""
    identities: NDArray[np.object_]
    """[N] strings."""
    embeddings: Embeddings
    """[N, D]"""

    def take(self, chosen: NDArray[np.bool_]) -> Rows:
        """Copies of those that are chosen [N]."""
        return Rows(self.ids[chosen], self.identities[chosen], self.embeddings[chosen])


class Store(Protocol):
    """Entries with embeddings. Safe to call from several threads; every call sees all calls that returned before it."""

    @property
    def path(self) -> Path:
        """Where it is, for messages."""
        ...

    @property
    def space(self) -> Space:
        """Which embeddings it takes."""
        ...

    @property
    def revision(self) -> int:
        """Another number whenever the entries are others."""
        ...

    def add(self, entries: Sequence[Entry], embeddings: NDArray[np.float32]) -> list[int]:
        """Keep entries [N] with embeddings [N, D]: all of them, durably, or none; their ids."""
        ...

    def remove(self, where: Where) -> int:
        """Delete entries; how many. Their embeddings are overwritten in the files."""
        ...

    def purge(self, where: Where) -> int:
        """Delete entries, with what was left of their names, and prove that no file holds their embeddings; how many."""
        ...

    def finish(self) -> bool:
        """Complete a deletion whose bytes could not be removed then; whether there was one."""
        ...

    def rename(self, ids: Sequence[int], identity: str) -> None:
        """Give entries another identity; none of them, and GalleryError, where there is no entry of an id."""
        ...

    def nearest(
        self, queries: NDArray[np.float32], k: int, where: Where, cameras: Sequence[str | None] | None
    ) -> tuple[NDArray[np.float32], Ids]:
        """Distances and ids [Q, K] of the nearest entries; infinity and 0 where there is none.

        Args:
            queries: [Q, D].
            k: places wanted; K is at most that.
            where: which entries are searched.
            cameras: [Q], where entries of a query's own camera are to be left out.
        """
        ...

    def entries(self, ids: Sequence[int]) -> dict[int, Entry]:
        """Those of these entries that there are, by id."""
        ...

    def rows(self, where: Where) -> Rows:
        """Copies of embeddings."""
        ...

    def pick(self, ids: Ids) -> Rows:
        """Copies of the embeddings of those of these entries that there are."""
        ...

    def setting(self, name: str) -> Any:
        """A JSON value kept beside the entries, or None."""
        ...

    def set_setting(self, name: str, value: Any) -> None:
        """Keep a JSON value; None removes it."""
        ...

    def facts(self) -> dict[str, Any]:
        """What is there, as JSON values.

        ``path``, ``bytes``, ``entries``, ``identities`` with the entries of each, ``cameras``, ``first_time``, ``last_time``.
        """
        ...

    def check(self) -> None:
        """Read everything; GalleryError where something is damaged."""
        ...

    def close(self) -> None:
        """Let go of files and memory."""
        ...
