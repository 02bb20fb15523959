def device_count() -> int: ...

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

# shape is (B, M, D); storage, of the nodes and their gradient, is 'fp32', 'fp16' or 'bf16'.
def relation_forward(
    nodes: int, weight: int, out: int, shape: tuple[int, int, int], storage: str, device: int, stream: int
) -> None: ...
def relation_backward(
    nodes: int,
    weight: int,
    grad: int,
    grad_nodes: int,
    grad_weight: int,
    shape: tuple[int, int, int],
    storage: str,
    device: int,
    stream: int,
) -> None: ...
