"""Distributed training: the rank of this process, and what processes exchange in addition to gradients."""

from __future__ import annotations

import inspect
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakSet

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
    """The rank of this process and the number of all processes."""

    rank: int
    size: int
    _wrapped: WeakSet[DistributedDataParallel] = field(default_factory=WeakSet, repr=False, compare=False)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and evaluates."""
        return self.rank == 0

    def share(self, items: Sequence[int]) -> list[int]:
        """Return this process's items, dealt in turn: every `size`-th one."""
        return list(items[self.rank :: self.size])

    def stretch(self, items: Sequence[int], sizes: Sequence[int]) -> list[int]:
        """Return this process's contiguous slice of the items, cut so that the slices have about equal total size.

        Every process gets at least one item if there are enough.
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
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Wrap the model so that the backward pass averages gradients over processes.

        A mixed batch may lack a task on some processes, so parameters may be unused there.
        """
        if self.size == 1:
            return model
        ids = [device] if device.type == "cuda" else None
        options: dict[str, Any] = {_SYNC_BUFFERS: False}
        wrapped = DistributedDataParallel(
            model, device_ids=ids, find_unused_parameters=True, gradient_as_bucket_view=True, **options
        )
        self._wrapped.add(wrapped)
        return wrapped

    def leave(self) -> None:
        """Leave the process group. Wrapped models can no longer be trained.

        A wrapped model that outlives the group (a traceback may hold it) must not own it: torch would end the group's
        thread with Python's lock held, for which that thread may be waiting, and the process would never end.
        """
        if self.size > 1:
            for wrapped in self._wrapped:
                del wrapped.reducer, wrapped.logger
            dist.destroy_process_group()


# Buffers never change in training, so they need not be sent at each forward pass; torch 2.13 renamed the option.
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)


# Raised by torch when a GPU fails; older versions raise a plain RuntimeError.
_DEVICE_ERROR: type[Exception] | tuple[()] = getattr(torch, "AcceleratorError", ())


@contextmanager
def join_world(device: torch.device) -> Generator[World]:
    """Join the process group that torchrun or `--processes` started, if any; otherwise the size is 1.

    Raises ProcessLost if another process can no longer be reached or the device of this one has failed, and
    ConfigError if restarts by torchrun would fail.
    """
    size, rank = (int(os.environ.get(name, value)) for name, value in (("WORLD_SIZE", "1"), ("RANK", "0")))
    if size > 1:
        _require_new_stores()
        if device.type == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    world = World(rank, size)
    try:
        yield world
    except RuntimeError as error:
        first_line = str(error).strip().split("\n")[0]
        if isinstance(error, _DEVICE_ERROR):
            reason, code = f"the device of process {rank + 1} of {size} has failed ({first_line})", DEVICE_LOST
        elif size > 1 and (isinstance(error, dist.DistError) or "gloo" in first_line):
            reason, code = f"another process has ended, or cannot be reached ({first_line})", UNREACHABLE
        else:
            raise
        message = f"{reason}; the last checkpoint is kept, and --resume continues from it"
        raise ProcessLost(reason, message, code) from error
    finally:
        world.leave()


def _require_new_stores() -> None:
    """Raise ConfigError if torchrun restarts with its own store, which still holds the addresses of ended processes.

    torch 2.13 opens it once. Restarted processes wait half a minute for an address where nothing listens, and fail.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and os.environ.get("TORCHELASTIC_MAX_RESTARTS") != "0":
        raise ConfigError(
            "torchrun --max-restarts: found with a store that outlasts a restart, so restarted processes would look "
            "for the ones that ended; run torchrun with --rdzv-backend c10d and --rdzv-endpoint HOST:PORT (or "
            "--standalone on one machine), and set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"
        )
