"""Search on a GPU: a float16 screen with a proven bound, and the definition for what the screen cannot exclude.

Blocks of rows of the products, never all of them, come from the tensor cores; ``retrieval.cu`` does the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stcanet_runtime.backends import screen
from stcanet_runtime.backends.gpu_arrays import put
from stcanet_runtime.backends.gpu_device import Array, Device, starts
from stcanet_runtime.backends.neighbours import CONVERTED_ELEMENTS, row_groups
from stcanet_runtime.backends.numpy_distance import CLOSE

_KEY_BYTES = 8  # scratch for a key: itself, its share of the minima, and of what is measured
_PAIR_BYTES = 16
_MIN_GROUPS = 256
_GROUPS_PER_PLACE = 8
_PIECE = 16384  # columns that a block looks at, so that few rows are spread over the device, too


class JointRows:
    """The joint set on the device, and its exact distances."""

    def __init__(self, device: Device, query: Array, gallery: Array, metric: str) -> None:
        self.device, self.metric = device, metric
        self.query, self.gallery = put(device, query, np.float32), put(device, gallery, np.float32)
        self.num_query, self.num_gallery, self.depth = len(query), len(gallery), query.shape[1]
        self.arguments = (self.query, self.gallery, np.int64(self.num_query), np.int32(self.depth))

    @cached_property
    def squared(self) -> Array:
        """Squared lengths [N] float64, by the definition."""
        result = self.device.xp.empty(self.num_query + self.num_gallery, np.float64)
        self.device.launch("squared_lengths", len(result), *self.arguments, result)
        return result

    @property
    def measuring(self) -> tuple[object, ...]:
        """The arguments of kernels that measure."""
        return (*self.arguments, self.squared, np.int32(self.metric == "cosine"))

    def measure(self, rows: Array, cols: Array, first_row: int, first_col: int) -> Array:
        """Distances [P] of joint rows ``first_row + rows`` and ``first_col + cols``, both [P] int32."""
        result = self.device.xp.empty(len(rows), np.float32)
        self.device.launch("measure", len(rows), *self.measuring, rows, cols, np.int64(first_row), np.int64(first_col), result)
        return result

    @cached_property
    def longest(self) -> float:
        """Squared length of the longest row."""
        return _largest(self.squared)


def half_error(depth: int) -> float:
    """Bound of the error of a product of two rows of length 1 at most, rounded to float16 and added up in float32.

    Rounding moves a value by 2⁻¹¹ of itself, or by 2⁻²⁵ where it is subnormal, so a row by ``ρ = 1.001 (2⁻¹¹ + √D 2⁻²⁵)``
    (1.001 holds a second rounding on the way from float64) and the product by ``2 ρ + ρ²``. Products of float16 are exact in
    float32. Tensor cores add several terms at once, aligned to the largest and cut off, not rounded: n + 1 terms are off by
    less than ``(n + 1) 2⁻²³`` of the largest sum, D terms by ``D 2⁻²²`` in any order, with a plain float32 sum well within.
    This assumes that they keep 24 bits, as measured by Fasi, Higham, Mikaitis and Pranesh, "Numerical behavior of NVIDIA
    tensor cores", PeerJ Computer Science, 2021.
    """
    residual = 1.001 * (2.0**-11 + math.sqrt(depth) * 2.0**-25)
    steps = depth * 2.0**-22
    if steps >= 0.5:
        return math.inf
    return 2.0 * residual + residual**2 + steps / (1.0 - steps) * (1.0 + residual) ** 2


@dataclass(frozen=True, eq=False)
class HalfScreen:
    """As `screen.Screen`, with rows in float16."""

    device: Device
    rows: Array
    """[R, D], scaled."""
    columns: Array
    """[C, D], scaled."""
    offset: Array | None
    """[C]; None for zeros."""
    window: float
    unit: float
    own: Array
    """[R] float64. A squared distance (of the cosine: twice it) times the unit squared is a key and this."""

    def blocks(self, scratch_bytes: int) -> Iterator[tuple[int, Array]]:
        """Yield (first row, products [rows, C] without the offset), the rows few enough for the scratch."""
        step = max(1, scratch_bytes // (_KEY_BYTES * max(1, len(self.columns))))
        for start in range(0, len(self.rows), step):
            yield start, self.device.products(self.rows[start : start + step], self.columns)


def make_screen(joint: JointRows, *, itself: bool) -> HalfScreen:
    """Prepare the queries for screening against the gallery, or the joint set against itself."""
    xp, cosine = joint.device.xp, joint.metric == "cosine"
    factors = xp.ones_like(joint.squared)
    if cosine:
        factors = 1.0 / xp.sqrt(xp.where(joint.squared > 0.0, joint.squared, np.inf))
    lengths, longest = (xp.ones_like(joint.squared), 1.0) if cosine else (joint.squared, joint.longest)
    centre, seen = _centre(joint, factors, longest)
    if seen is not None:
        lengths = seen
    unit = screen.common_scale(math.sqrt(max(_largest(lengths), longest / screen.LARGEST**2)))
    scaled = xp.empty((len(lengths), joint.depth), np.float16)
    for place, rows in _converted(joint, factors):
        scaled[place] = (rows if centre is None else rows - centre) * unit
    own, offset = lengths * (unit * unit), None
    if cosine and seen is None:
        own = own + 1.0  # that of the gallery row is not in the key
    else:
        offset = own.astype(np.float32)
    window = screen.window(joint.depth, joint.metric, unit, half_error(joint.depth), unit * math.sqrt(longest))
    if itself:
        return HalfScreen(joint.device, scaled, scaled, offset, window, unit, own)
    count = joint.num_query
    offset = None if offset is None else offset[count:]
    return HalfScreen(joint.device, scaled[:count], scaled[count:], offset, window, unit, own[:count])


def _largest(values: Array) -> float:
    return float(values.max()) if len(values) else 0.0


def _converted(joint: JointRows, factors: Array) -> Iterator[tuple[slice, Array]]:
    """Yield (place, rows of the joint set in float64, times their factors), some at a time."""
    step = max(1, CONVERTED_ELEMENTS // joint.depth)
    for first, part in ((0, joint.query), (joint.num_query, joint.gallery)):
        for start in range(0, len(part), step):
            place = slice(first + start, first + min(start + step, len(part)))
            yield place, part[start : start + step].astype(np.float64) * factors[place, None]


def _centre(joint: JointRows, factors: Array, longest: float) -> tuple[Array | None, Array | None]:
    """The centre [D] and the squared lengths [N] from there, as `screen` has them; None where none is worth it."""
    xp, total = joint.device.xp, len(factors)
    count = min(total, screen.MEAN_OF)
    chosen = np.arange(count) * total // max(1, count)
    in_query = chosen < joint.num_query
    some = xp.concatenate([joint.query[chosen[in_query]], joint.gallery[chosen[~in_query] - joint.num_query]])
    mean = (some.astype(np.float64) * factors[chosen, None]).sum(axis=0) / max(1, count)
    if not float(mean @ mean) >= screen.WORTH_IT * longest > 0.0:
        return None, None
    lengths = xp.empty(total, np.float64)
    for place, rows in _converted(joint, factors):
        difference = rows - mean
        lengths[place] = (difference * difference).sum(axis=1)
    lengths = xp.where(factors > 0.0, lengths, longest)  # a row of zeros has a direction of its own
    return (None, None) if _largest(lengths) > screen.WORTH_IT * longest else (mean, lengths)


class Keys(NamedTuple):
    """Some columns of a block of products."""

    products: Array
    """[R, stride]."""
    first: int
    """First column."""
    columns: int
    """C."""
    offset: Array | None
    """[stride]."""
    q_groups: Array | None
    """[R] int64."""
    g_groups: Array | None
    """[C] int64."""

    def arguments(self, rows: slice = slice(None)) -> tuple[object, ...]:
        """Of the kernels that read keys."""
        groups = None if self.q_groups is None else self.q_groups[rows]
        sizes = np.int64(self.products.shape[1]), np.int64(self.first), np.int64(self.columns)
        return (self.products[rows], *sizes, self.offset, groups, self.g_groups)


def limits(device: Device, keys: Keys, k: int, window: float, *, far: bool) -> tuple[Array, Array | None]:
    """Largest keys [R] that a row among the k nearest can have, and smallest of the farthest, if wanted."""
    xp, count = device.xp, len(keys.products)
    groups = min(keys.columns, max(_MIN_GROUPS, _GROUPS_PER_PLACE * k))
    minima, near = xp.empty((count, groups), np.float32), xp.empty(count, np.float32)
    farthest = xp.empty(count, np.float32) if far else None
    scalars = np.int32(k), np.float32(window), np.int64(groups)
    device.launch("row_limits", count, *keys.arguments(), *scalars, minima, near, farthest)
    return near, farthest


def candidates(
    device: Device, keys: Keys, near: Array, far: Array | None, scratch_bytes: int
) -> Iterator[tuple[slice, Array, Array, Array]]:
    """What the limits leave; see `pairs`."""
    return pairs(device, "collect", keys, lambda rows: (near[rows], None if far is None else far[rows]), scratch_bytes)


def pairs(
    device: Device, name: str, keys: Keys, of_rows: Callable[[slice], tuple[object, ...]], scratch_bytes: int
) -> Iterator[tuple[slice, Array, Array, Array]]:
    """Yield (some rows, starts, rows within them, columns) of the pairs that a kernel finds among keys.

    Args:
        device: where.
        name: the kernel, a block for a piece of a row; as in `gpu_device.find` it counts first, here all rows, then writes down
            those of some rows.
        keys: what it looks at.
        of_rows: its other arguments for some rows.
        scratch_bytes: memory for the pairs of these rows, about.
    """
    pieces, length = -(-keys.columns // _PIECE), np.int32(_PIECE)
    counts = device.xp.zeros(len(keys.products), np.int32)
    everything = of_rows(slice(0, len(counts)))
    device.launch(name, len(counts) * pieces, *keys.arguments(), length, *everything, counts, *[None] * 4)
    for part in row_groups(device.get(counts).astype(np.int64), max(1, scratch_bytes // _PAIR_BYTES)):
        start = starts(device, counts[part])
        rows, cols = (device.xp.empty(int(start[-1]), np.int32) for _ in range(2))
        cursor = device.xp.zeros(part.stop - part.start, np.int32)
        count, found = len(cursor) * pieces, (cursor, start, rows, cols, None)
        device.launch(name, count, *keys.arguments(part), length, *of_rows(part), *found)
        yield part, start, rows, cols


def place(device: Device, start: Array, rows: Array, cols: Array, values: Array, distances: Array, indices: Array) -> None:
    """Write the best candidates [P] of each row to [R, k], by (value, column)."""
    nothing = (None, None, np.int32(0), np.int64(len(distances)))
    scalars = np.int32(distances.shape[1])
    device.launch("place_best", len(rows), *nothing, start, rows, cols, values, scalars, distances, indices)


def select(
    joint: JointRows,
    keys: Keys,
    window: float,
    first_row: int,
    first_col: int,
    distances: Array,
    indices: Array,
    farthest: Array | None,
    scratch_bytes: int,
) -> None:
    """The nearest columns [R, k] of each row of keys, and its largest distance [R], zero before.

    Args:
        joint: measures.
        keys: of joint rows from `first_row`, columns being joint rows from `first_col`.
        window: of the screen.
        first_row: see `keys`.
        first_col: see `keys`.
        distances: filled in; infinite before.
        indices: filled in with columns; −1 before.
        farthest: filled in, or None.
        scratch_bytes: memory for candidates, about.
    """
    device = joint.device
    near, far = limits(device, keys, min(distances.shape[1], keys.columns), window, far=farthest is not None)
    for part, start, rows, cols in candidates(device, keys, near, far, scratch_bytes):
        values = joint.measure(rows, cols, first_row + part.start, first_col)
        place(device, start, rows, cols, values, distances[part], indices[part])
        if farthest is not None:
            device.launch("raise_farthest", len(rows), rows, values, farthest[part])


def smallest(device: Device, values: Array, k: int) -> tuple[Array, Array]:
    """The k smallest values [R, k] of each row [R, N] by (value, column), and their columns."""
    keys = Keys(values, 0, values.shape[1], None, None, None)
    best, columns = device.xp.empty((len(values), k), np.float32), device.xp.empty((len(values), k), np.int32)
    near, _ = limits(device, keys, k, 0.0, far=False)
    for part, start, rows, cols in candidates(device, keys, near, None, 1 << 30):
        place(device, start, rows, cols, values[part][rows, cols], best[part], columns[part])
    return best, columns


def distance_tiles(joint: JointRows, scratch_bytes: int) -> Iterator[tuple[slice, slice, NDArray[np.float32]]]:
    """Yield (queries, gallery rows, distances) tile by tile; float64 products, and the definition for close pairs.

    Args:
        joint: the rows.
        scratch_bytes: memory, about.
    """
    device = joint.device
    columns = max(1, min(joint.num_gallery, scratch_bytes // (32 * joint.depth)))
    step = max(1, scratch_bytes // (32 * max(joint.depth, columns)))
    limit = CLOSE / 2 if joint.metric == "cosine" else CLOSE * joint.longest
    for first in range(0, joint.num_gallery, columns):
        g = joint.gallery[first : first + columns].astype(np.float64)
        for start in range(0, joint.num_query, step):
            products = joint.query[start : start + step].astype(np.float64) @ g.T
            tile = device.xp.empty(products.shape, np.float32)
            place = np.int64(products.shape[1]), np.int64(start), np.int64(first)
            device.launch("finish_tile", tile.size, *joint.measuring, np.float64(limit), products, *place, tile)
            yield slice(start, start + len(tile)), slice(first, first + len(g)), device.get(tile)
