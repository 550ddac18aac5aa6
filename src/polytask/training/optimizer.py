"""The optimizer, its learning rate schedule, and its state as plain tensors under the parameters' names."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from polytask.errors import ConfigError, TrainingError
from polytask.model.multitask import MultiTaskModel
from polytask.model.shards import is_sharded, local_parts, squared_norm
from polytask.model.shared_layer import Origins
from polytask.tasks import Task
from polytask.training.distribution import World
from polytask.training.optimizers import OPTIMIZERS
from polytask.training.options import TrainOptions
from polytask.training.rates import peak_rates

# Suffix of the name of a state that is a plain number.
_NUMBER = "#number"
# Prefix of the name of a state of a whole parameter group.
_GROUP = "group-"
# Settings of a group that every run or update sets again.
_SETTINGS = frozenset({"params", "lr", "base_rate", "weight_decay"})


def build_optimizer(model: MultiTaskModel, options: TrainOptions, tasks: Mapping[str, Task]) -> torch.optim.Optimizer:
    """Build the optimizer; biases and norms are not decayed.

    Raises ConfigError if a user's own factory returns something unusable, or rates contradict one another.
    """
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for parameter, rate in peak_rates(model, options, tasks).items():
        decay = options.weight_decay if parameter.ndim > 1 else 0.0
        # A fused update takes either sharded or whole parameters, not both.
        groups.setdefault((rate, decay, is_sharded(parameter)), []).append(parameter)
    listed = [
        {"params": parameters, "lr": rate, "weight_decay": decay, "base_rate": rate}
        for (rate, decay, _), parameters in groups.items()
    ]
    return _built(options.optim, listed)


def _built(name: str, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    place, rates = f"train.optim: {name}", [group["lr"] for group in groups]
    try:
        optimizer = OPTIMIZERS[name](groups)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{place}: cannot be built from parameter groups ({error})") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ConfigError(f"{place}: returned {type(optimizer).__name__}; expected a torch.optim.Optimizer")
    if any(
        parameter.name == "closure" and parameter.default is parameter.empty
        for parameter in inspect.signature(optimizer.step).parameters.values()
    ):
        raise ConfigError(
            f"{place}: its steps need a closure that recomputes the loss, which polytask does not support"
        )
    if [group.get("base_rate") for group in optimizer.param_groups] != rates:
        raise ConfigError(
            f"{place}: its parameter groups are not those it was created with, so their rates cannot be set"
        )
    return optimizer


def rebuild_optimizer(
    optimizer: torch.optim.Optimizer,
    model: MultiTaskModel,
    options: TrainOptions,
    tasks: Mapping[str, Task],
    origins: Origins,
) -> torch.optim.Optimizer:
    """Build the optimizer of a model whose plan has changed.

    Args:
        origins: for each new or merged parameter, the parameters that it comes from; its state is the mean of theirs.
    """
    built = build_optimizer(model, options, tasks)
    for parameter in model.parameters():
        states = [optimizer.state[old] for old in origins.get(parameter, [parameter]) if old in optimizer.state]
        if states:
            built.state[parameter] = {quantity: _mean([state[quantity] for state in states]) for quantity in states[0]}
    before = {(group["base_rate"], group["weight_decay"]): _kept(optimizer, group) for group in optimizer.param_groups}
    for group in built.param_groups:
        group.update(before.get((group["base_rate"], group["weight_decay"]), {}))
    return built


def _kept(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers that an optimizer keeps for a group, such as an estimated step size."""
    return {
        key: value
        for key, value in group.items()
        if key not in _SETTINGS and type(value) in (int, float) and value != optimizer.defaults.get(key)
    }


def _mean(values: list[Any]) -> Any:  # noqa: ANN401
    """Return the mean of tensors, or the maximum of numbers, which count steps."""
    if all(isinstance(value, Tensor) for value in values):
        return torch.stack(values).mean(0)
    return max(values) if all(isinstance(value, int | float) for value in values) else values[0]


# Factor of the peak rate, by the share of the updates after the warmup that have been made.
SCHEDULERS: dict[str, Callable[[float], float]] = {
    "linear": lambda share: 1 - share,
    "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
    "constant": lambda _: 1.0,
}


def rate_factor(step: int, total: int, options: TrainOptions) -> float:
    """Return the factor of the learning rate: a linear warmup, then the schedule of the options."""
    warmup_steps = int(total * options.warmup_ratio)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    factor = SCHEDULERS[options.lr_scheduler_type](min(1.0, (step - warmup_steps) / max(1, total - warmup_steps)))
    return options.min_lr_ratio + (1 - options.min_lr_ratio) * factor


def label_weight(step: int, total: int) -> float:
    """Return the weight of the labels relative to the teachers: linear from 0 in the first step to 1 in the last.

    Source: Clark et al. 2019, "BAM! Born-Again Multi-Task Networks", section 3 (teacher annealing).
    """
    return min(1.0, step / max(1, total - 1))


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to its peak rate times a factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_rate"] * factor


def clip_gradients(model: nn.Module, max_norm: float, world: World) -> float:
    """Clip the norm of the gradient, which may be sharded over the processes.

    Returns:
        The norm before clipping.
    """
    sharded, replicated = local_parts(model.parameters())
    if not sharded:
        norm = float(torch.nn.utils.get_total_norm(replicated))
        if norm + 1e-6 > max_norm:  # a factor of 1 would only cost time
            torch.nn.utils.clip_grads_with_norm_(model.parameters(), max_norm, torch.tensor(norm))
        return norm
    norm = math.sqrt(world.all_reduce_sum([squared_norm(sharded)])[0] + squared_norm(replicated))
    factor = max_norm / (norm + 1e-6)
    if factor < 1:
        for gradient in (*sharded, *replicated):
            gradient *= factor
    return norm


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state as tensors named `<parameter>/<quantity>`; names of plain numbers have a suffix.

    Raises TrainingError for a value that is neither a tensor nor a number.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        for quantity, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{name}/{quantity}"] = value
            elif isinstance(value, int | float):
                tensors[f"{name}/{quantity}{_NUMBER}"] = _as_tensor(value)
            elif value is not None:
                raise TrainingError(
                    f"train.optim: {type(optimizer).__name__} keeps {type(value).__name__} as {quantity!r}; a "
                    "checkpoint holds tensors and numbers only"
                )
    for number, group in enumerate(optimizer.param_groups):
        for key, value in _kept(optimizer, group).items():
            tensors[f"{_GROUP}{number}/{key}{_NUMBER}"] = _as_tensor(value)
    return tensors


def _as_tensor(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.int64 if isinstance(value, int) else torch.float64)


def load_optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore the state that `optimizer_tensors` returned."""
    by_parameter: dict[str, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        name, quantity = key.rsplit("/", 1)
        number = quantity.endswith(_NUMBER)
        value = tensor.item() if number else tensor
        by_parameter.setdefault(name, {})[quantity.removesuffix(_NUMBER)] = value
    for number, group in enumerate(optimizer.param_groups):
        group.update(by_parameter.get(f"{_GROUP}{number}", {}))
    for name, parameter in model.named_parameters():
        if name in by_parameter:
            optimizer.state[parameter] = {
                quantity: _placed(value, parameter) for quantity, value in by_parameter[name].items()
            }


def _placed(value: Any, parameter: nn.Parameter) -> Any:  # noqa: ANN401
    if not isinstance(value, Tensor):
        return value
    return value.to(parameter.device) if value.ndim else value.to(parameter.device).clone()
