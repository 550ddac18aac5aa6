"""AdamW, the shape of its learning rate, and its state as plain tensors under the parameters' names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from polytask.model.multitask import MultiTaskModel
from polytask.model.shared_layer import Origins
from polytask.training.options import TrainOptions


def peak_rate(options: TrainOptions) -> float:
    """Return the encoder's peak rate; `auto` has become a number by now."""
    assert options.learning_rate != "auto"
    return options.learning_rate


def build_optimizer(model: MultiTaskModel, options: TrainOptions) -> torch.optim.AdamW:
    """Build fused AdamW; biases and norms are not decayed, heads may have a rate of their own."""
    assert options.head_learning_rate != "auto"
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    factors = model.rate_factors(options.layer_decay)
    for name, parameter in model.named_parameters():
        of_head = name.startswith("heads.")
        rate = options.head_learning_rate if of_head else peak_rate(options) * factors.get(parameter, 1.0)
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


# What is left of the peak rate after a share of the updates between the warm-up and the end.
SCHEDULERS: dict[str, Callable[[float], float]] = {
    "linear": lambda share: 1 - share,
    "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
    "constant": lambda _: 1.0,
}


def rate_factor(step: int, total: int, options: TrainOptions) -> float:
    """Return the factor of the learning rate: rising over the first steps, then falling as the options say."""
    rising = int(total * options.warmup_ratio)
    if step < rising:
        return (step + 1) / rising
    left = SCHEDULERS[options.lr_scheduler_type](min(1.0, (step - rising) / max(1, total - rising)))
    return options.min_lr_ratio + (1 - options.min_lr_ratio) * left


def label_weight(step: int, total: int) -> float:
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
