"""Several processes as one: who this process is, and what is exchanged besides the gradients."""

from __future__ import annotations

import inspect
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from polytask.errors import ConfigError, ProcessLost
from polytask.launch import DEVICE_LOST, UNREACHABLE

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among all."""

    rank: int
    size: int

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and evaluates."""
        return self.rank == 0

    def share(self, items: Sequence[int]) -> list[int]:
        """Return this process's share of items dealt like cards."""
        return list(items[self.rank :: self.size])

    def stretch(self, items: Sequence[int], sizes: Sequence[int]) -> list[int]:
        """Return this process's stretch of items cut one after another into parts of about equal size.

        Every process gets at least one item where there are enough.
        """
        count = len(items)
        middles = np.cumsum(sizes) - np.asarray(sizes) / 2
        start = end = 0
        for rank in range(self.rank + 1):
            start = end
            due = int(np.searchsorted(middles, sum(sizes) * (rank + 1) / self.size))
            end = min(max(due, start + 1), max(count - (self.size - rank - 1), start + 1), count)
        return list(items[start:end])

    def all_reduce_sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all processes."""
        if self.size == 1:
            return list(values)
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def all_reduce_sum_in_place(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def broadcast(self, value: object) -> object:
        """Return the first process's value."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Return every process's value."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Wrap the model so that gradients are averaged over processes in the backward pass.

        A mixed batch may lack a task on some processes, so parameters may be unused there.
        """
        if self.size == 1:
            return model
        ids = [device] if device.type == "cuda" else None
        options: dict[str, Any] = {_SYNC_BUFFERS: False}
        return DistributedDataParallel(
            model, device_ids=ids, find_unused_parameters=True, gradient_as_bucket_view=True, **options
        )


# What no update changes need not be sent at each forward pass; torch 2.13 renamed the option.
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)


# What torch raises where a GPU fails; older versions raise a plain RuntimeError.
_DEVICE_ERROR: type[Exception] | tuple[()] = getattr(torch, "AcceleratorError", ())


@contextmanager
def join_world(device: torch.device) -> Generator[World]:
    """Join the processes that torchrun or `--processes` started; alone when there are none.

    Raises ProcessLost where another process cannot be reached any more, or the device of this one has failed, and
    ConfigError where restarts of torchrun would fail.
    """
    size, rank = (int(os.environ.get(name, value)) for name, value in (("WORLD_SIZE", "1"), ("RANK", "0")))
    if size > 1:
        _require_new_stores()
        if device.type == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(rank, size)
    except RuntimeError as error:
        told = str(error).strip().split("\n")[0]
        if isinstance(error, _DEVICE_ERROR):
            what, code = f"the device of process {rank + 1} of {size} has failed ({told})", DEVICE_LOST
        elif size > 1 and (isinstance(error, dist.DistError) or "gloo" in told):
            what, code = f"another process has ended, or cannot be reached ({told})", UNREACHABLE
        else:
            raise
        raise ProcessLost(what, f"{what}; the last checkpoint is kept, and --resume goes on from it", code) from error
    finally:
        if size > 1:
            dist.destroy_process_group()


def _require_new_stores() -> None:
    """Raise ConfigError where torchrun would restart with its own store: it holds the addresses of those that are gone.

    torch 2.13 opens it once. Processes then wait half a minute for an address where nobody listens, and fail.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and os.environ.get("TORCHELASTIC_MAX_RESTARTS") != "0":
        raise ConfigError(
            "torchrun --max-restarts: found with a store that outlasts a restart, so that the processes would look for "
            "those before it; give torchrun --rdzv-backend c10d and --rdzv-endpoint HOST:PORT (or --standalone on one "
            "machine), and set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"
        )
