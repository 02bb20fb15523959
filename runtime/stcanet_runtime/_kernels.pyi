from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

def distance_matrix(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    metric: str,
    scratch_bytes: int,
    threads: int = 0,
    isa: str = "",
) -> NDArray[np.float32]: ...
def top_k(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    k: int,
    metric: str,
    q_groups: NDArray[np.int64] | None,
    g_groups: NDArray[np.int64] | None,
    scratch_bytes: int,
    threads: int = 0,
    isa: str = "",
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
def instruction_sets() -> list[str]: ...
def neighbours(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    k: int,
    metric: str,
    dense: NDArray[np.float32] | None,
    lists: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64] | None, NDArray[np.int64] | None] | None,
    progress: Callable[[int, int], None] | None,
    scratch_bytes: int,
    threads: int = 0,
    isa: str = "",
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]: ...
def pair_distances(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    metric: str,
    threads: int = 0,
    isa: str = "",
) -> NDArray[np.float32]: ...
def smallest(values: NDArray[np.float32], k: int, threads: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int32]]: ...
def expand(neighbours: NDArray[np.int32], half: int, threads: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int32]]: ...
def average(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    neighbours: NDArray[np.int32],
    threads: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]: ...
def overlaps(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    num_query: int,
    start: int = 0,
    stop: int | None = None,
    threads: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]: ...
def blend(
    distances: NDArray[np.float32],
    indptr: NDArray[np.int64],
    columns: NDArray[np.int32],
    overlap: NDArray[np.float32],
    farthest: NDArray[np.float32],
    power: int,
    lambda_value: float,
    threads: int = 0,
) -> None: ...
def select_best(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    metric: str,
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    farthest: NDArray[np.float32],
    lists: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64] | None, NDArray[np.int64] | None],
    places: int,
    power: int,
    lambda_value: float,
    progress: Callable[[int, int], None] | None = None,
    threads: int = 0,
    isa: str = "",
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
def ranks(
    distances: NDArray[Any],
    match_start: NDArray[np.int64],
    matches: NDArray[np.int64],
    hidden_start: NDArray[np.int64],
    hidden: NDArray[np.int64],
    junk: NDArray[np.int64],
    threads: int = 0,
    isa: str = "",
) -> NDArray[np.int64] | None: ...
def count_closer(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    start: NDArray[np.int64],
    distances: NDArray[np.float32],
    places: NDArray[np.int64],
    metric: str,
    progress: Callable[[int, int], None] | None = None,
    scratch_bytes: int = ...,
    threads: int = 0,
    isa: str = "",
) -> NDArray[np.int64]: ...
def resize_boxes(
    planes: list[NDArray[np.uint8]],
    format: str,
    boxes: NDArray[np.int64],
    height: int,
    width: int,
    threads: int = 0,
    isa: str = "",
) -> NDArray[np.uint8]: ...
