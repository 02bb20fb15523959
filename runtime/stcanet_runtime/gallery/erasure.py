"""Proof that deleted embeddings are in no file any more: look for their bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.gallery import held
from stcanet_runtime.gallery.store import Embeddings

_NEEDLE = 32  # bytes; of 8 numbers or more, which no other embedding has by chance
_VARIED = 12  # different bytes that a needle needs, or it may be found anywhere: runs of zeros are common
_CHUNK = 8 << 20
_WORD = 8
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # multiplicative hashing: 2**64 over the golden ratio, the high bits count


def needles(removed: Embeddings, remaining: Embeddings) -> list[bytes]:
    """Pieces from the start, middle and end of embeddings [N, D], without those that remaining ones [M, D] have, too."""
    pieces = set(_pieces(removed))
    return [piece for piece in pieces.difference(_pieces(remaining)) if len(set(piece)) >= _VARIED]


def _pieces(embeddings: Embeddings) -> Iterable[bytes]:
    width = embeddings.shape[1] * embeddings.itemsize
    starts = sorted({0, width // 2, max(0, width - _NEEDLE)})
    for row in embeddings:
        data = row.tobytes()
        yield from (data[start : start + _NEEDLE] for start in starts)


def find_traces(paths: Sequence[Path], wanted: Sequence[bytes]) -> list[Path]:
    """The files that hold any of these pieces; each is read once, however many they are."""
    sought = _Needles(wanted)
    return [path for path in paths if path.is_file() and wanted and _contains(path, sought)]


def _contains(path: Path, sought: _Needles) -> bool:
    tail = b""
    with suppress(FileNotFoundError), held.reading(path) as file:  # SQLite may remove a log at any time
        while chunk := file.read(_CHUNK):
            window = tail + chunk
            if sought.are_in(window):
                return True
            tail = window[-sought.longest :]
    return False


class _Needles:
    """Pieces that are looked for at once.

    Wherever a piece of 15 bytes or more lies, it covers a whole word of 8 bytes at a multiple of 8. So for each of the 8 ways
    in which a piece can lie across such words one of its own words is taken, the one of the most different bytes; only the
    words at multiples of 8 are looked at, first in a table of hashes, then in the sorted list. What is found is compared byte
    by byte.
    """

    def __init__(self, wanted: Sequence[bytes]) -> None:
        self.longest = max(map(len, wanted), default=0)
        self._short = [piece for piece in wanted if len(piece) < 2 * _WORD - 1]
        self._long = {piece for piece in wanted if len(piece) >= 2 * _WORD - 1}
        self._places: dict[int, set[tuple[int, int]]] = {}  # by word: where it lies in how long a piece
        for piece in self._long:
            for start in range(_WORD):
                place = max(range(start, len(piece) - _WORD + 1, _WORD), key=lambda at: len(set(piece[at : at + _WORD])))
                word = int.from_bytes(piece[place : place + _WORD], "little")
                self._places.setdefault(word, set()).add((place, len(piece)))
        self._words = np.array(sorted(self._places), np.uint64)
        self._shift = np.uint64(64 - min(24, len(self._words).bit_length() + 4))  # a table of which a sixteenth is set, or less
        self._table = np.zeros(1 << (64 - int(self._shift)), np.bool_)
        self._table[self._hash(self._words)] = True

    def are_in(self, window: bytes) -> bool:
        """Whether any of the pieces is in these bytes."""
        words = np.frombuffer(window, "<u8", len(window) // _WORD)
        likely = np.flatnonzero(self._table[self._hash(words)])
        found = likely[np.isin(words[likely], self._words)]
        return any(self._lies_at(window, at * _WORD, int(words[at])) for at in found.tolist()) or any(
            piece in window for piece in self._short
        )

    def _lies_at(self, window: bytes, at: int, word: int) -> bool:
        return any(at >= place and window[at - place : at - place + size] in self._long for place, size in self._places[word])

    def _hash(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return (words * _FACTOR) >> self._shift
