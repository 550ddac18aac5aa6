"""Helpers for tensors that may be sharded over processes (DTensor)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is sharded over processes."""
    return isinstance(tensor, DTensor)


def differentiable_part(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor, without detaching it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def local_part(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor (the whole tensor if it is not sharded), detached, in the same memory."""
    return differentiable_part(tensor).detach()


def full_tensor(tensor: Tensor) -> Tensor:
    """Return the whole tensor, detached. All processes have to call it together."""
    return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor.detach()


def as_gradient(local: Tensor, parameter: nn.Parameter) -> Tensor:
    """Return this process's part of a gradient, of any shape, with the shape and sharding of the parameter."""
    if not isinstance(parameter, DTensor):
        return local.view_as(parameter)
    own = local.view_as(parameter.to_local())
    return DTensor.from_local(
        own, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
    )


def local_parts(parameters: Iterable[nn.Parameter]) -> tuple[list[Tensor], list[Tensor]]:
    """Return this process's parts of sharded gradients, and the gradients that are the same on all processes."""
    sharded: list[Tensor] = []
    replicated: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is not None:
            (sharded if is_sharded(parameter) else replicated).append(local_part(parameter.grad))
    return sharded, replicated


def squared_norm(tensors: Sequence[Tensor]) -> float:
    """Return the sum of squares of all elements."""
    return float(torch.nn.utils.get_total_norm(tensors)) ** 2 if tensors else 0.0
