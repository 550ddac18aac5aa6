"""The state of a method as JSON: parameters, buffers, numbers, optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def module_state(module: nn.Module) -> dict[str, Any]:
    """Return a module's state as JSON, without submodules."""
    tensors = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
    own = {name: value for name, value in vars(module).items() if name not in _OF_EVERY_MODULE}
    return {name: to_json(value) for name, value in {**tensors, **own}.items()}


def restore_module(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Restore what `module_state` returned; optimizers have to exist already."""
    for name, saved in state.items():
        present, value = getattr(module, name, None), from_json(saved)
        if value is None:
            setattr(module, name, None)
        elif isinstance(present, torch.optim.Optimizer):
            present.load_state_dict(value)
        elif isinstance(present, nn.Parameter):
            present.data.copy_(value)
        else:
            setattr(module, name, value)


def to_json(value: Any) -> Any:  # noqa: ANN401
    """Return a value of numbers, tensors, optimizers and containers of them as JSON; reading it back is exact."""
    if isinstance(value, torch.optim.Optimizer):
        return to_json(value.state_dict())
    if isinstance(value, Tensor):
        return {"tensor": value.detach().tolist(), "dtype": to_json(value.dtype)}
    if isinstance(value, torch.dtype):
        return {"torch": str(value).removeprefix("torch.")}
    if isinstance(value, dict):  # keys need not be text
        return {"items": [[to_json(key), to_json(item)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [to_json(item) for item in value]}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    return value


def from_json(value: Any) -> Any:  # noqa: ANN401
    """Rebuild a value from `to_json`."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return torch.tensor(value["tensor"], dtype=from_json(value["dtype"]))
    if "torch" in value:
        return getattr(torch, value["torch"])
    if "tuple" in value:
        return tuple(from_json(item) for item in value["tuple"])
    return {from_json(key): from_json(item) for key, item in value["items"]}
