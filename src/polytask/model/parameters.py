"""Which tasks train which parameters of a model: groups for comparing gradients, counts, rates, freezing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from polytask.model.multitask import MultiTaskModel
from polytask.model.shared_layer import size


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of parameters.

    Attributes:
        total: parameters of the model.
        single: parameters of a model in which all tasks share the whole encoder.
        apart: parameters of separate models, one per task.
        shared, own: for each task, parameters that other tasks train too, and parameters that only this task trains.
    """

    total: int
    single: int
    apart: int
    shared: Mapping[str, int]
    own: Mapping[str, int]


def parameters_by_tasks(model: MultiTaskModel) -> Iterator[tuple[list[nn.Parameter], frozenset[str]]]:
    """Yield the parameters with the tasks whose losses train them.

    These are the tasks whose outputs depend on them, except through a detached reading only.
    """
    for encoder in model.trunks:
        for parameters, tasks in encoder.users():
            yield parameters, model.cascade.trained_by(tasks)
    for task in model.plan.tasks:
        if model.sharing.head_of(task) == task:
            readers = frozenset(other for other in model.plan.tasks if model.sharing.head_of(other) == task)
            yield list(model.head(task).parameters()), model.cascade.trained_by(readers)


def _trained(model: MultiTaskModel) -> Iterator[tuple[list[nn.Parameter], frozenset[str]]]:
    """Yield the parameters that are not frozen, with the tasks whose losses train them."""
    for parameters, tasks in parameters_by_tasks(model):
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if trained:
            yield trained, tasks


def compared_parameters(model: MultiTaskModel, task: str) -> list[list[nn.Parameter]]:
    """Return the parameters in which tasks' gradients are compared, for each layer of the plan."""
    encoder = next(encoder for encoder in model.trunks if task in encoder.tasks)
    return [level.measured(model.plan.part(number, task)) for number, level in enumerate(encoder.levels, start=1)]


def gradient_groups(model: MultiTaskModel) -> list[dict[str, list[nn.Parameter]]]:
    """Return groups of the parameters in which tasks' gradients are compared or weighted, by task.

    First come the layers of the plan, each with the copies of all tasks; then all other parameters that several tasks
    train, except the word embeddings, whose gradients are as large as those of all layers, but sparse.
    """
    layers = {task: compared_parameters(model, task) for task in model.plan.tasks}
    groups = [{task: by_layer[number] for task, by_layer in layers.items()} for number in range(model.layers)]
    left_out = {parameter for group in groups for parameters in group.values() for parameter in parameters}
    left_out |= set(model.word_embeddings().values())
    for parameters, tasks in parameters_by_tasks(model):
        others = [parameter for parameter in parameters if parameter not in left_out and parameter.requires_grad]
        if len(tasks) > 1 and others:
            groups.append(dict.fromkeys(sorted(tasks), others))
    return groups


def top_group(model: MultiTaskModel) -> dict[str, list[nn.Parameter]]:
    """Return the highest layer shared by most tasks, or another shared group if they share no layer."""
    groups = gradient_groups(model)
    counts = [_meeting(group) for group in groups]
    layers = [number for number in range(model.layers) if counts[number]] or list(range(model.layers, len(groups)))
    return groups[max(layers, key=lambda number: (counts[number], number))]


def shared_parameters(model: MultiTaskModel) -> set[nn.Parameter]:
    """Return the parameters that several tasks train."""
    return {parameter for parameters, tasks in _trained(model) for parameter in parameters if len(tasks) > 1}


def sharing_tasks(model: MultiTaskModel) -> set[str]:
    """Return the tasks that train any parameter together with another task."""
    return {task for _, tasks in _trained(model) for task in tasks if len(tasks) > 1}


def own_parameters(model: MultiTaskModel) -> Iterator[tuple[str, list[nn.Parameter]]]:
    """Yield each task and the parameters that only this task trains."""
    for parameters, tasks in parameters_by_tasks(model):
        if len(tasks) == 1:
            yield next(iter(tasks)), parameters


def train_only(model: MultiTaskModel, tasks: Collection[str]) -> None:
    """Freeze all parameters that any other task's outputs depend on; frozen parameters stay frozen."""
    for parameters, users in parameters_by_tasks(model):
        for parameter in parameters:
            parameter.requires_grad_(parameter.requires_grad and users <= set(tasks))


def rate_factors(model: MultiTaskModel, layer_decay: float = 1.0) -> dict[nn.Parameter, float]:
    """Return factors of the learning rate of the encoders' parameters; those with a factor of 1 may be missing.

    Args:
        layer_decay: factor from each layer to the one below it, down to the embeddings.
    """
    return {
        parameter: factor for encoder in model.trunks for parameter, factor in encoder.rate_factors(layer_decay).items()
    }


def count_parameters(model: MultiTaskModel) -> ParameterCount:
    """Count parameters."""
    order = model.plan.tasks
    shared, own = dict.fromkeys(order, 0), dict.fromkeys(order, 0)
    for parameters, tasks in parameters_by_tasks(model):
        number = sum(parameter.numel() for parameter in parameters)
        for task in tasks:
            (own if len(tasks) == 1 else shared)[task] += number
    total = size(model)
    heads = sum(size(model.head(task)) for task in order)
    return ParameterCount(total, model.size_of_single(), len(order) * model.encoder_size + heads, shared, own)


def _meeting(group: Mapping[str, Sequence[nn.Parameter]]) -> int:
    """Return how many tasks train parameters of a group together with another task."""
    first = [id(parameters[0]) for parameters in group.values() if parameters and parameters[0].requires_grad]
    return sum(first.count(identity) > 1 for identity in first)
