"""AdamW with linear warm-up and decay, and its state as plain tensors under the parameters' names."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from polytask.model.multitask import MultiTaskModel
from polytask.model.slot import Origins
from polytask.training.options import TrainOptions


def build_optimizer(model: MultiTaskModel, options: TrainOptions) -> torch.optim.AdamW:
    """Build fused AdamW; biases and norms are not decayed, heads may have a rate of their own."""
    head_rate = options.head_learning_rate or options.learning_rate
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    factors = model.rate_factors()
    for name, parameter in model.named_parameters():
        rate = head_rate if name.startswith("heads.") else options.learning_rate * factors.get(parameter, 1.0)
        decay = options.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    listed = [
        {"params": found, "lr": rate, "weight_decay": decay, "base_rate": rate}
        for (rate, decay), found in groups.items()
    ]
    return torch.optim.AdamW(listed, fused=True)


def rebuild_optimizer(
    optimizer: torch.optim.Optimizer, model: MultiTaskModel, options: TrainOptions, origins: Origins
) -> torch.optim.AdamW:
    """Build the optimizer of a model whose layers were divided anew.

    Args:
        origins: for each parameter that is new or joined, those whose state it takes over: the mean of theirs.
    """
    built = build_optimizer(model, options)
    for parameter in model.parameters():
        states = [optimizer.state[old] for old in origins.get(parameter, [parameter]) if old in optimizer.state]
        if states:
            built.state[parameter] = {
                quantity: torch.stack([state[quantity] for state in states]).mean(0) for quantity in states[0]
            }
    return built


def rate_factor(step: int, total: int, warmup: float) -> float:
    """Return the factor of the learning rate: rising over the first `warmup` share of the steps, then falling to 0."""
    rising = int(total * warmup)
    if step < rising:
        return (step + 1) / rising
    return max(0.0, (total - step) / max(1, total - rising))


def gold_share(step: int, total: int) -> float:
    """Return what the labels weigh against the teachers: from 0 in the first step to 1 in the last one, linearly.

    Source: Clark et al. 2019, "BAM! Born-Again Multi-Task Networks", section 3 (teacher annealing).
    """
    return min(1.0, step / max(1, total - 1))


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to a fraction of its own."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_rate"] * factor


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state as tensors named `<parameter>/<quantity>`."""
    found: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        for quantity, value in optimizer.state.get(parameter, {}).items():
            found[f"{name}/{quantity}"] = value
    return found


def load_optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` returned."""
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, quantity = key.rsplit("/", 1)
        by_parameter.setdefault(name, {})[quantity] = tensor
    for name, parameter in model.named_parameters():
        if name in by_parameter:
            state = {
                quantity: tensor.to(parameter.device) if tensor.ndim else tensor.to(parameter.device).clone()
                for quantity, tensor in by_parameter[name].items()
            }
            optimizer.state[parameter] = state
