import numpy as np
from numpy.typing import NDArray

def distance_matrix(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    metric: str,
    threads: int = 0,
    isa: str = "",
) -> NDArray[np.float32]: ...
def top_k(
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    k: int,
    metric: str,
    q_groups: NDArray[np.int64] | None = None,
    g_groups: NDArray[np.int64] | None = None,
    threads: int = 0,
    isa: str = "",
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
def instruction_sets() -> list[str]: ...
