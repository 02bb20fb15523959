"""Several processes that train one network: who they are, what each takes, and what they put together.

``torchrun`` starts the processes and says in the environment who is who. Each takes its share of every joint batch; features of
all shares are gathered for the losses, and torch's DistributedDataParallel averages the gradients.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from stcanet.engine.devices import resolve_device
from stcanet_runtime.errors import OptionError, ProcessError

Rows = TypeVar("Rows", bound=Any)
Item = TypeVar("Item")


@dataclass(frozen=True)
class World:
    """The processes of a run; one alone by default."""

    rank: int = 0
    """Number of this process."""
    size: int = 1
    """How many there are."""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, rows: Rows) -> Rows:
        """This process's part of the rows of a joint batch: as many for each process, in order."""
        count = len(rows) // self.size
        assert count * self.size == len(rows)
        part: Rows = rows[self.rank * count : (self.rank + 1) * count]
        return part

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes ``[B·W, …]`` from those of each ``[B, …]``, in order, with gradients.

        Every process goes on to compute the same loss from them, and the gradient of `rows` is the sum over those losses.
        Averaged over the processes, as DistributedDataParallel does, that is the gradient of the one loss.
        """
        return rows if self.size == 1 else _Gather.apply(rows, self)

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """The mean over the processes of each value."""
        if self.size == 1:
            return values
        stacked = torch.tensor(list(values.values()), dtype=torch.float64, device=_device())
        dist.all_reduce(stacked)
        return dict(zip(values, (stacked / self.size).tolist(), strict=True))

    def broadcast(self, values: dict[str, float] | None) -> dict[str, float]:
        """What the main process passes; the others pass None."""
        box = [values]
        if self.size > 1:
            dist.broadcast_object_list(box, device=_device())
        assert box[0] is not None
        return box[0]

    def agree_on_buffers(self, model: nn.Module) -> None:
        """Give every process the buffers (batch statistics) of the main one."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def embed(
        self, embed: Callable[[Sequence[Item]], NDArray[np.float32]], items: Sequence[Item], batch: int
    ) -> NDArray[np.float32]:
        """Embeddings ``[N, D]`` of `items`, to which every process contributes.

        Processes take whole batches in turn: a forward pass has the same rows in it as in one process alone, and gives
        the same bits.

        Args:
            embed: From items to embeddings, `batch` at a time and in order.
            items: N of whatever.
            batch: Items of a forward pass.
        """
        if self.size == 1:
            return embed(items)
        owner = np.arange(len(items)) // batch % self.size
        mine = torch.from_numpy(embed([items[index] for index in np.flatnonzero(owner == self.rank).tolist()]))
        padded = mine.new_zeros(int(np.bincount(owner, minlength=self.size).max()), mine.shape[1]).to(_device())
        padded[: len(mine)] = mine
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        embeddings = np.empty((len(items), mine.shape[1]), np.float32)
        for rank, part in enumerate(parts):
            embeddings[owner == rank] = part[: (owner == rank).sum()].cpu().numpy()
        return embeddings


ALONE = World()


@contextmanager
def joined(device: str) -> Iterator[tuple[World, torch.device]]:
    """Join the processes that ``torchrun`` started, if it did: NCCL between GPUs, gloo between CPUs.

    Args:
        device: As in the settings; 'auto' and 'cuda' give every process of a machine a GPU of its own.

    Yields:
        The processes, and this one's device.

    Raises:
        OptionError: The device is not here, one GPU is named for several processes, or the environment says half of it.
        ProcessError: Another process is gone, as far as torch says so: NCCL may end this one itself.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1":
        yield ALONE, resolve_device(device)
        return
    resolved = resolve_device(device)
    needed = ["RANK", "MASTER_ADDR", "MASTER_PORT", *(["LOCAL_RANK"] if resolved.type == "cuda" else [])]
    if missing := [name for name in needed if name not in os.environ]:
        raise OptionError("WORLD_SIZE", size, f"1 or unset where {missing[0]} is not set: 'torchrun' sets both")
    if resolved.type == "cuda":
        if resolved.index is not None:
            raise OptionError("device", device, f"'auto' or 'cuda' with {size} processes: each takes a GPU of its own")
        resolved = resolve_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(resolved)
    dist.init_process_group("nccl" if resolved.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size()), resolved
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):  # gloo's are of no type of their own
            raise
        said = str(error).partition("\n")[0]
        raise ProcessError(
            f"another process of this training is gone; start all of them again, with --resume ({said})"
        ) from error
    finally:
        dist.destroy_process_group()


def _device() -> torch.device:
    """Where tensors must be that travel between processes."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


class _Gather(torch.autograd.Function):
    """Concatenates the rows of all processes; sums their gradients."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World) -> Tensor:
        ctx.world = world
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(world.size)]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        summed = gradient.contiguous().clone()
        dist.all_reduce(summed)
        return ctx.world.share(summed), None
