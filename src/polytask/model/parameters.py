"""Which tasks train which parameters of a model, and what follows: groups to compare, counts, rates, what is frozen."""

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
        total: of the model.
        single: of the model in which all tasks share the whole encoder.
        apart: of one model a task.
        shared, own: for each task those that other tasks' losses train as well, and those that its own alone does.
    """

    total: int
    single: int
    apart: int
    shared: Mapping[str, int]
    own: Mapping[str, int]


def parameters_by_tasks(model: MultiTaskModel) -> Iterator[tuple[list[nn.Parameter], frozenset[str]]]:
    """Yield the parameters with the tasks whose losses train them.

    These are the tasks whose outputs depend on them, save those that depend through a detached reading only.
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
    """Return for each layer that follows the plan the parameters in which tasks' gradients are compared."""
    encoder = next(encoder for encoder in model.trunks if task in encoder.tasks)
    return [level.measured(model.plan.part(number, task)) for number, level in enumerate(encoder.levels, start=1)]


def gradient_groups(model: MultiTaskModel) -> list[dict[str, list[nn.Parameter]]]:
    """Return the parameters in which tasks' gradients are compared or weighed, by task, group by group.

    First come the layers that follow the plan, each with the copies of all tasks; then whatever else several tasks
    train, without the word embeddings, whose gradients are as great as all layers' and nearly empty.
    """
    layers = {task: compared_parameters(model, task) for task in model.plan.tasks}
    groups = [{task: found[number] for task, found in layers.items()} for number in range(model.layers)]
    left_out = {parameter for group in groups for found in group.values() for parameter in found}
    left_out |= set(model.word_embeddings().values())
    for parameters, tasks in parameters_by_tasks(model):
        others = [one for one in parameters if one not in left_out and one.requires_grad]
        if len(tasks) > 1 and others:
            groups.append(dict.fromkeys(sorted(tasks), others))
    return groups


def top_group(model: MultiTaskModel) -> dict[str, list[nn.Parameter]]:
    """Return the highest layer in which most tasks meet, or what else they train where they share no layer."""
    groups = gradient_groups(model)
    met = [_meeting(group) for group in groups]
    layers = [number for number in range(model.layers) if met[number]] or list(range(model.layers, len(groups)))
    return groups[max(layers, key=lambda number: (met[number], number))]


def shared_parameters(model: MultiTaskModel) -> set[nn.Parameter]:
    """Return the parameters that several tasks train."""
    return {one for parameters, tasks in _trained(model) for one in parameters if len(tasks) > 1}


def sharing_tasks(model: MultiTaskModel) -> set[str]:
    """Return the tasks that train any parameter which another one trains as well."""
    return {task for _, tasks in _trained(model) for task in tasks if len(tasks) > 1}


def own_parameters(model: MultiTaskModel) -> Iterator[tuple[str, list[nn.Parameter]]]:
    """Yield the parameters that one task alone trains, with the task."""
    for parameters, tasks in parameters_by_tasks(model):
        if len(tasks) == 1:
            yield next(iter(tasks)), parameters


def train_only(model: MultiTaskModel, tasks: Collection[str]) -> None:
    """Freeze all that any other task's outputs depend on; what is frozen already stays so."""
    for parameters, users in parameters_by_tasks(model):
        for parameter in parameters:
            parameter.requires_grad_(parameter.requires_grad and users <= set(tasks))


def rate_factors(model: MultiTaskModel, layer_decay: float = 1.0) -> dict[nn.Parameter, float]:
    """Return factors of the learning rate of the encoders' parameters; those that have none are missing.

    Args:
        layer_decay: from each layer to the one below it, from the highest down to the embeddings.
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
    """Return how many tasks train parameters of a group that another one trains as well."""
    first = [id(found[0]) for found in group.values() if found and found[0].requires_grad]
    return sum(first.count(one) > 1 for one in first)
