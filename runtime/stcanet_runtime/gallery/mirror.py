"""The entries of a gallery in memory, as columns that can be searched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.gallery.entry import Where
from stcanet_runtime.gallery.store import Embeddings, Ids, Rows

_MOVED_ROWS = 1024
_NO_CAMERA, _UNSEEN = 0, -1


class Column:
    """An array that grows at its end, and shrinks without a second copy of itself."""

    def __init__(self, dtype: str, shape: tuple[int, ...] = ()) -> None:
        self._array = np.empty((0, *shape), dtype)
        self._length = 0

    @property
    def values(self) -> NDArray[Any]:
        """A view, [N, …]; changes when rows are kept or dropped."""
        return self._array[: self._length]

    def reserve(self, more: int) -> None:
        """Have room for so many more rows; grows by at least an eighth, so that single rows seldom copy."""
        needed = self._length + more
        if needed > len(self._array):
            grown = np.empty((max(needed, len(self._array) * 9 // 8), *self._array.shape[1:]), self._array.dtype)
            grown[: self._length] = self.values
            self._array = grown

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows [M, …] at the end."""
        self.reserve(len(rows))
        self._array[self._length : self._length + len(rows)] = rows
        self._length += len(rows)

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Move the rows that are kept [N] together; what lies behind them is overwritten, since it may have to be forgotten."""
        place = 0
        for start in range(0, self._length, _MOVED_ROWS):
            rows = self._array[start : min(start + _MOVED_ROWS, self._length)][kept[start : start + _MOVED_ROWS]]
            self._array[place : place + len(rows)] = rows
            place += len(rows)
        self._array[place : self._length] = 0
        self._length = place


class Vocabulary:
    """Strings as numbers; None is 0."""

    def __init__(self) -> None:
        self._codes: dict[str | None, int] = {None: _NO_CAMERA}

    def codes(self, names: Iterable[str | None]) -> NDArray[np.int64]:
        """The numbers of names, new ones given where needed."""
        codes = self._codes
        return np.fromiter((codes.setdefault(name, len(codes)) for name in names), np.int64)

    def known(self, names: Iterable[str | None]) -> NDArray[np.int64]:
        """The numbers of names; -1 for those never seen."""
        return np.fromiter((self._codes.get(name, _UNSEEN) for name in names), np.int64)

    def texts(self, codes: NDArray[np.int64]) -> NDArray[np.object_]:
        """The names behind numbers."""
        return np.array(list(self._codes), object)[codes]


class Mirror:
    """Ids, identities, cameras, times and embeddings of all entries, ordered by id."""

    def __init__(self, dim: int, dtype: str) -> None:
        self._ids, self._times = Column("int64"), Column("float64")
        self._identities, self._cameras = Column("int64"), Column("int64")
        self._embeddings = Column(dtype, (dim,))
        self._identity_names, self._camera_names = Vocabulary(), Vocabulary()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def ids(self) -> Ids:
        """[N], ascending."""
        return self._ids.values

    @property
    def embeddings(self) -> Embeddings:
        """Embeddings [N, D]."""
        return self._embeddings.values

    @property
    def identities(self) -> NDArray[np.object_]:
        """[N] strings."""
        return self._identity_names.texts(self._identities.values)

    @property
    def last_id(self) -> int:
        """The highest id, 0 when empty."""
        return int(self.ids[-1]) if len(self) else 0

    def reserve(self, more: int) -> None:
        """Have room for so many more embeddings."""
        self._embeddings.reserve(more)

    def append(self, light: Sequence[tuple[int, str, str | None, float]], embeddings: Embeddings) -> None:
        """Add entries (id, identity, camera, time) with higher ids than any before, and their embeddings [M, D]."""
        ids, identities, cameras, times = zip(*light, strict=True)
        self._ids.append(np.array(ids, np.int64))
        self._identities.append(self._identity_names.codes(identities))
        self._cameras.append(self._camera_names.codes(cameras))
        self._times.append(np.array(times, np.float64))
        self._embeddings.append(embeddings)

    def keep(self, identities: dict[int, str]) -> None:
        """Drop entries that are not among these ids, and give the others these identities."""
        kept = np.isin(self.ids, np.fromiter(identities, np.int64, len(identities)))
        for column in (self._ids, self._times, self._identities, self._cameras, self._embeddings):
            column.keep(kept)
        cameras = self._camera_names.texts(self._cameras.values)
        self._identity_names, self._camera_names = Vocabulary(), Vocabulary()  # without those of whom nothing is left
        self._identities.values[:] = self._identity_names.codes(identities[i] for i in self.ids.tolist())
        self._cameras.values[:] = self._camera_names.codes(cameras)

    def select(self, where: Where, among: Ids | None = None) -> NDArray[np.int64] | None:
        """Positions of the entries that are meant, or None for all; `among` are the ids whose metadata match."""
        tests = []
        if where.identities is not None:
            tests.append(np.isin(self._identities.values, self._identity_names.known(where.identities)))
        if where.cameras is not None:
            tests.append(np.isin(self._cameras.values, self._camera_names.known(where.cameras)))
        if where.after is not None:
            tests.append(self._times.values >= where.after)
        if where.before is not None:
            tests.append(self._times.values < where.before)
        if among is not None:
            tests.append(np.isin(self.ids, among))
        return np.flatnonzero(np.logical_and.reduce(tests)) if tests else None

    def rows(self, chosen: NDArray[np.int64] | None) -> Rows:
        """Copies of the entries at these positions, or of all."""
        index: Any = slice(None) if chosen is None else chosen
        return Rows(self.ids[index].copy(), self.identities[index], self.embeddings[index].copy())

    def camera_groups(self, cameras: Sequence[str | None]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Groups [Q] and [N] for `search`: equal where a query and an entry are of the same, known camera."""
        of_queries = self._camera_names.known(cameras)
        of_queries[of_queries == _NO_CAMERA] = _UNSEEN
        return of_queries, self._cameras.values
