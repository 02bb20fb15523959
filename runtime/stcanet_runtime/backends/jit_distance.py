"""Distances, and the nearest by them, in Numba: what a screen left over is measured by the definition and put in order.

Without fastmath, so that nothing is reordered or fused. Not parallel: the matrix product of the screen is nearly all the time
and has threads of its own, while Numba's would double the compile time, and one of its threading layers ends the process when
two Python threads search at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from stcanet_runtime.backends.jit_kreciprocal import call, njit
from stcanet_runtime.backends.reference_distance import PARTIALS


def _fold(partial: Any) -> float:
    half = PARTIALS // 2
    while half > 0:
        for lane in range(half):
            partial[lane] += partial[lane + half]
        half //= 2
    return float(partial[0])


def _product(x: Any, y: Any) -> Any:
    return np.float64(x) * np.float64(y)


def _squared_difference(x: Any, y: Any) -> Any:
    difference = np.float64(x) - np.float64(y)
    return difference * difference


@cache
def _compile_sum(term: Callable[[Any, Any], Any]) -> Any:
    """The sum of a term over the columns of two rows, in the order of the definition."""
    fold, term_of = njit(_fold), njit(term)

    def total(x: Any, y: Any) -> float:
        partial = np.zeros(PARTIALS)
        whole = x.size - x.size % PARTIALS
        for start in range(0, whole, PARTIALS):
            for lane in range(PARTIALS):
                partial[lane] += term_of(x[start + lane], y[start + lane])
        for lane in range(x.size - whole):
            partial[lane] += term_of(x[whole + lane], y[whole + lane])
        return float(fold(partial))

    return njit(total)


@cache
def _compile_measure() -> Any:
    dot, squared_distance = _compile_sum(_product), _compile_sum(_squared_difference)

    def measure(q: Any, g: Any, q_squared: float, g_squared: float, cosine: bool) -> Any:
        if not cosine:
            return np.float32(np.sqrt(squared_distance(q, g)))
        product = q_squared * g_squared
        similarity = dot(q, g) / np.sqrt(product) if product > 0.0 else 0.0
        return np.float32(min(max(1.0 - similarity, 0.0), 2.0))

    return njit(measure)


@cache
def _compile_row_of() -> Any:
    def row_of(query: Any, gallery: Any, i: int) -> Any:
        return query[i] if i < len(query) else gallery[i - len(query)]

    return njit(row_of)


@cache
def _compile_measure_row() -> Any:
    measure, row_of = _compile_measure(), _compile_row_of()

    def measure_row(query: Any, gallery: Any, squared: Any, i: int, candidates: Any, cosine: bool) -> Any:
        measured, row = np.empty(candidates.size, np.float32), row_of(query, gallery, i)
        for c in range(candidates.size):
            j = candidates[c]
            measured[c] = measure(row, row_of(query, gallery, j), squared[i], squared[j], cosine)
        return measured

    return njit(measure_row)


@cache
def _compile_select() -> Any:
    measure_row = _compile_measure_row()

    def loop(
        query: Any, gallery: Any, squared: Any, keys: Any, limits: Any, start: int, cosine: bool, distances: Any, indices: Any
    ) -> None:
        for r in range(keys.shape[0]):
            candidates = np.nonzero((keys[r] <= limits[r]) & (keys[r] < np.inf))[0]
            measured = measure_row(query, gallery, squared, start + r, candidates + len(query), cosine)
            # Stable, and candidates grow: ties stay in the order of their index.
            order = np.argsort(measured, kind="mergesort")[: distances.shape[1]]
            for place in range(order.size):
                distances[start + r, place] = measured[order[place]]
                indices[start + r, place] = candidates[order[place]]

    return njit(loop)


def select(*arguments: Any) -> None:
    """For each row of keys [R, G] from query `start` on, the nearest of the gallery rows whose key is within its limit.

    Args:
        arguments: query [Q, D], gallery [G, D], squared lengths [Q + G], keys, limits [R], start, whether cosine, and what is
            written: distances and indices [Q, K].
    """
    call(_compile_select(), *arguments)


@cache
def _compile_select_joint() -> Any:
    measure_row = _compile_measure_row()

    def loop(
        query: Any, gallery: Any, squared: Any, keys: Any, limits: Any, far_limits: Any, start: int, cosine: bool, result: Any
    ) -> None:
        indices, distances, farthest = result
        for r in range(keys.shape[0]):
            i = start + r
            candidates = np.nonzero(keys[r] <= limits[r])[0]
            measured = measure_row(query, gallery, squared, i, candidates, cosine)
            order = np.argsort(measured, kind="mergesort")
            for place in range(distances.shape[1]):
                distances[i, place] = measured[order[place]]
                indices[i, place] = candidates[order[place]]
            farthest[i] = measure_row(query, gallery, squared, i, np.nonzero(keys[r] >= far_limits[r])[0], cosine).max()

    return njit(loop)


def select_joint(*arguments: Any) -> None:
    """`select` among the joint rows, and the farthest of them.

    Args:
        arguments: query [Q, D], gallery [G, D], squared lengths [Q + G], keys [R, Q + G], limits [R], limits [R] from which on
            a row may be the farthest, start, whether cosine, and what is written: a tuple like `Neighbours`.
    """
    call(_compile_select_joint(), *arguments)


@cache
def _compile_pairs() -> Any:
    dot, measure, row_of = _compile_sum(_product), _compile_measure(), _compile_row_of()

    def loop(query: Any, gallery: Any, rows: Any, cols: Any, cosine: bool, result: Any) -> None:
        for p in range(rows.size):
            x, y = row_of(query, gallery, rows[p]), row_of(query, gallery, cols[p])
            result[p] = measure(x, y, dot(x, x) if cosine else 0.0, dot(y, y) if cosine else 0.0, cosine)

    return njit(loop)


def measure_pairs(*arguments: Any) -> None:
    """Distances of pairs of the joint set.

    Args:
        arguments: query [Q, D], gallery [G, D], rows and columns [P], whether cosine, and what is written: distances [P].
    """
    call(_compile_pairs(), *arguments)
