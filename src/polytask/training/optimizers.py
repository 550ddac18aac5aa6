"""Optimizers by name: functions from parameter groups to a `torch.optim.Optimizer`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from polytask.registry import Table

if TYPE_CHECKING:
    import torch

# Takes parameter groups, each with `params`, `lr` (the peak rate) and `weight_decay`; returns a torch.optim.Optimizer.
Factory: TypeAlias = "Callable[[list[dict[str, Any]]], Any]"


def adamw(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """AdamW in its fused form. Source: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization"."""
    import torch

    return torch.optim.AdamW(groups, fused=True)


_OWN: dict[str, Factory] = {"adamw": adamw}
OPTIMIZERS = Table("optimizer", _OWN)
