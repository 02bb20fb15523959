"""Proof that deleted embeddings are in no file any more: look for their bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from stcanet_runtime.gallery.store import Embeddings

_NEEDLE = 32  # bytes; of 8 numbers or more, which no other embedding has by chance
_VARIED = 12  # different bytes that a needle needs, or it may be found anywhere: runs of zeros are common
_CHUNK = 8 << 20


def needles(removed: Embeddings, remaining: Embeddings) -> list[bytes]:
    """Pieces from the start, middle and end of embeddings [N, D], without those that remaining ones [M, D] have, too."""
    pieces = set(_pieces(removed))
    return [piece for piece in pieces.difference(_pieces(remaining)) if len(set(piece)) >= _VARIED]


def _pieces(embeddings: Embeddings) -> Iterable[bytes]:
    width = embeddings.shape[1] * embeddings.itemsize
    starts = sorted({0, max(0, width // 2), max(0, width - _NEEDLE)})
    for row in embeddings:
        data = row.tobytes()
        yield from (data[start : start + _NEEDLE] for start in starts)


def find_traces(paths: Sequence[Path], wanted: Sequence[bytes]) -> list[Path]:
    """The files that hold any of these pieces."""
    return [path for path in paths if path.is_file() and wanted and _contains(path, wanted)]


def _contains(path: Path, wanted: Sequence[bytes]) -> bool:
    tail = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            window = tail + chunk
            if any(piece in window for piece in wanted):
                return True
            tail = window[-_NEEDLE:]
    return False
