"""Peak learning rates of the encoder, the heads, and the parameters that only one task trains."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from polytask.errors import ConfigError
from polytask.model.multitask import MultiTaskModel
from polytask.model.parameters import rate_factors
from polytask.tasks import Task
from polytask.terms import DataWarning
from polytask.training.options import TrainOptions


def encoder_rate(options: TrainOptions) -> float:
    """Return the encoder's peak rate; `auto` has to be resolved before."""
    assert options.learning_rate != "auto"
    return options.learning_rate


def head_rate(options: TrainOptions) -> float:
    """Return the heads' peak rate; `auto` has to be resolved before."""
    assert options.head_learning_rate != "auto"
    return options.head_learning_rate


def peak_rates(model: MultiTaskModel, options: TrainOptions, tasks: Mapping[str, Task]) -> dict[nn.Parameter, float]:
    """Return the peak rate of each parameter.

    A head has its task's `head_learning_rate`, and encoder parameters that only one task trains have its
    `learning_rate`; all others have the rates of `train`. The encoder's rates decrease from layer to layer by
    `layer_decay`.

    Args:
        tasks: the tasks that are trained; the model may have others.

    Raises ConfigError if tasks that share a head have different rates for it.
    """
    factors = rate_factors(model, options.layer_decay)
    rates: dict[nn.Parameter, float] = {}
    for name, parameter in model.named_parameters():
        in_head = name.startswith("heads.")
        rates[parameter] = head_rate(options) if in_head else encoder_rate(options) * factors.get(parameter, 1.0)
    for encoder in model.trunks:
        for parameters, users in encoder.users():
            alone = tasks.get(next(iter(users))) if len(users) == 1 else None
            rate = alone.options.learning_rate if alone is not None else None
            if rate is not None:
                rates.update({parameter: rate * factors.get(parameter, 1.0) for parameter in parameters})
    for task in tasks:
        rate = _rate_of_head(model, task, tasks)
        if rate is not None:
            rates.update(dict.fromkeys(model.head(task).parameters(), rate))
    return rates


def rate_notes(model: MultiTaskModel, tasks: Mapping[str, Task]) -> list[DataWarning]:
    """Return a warning for each task with a `learning_rate` and no layer that only it trains."""
    alone = {next(iter(users)) for encoder in model.trunks for _, users in encoder.users() if len(users) == 1}
    return [
        DataWarning(
            f"tasks.{name}.learning_rate",
            f"has no effect, since {name!r} has no layers of its own; the rate of its head is `head_learning_rate`",
        )
        for name, task in tasks.items()
        if task.options.learning_rate is not None and name not in alone
    ]


def _rate_of_head(model: MultiTaskModel, task: str, tasks: Mapping[str, Task]) -> float | None:
    """Return the rate set for a task's head, or None."""
    rate = tasks[task].options.head_learning_rate
    for other in tasks:
        own = tasks[other].options.head_learning_rate
        if own != rate and model.sharing.head_of(other) == model.sharing.head_of(task):
            raise ConfigError(
                f"tasks.{task}.head_learning_rate: {task!r} and {other!r} share a head, but have "
                f"{_shown(rate)} and {_shown(own)}; set both to the same rate"
            )
    return rate


def _shown(rate: float | None) -> str:
    return "none" if rate is None else f"{rate:g}"
