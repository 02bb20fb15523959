"""Embeddings as a trained model gives them on a data set such as Market-1501, drawn from a seed, row block by row block.

A row is a place in a space of few dimensions, where people resemble one another, seen through noise in all of them:

    person + person seen by this camera + camera + blur · (noise of the place, noise of every dimension)

The weights are tuned so that 3,368 queries, 15,913 gallery rows, 750 people, 6 cameras and 2,048 dimensions give cosines of
0.67, 0.54 and 0.40 to the 2nd, 6th and 21st of the joint set, and a mAP of 0.84 before re-ranking. In fewer dimensions the
noise alone makes rows similar, and the task harder. Rows do not depend on how they are cut into calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

Ids = NDArray[np.int64]

MARKET_QUERY, MARKET_GALLERY, MARKET_IDENTITIES, MARKET_CAMERAS = 3_368, 15_913, 750, 6
MSMT_QUERY, MSMT_GALLERY, MSMT_IDENTITIES, MSMT_CAMERAS = 11_659, 82_161, 3_060, 15

_PLACE_DIMENSIONS = 50
_PERSON, _VIEW, _CAMERA = 0.62, 0.38, 0.11
_PLACE_NOISE, _NOISE = 0.21, 0.54
_BLUR_SPREAD = 0.47  # of the logarithm of an image's blur
_BLOCK = 2048  # rows drawn from one seed


@dataclass(frozen=True, eq=False)
class MarketLike:
    """Identities and cameras of all rows, and what their embeddings are made from."""

    pids: Ids
    """[N], from 1."""
    camids: Ids
    """[N]."""
    places: NDArray[np.float32]
    """[identities, cameras, L]: a person seen by a camera, without noise."""
    basis: NDArray[np.float32]
    """[L, D], rows of about unit length."""
    seed: int

    def split(self, num_query: int) -> tuple[tuple[Ids, Ids], tuple[Ids, Ids]]:
        """Identities and cameras, each as (those of the first rows, those of the rest)."""
        return (self.pids[:num_query], self.pids[num_query:]), (self.camids[:num_query], self.camids[num_query:])

    def blocks(self, start: int, stop: int) -> Iterator[NDArray[np.float32]]:
        """Rows ``start`` to ``stop`` in order, [R, D] at a time, each of unit length."""
        for first in range(start - start % _BLOCK, stop, _BLOCK):
            block = self._block(first)
            yield block[max(start - first, 0) : stop - first]

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows ``start`` to ``stop``, [stop - start, D]."""
        return np.concatenate([np.empty((0, self.basis.shape[1]), np.float32), *self.blocks(start, stop)])

    def _block(self, first: int) -> NDArray[np.float32]:
        rng = np.random.default_rng([self.seed, 1, first])
        people, cameras = self.pids[first : first + _BLOCK] - 1, self.camids[first : first + _BLOCK]
        blur = np.exp(_BLUR_SPREAD * rng.standard_normal((_BLOCK, 1), np.float32))[: len(people)]
        place = self.places[people, cameras] + _PLACE_NOISE * blur * _directions(rng, (_BLOCK, len(self.basis)))[: len(people)]
        x = _NOISE * blur * _directions(rng, (_BLOCK, self.basis.shape[1]))[: len(people)]
        x += place @ self.basis
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return np.asarray(x, np.float32)


def _directions(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Gaussian vectors of length 1 on average."""
    return rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[-1]))


def describe(count: int, dim: int, seed: int, identities: int = MARKET_IDENTITIES, cameras: int = MARKET_CAMERAS) -> MarketLike:
    """Draw who is seen where in `count` rows; a person's share of the rows varies about as in Market-1501."""
    rng = np.random.default_rng([seed, 0])
    shares = rng.gamma(2.5, size=identities)
    pids = 1 + rng.choice(identities, count, p=shares / shares.sum())
    person, camera, view = (
        weight * _directions(rng, (*shape, _PLACE_DIMENSIONS))
        for weight, shape in ((_PERSON, (identities, 1)), (_CAMERA, (1, cameras)), (_VIEW, (identities, cameras)))
    )
    basis = _directions(rng, (_PLACE_DIMENSIONS, dim))
    return MarketLike(pids, rng.integers(0, cameras, count), person + camera + view, basis, seed)


def market_like(
    num_query: int,
    num_gallery: int,
    dim: int,
    seed: int,
    identities: int = MARKET_IDENTITIES,
    cameras: int = MARKET_CAMERAS,
) -> tuple[NDArray[np.float32], NDArray[np.float32], Ids, Ids, Ids, Ids]:
    """Embeddings with identities and cameras.

    Args:
        num_query: Q.
        num_gallery: G.
        dim: D.
        seed: of everything.
        identities: people among whom the rows are drawn; for another number of rows, scale it (`scaled_identities`).
        cameras: cameras.

    Returns:
        query [Q, D], gallery [G, D], q_pids [Q], g_pids [G], q_camids [Q], g_camids [G]; rows have unit length.
    """
    data = describe(num_query + num_gallery, dim, seed, identities, cameras)
    query, gallery = data.rows(0, num_query), data.rows(num_query, num_query + num_gallery)
    (q_pids, g_pids), (q_camids, g_camids) = data.split(num_query)
    return query, gallery, q_pids, g_pids, q_camids, g_camids


def scaled_identities(total: int) -> int:
    """People among `total` rows, when there are as many rows to each as in Market-1501."""
    return max(1, round(MARKET_IDENTITIES * total / (MARKET_QUERY + MARKET_GALLERY)))


def save_rows(path: Path, data: MarketLike, start: int, stop: int) -> None:
    """Write rows ``start`` to ``stop`` to a .npy, a block at a time."""
    partial = path.with_suffix(".partial.npy")
    rows = open_memmap(partial, "w+", np.float32, (stop - start, data.basis.shape[1]))
    done = 0
    for block in data.blocks(start, stop):
        rows[done : done + len(block)] = block
        done += len(block)
    rows.flush()
    partial.replace(path)
