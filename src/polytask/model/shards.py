"""Tensors that may be divided among processes (DTensor), seen from one of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether each process holds a part of a tensor."""
    return isinstance(tensor, DTensor)


def differentiable_part(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor, by which its part of a gradient can be computed."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def local_part(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor: all of it, where it is not sharded. It shares the memory."""
    return differentiable_part(tensor).detach()


def with_all_parts(tensor: Tensor) -> Tensor:
    """Return a tensor with the parts of all processes, which call this together."""
    return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor.detach()


def as_gradient(local: Tensor, parameter: nn.Parameter) -> Tensor:
    """Return this process's part of a gradient, of any shape, in the form of the parameter."""
    if not isinstance(parameter, DTensor):
        return local.view_as(parameter)
    own = local.view_as(parameter.to_local())
    return DTensor.from_local(
        own, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
    )


def local_parts(parameters: Iterable[nn.Parameter]) -> tuple[list[Tensor], list[Tensor]]:
    """Return what this process holds of gradients: of sharded ones, and of those that all processes have."""
    sharded: list[Tensor] = []
    alike: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is not None:
            (sharded if is_sharded(parameter) else alike).append(local_part(parameter.grad))
    return sharded, alike


def squared_norm(tensors: Sequence[Tensor]) -> float:
    """Return the sum of squares of all elements."""
    return float(torch.nn.utils.get_total_norm(tensors)) ** 2 if tensors else 0.0
