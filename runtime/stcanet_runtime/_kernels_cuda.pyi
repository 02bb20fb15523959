import numpy as np
from numpy.typing import NDArray

def device_count() -> int: ...
def distance_matrix(query: NDArray[np.float32], gallery: NDArray[np.float32], metric: str) -> NDArray[np.float32]: ...

# Device pointers and streams are numbers; shape is (B, R, P); precision is 'fp16', 'bf16', 'tf32' or 'tf32x3'.
def channel_forward(
    rows: int, mixed: int, log_sum: int, shape: tuple[int, int, int], precision: str, device: int, stream: int
) -> None: ...
def channel_backward(
    rows: int,
    mixed: int,
    log_sum: int,
    grad_mixed: int,
    grad_rows: int,
    scratch: int,
    shape: tuple[int, int, int],
    precision: str,
    device: int,
    stream: int,
) -> None: ...
