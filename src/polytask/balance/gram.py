"""The gradients of single tasks: their inner products at every layer, and their sum, weighted or not.

One statistic for balancers, adaptive sharing, and measures of task similarity. The word embeddings and the heads are
left out: the former are sparse and half of a small encoder, the latter belong to single tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from polytask.balance.balancer import Floats
from polytask.model.shards import as_gradient, is_sharded, local_part

# For each task that trains them, parameters of the same shapes: its own copies, or shared ones.
Group: TypeAlias = Mapping[str, Sequence[nn.Parameter]]

# Gradients with fewer elements (biases, norms) are not worth compressing, and stay exact.
_SMALL = 65_536
# Elements that are checked first: in float32 training, a thousand of them hardly ever all fit bfloat16.
_SAMPLE = 1024


class GradientMeter:
    """Collects each task's gradient while the tasks' losses are differentiated one after another.

    Of sharded parameters it stores this process's part, which is complete after a backward pass.

    Args:
        groups: parameters that are measured together, by task.
        order: all tasks, in the order of the statistic.
        reduce: reduces a tensor over all processes in place; None with a single process.
        all_reduce_sum: sums numbers over all processes.
        rounded: whether gradients are rounded to bfloat16 while they are stored; otherwise they are stored in bfloat16
            only if that is exact.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        order: Sequence[str],
        reduce: Callable[[Tensor], object] | None = None,
        all_reduce_sum: Callable[[Sequence[float]], Sequence[float]] = list,
        *,
        rounded: bool = False,
    ) -> None:
        self._groups = groups
        self._order = list(order)
        self._reduce = reduce
        self._all_reduce_sum = all_reduce_sum
        self._rounded = rounded
        every = (parameter for group in groups for parameters in group.values() for parameter in parameters)
        self._all = list(dict.fromkeys(every))
        self._taken: dict[str, dict[nn.Parameter, Tensor]] = {}

    @property
    def parameters(self) -> set[nn.Parameter]:
        """The parameters whose gradients are collected."""
        return set(self._all)

    @property
    def tasks(self) -> list[str]:
        """The tasks whose gradients have been collected."""
        return list(self._taken)

    def take(self, task: str) -> None:
        """Move a task's gradient out of the measured parameters: its own, and those of tasks that it reads."""
        own = [list(group.get(task, ())) for group in self._groups]
        gradients: dict[nn.Parameter, Tensor] = {}
        for parameters in (*own, self._reached({parameter for its_own in own for parameter in its_own})):
            summed = self._summed(parameters)
            gradients |= zip(parameters, (_held(gradient, rounded=self._rounded) for gradient in summed), strict=True)
        self._taken[task] = gradients

    def _reached(self, own: Collection[nn.Parameter]) -> list[nn.Parameter]:
        """Return the parameters of other tasks that a gradient reached on any process."""
        others = [parameter for parameter in self._all if parameter not in own]
        if not others:
            return []
        reached = torch.tensor([float(parameter.grad is not None) for parameter in others], device=others[0].device)
        if self._reduce is not None:
            self._reduce(reached)
        return [parameter for parameter, count in zip(others, reached.tolist(), strict=True) if count]

    def _summed(self, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        """Move a group's gradients out, summed over processes in one exchange; sharded ones are summed already."""
        gradients = [_moved(parameter) for parameter in parameters]
        indices = [index for index, parameter in enumerate(parameters) if not is_sharded(parameter)]
        if not indices or self._reduce is None:
            return gradients
        flat = torch.cat([gradients[index] for index in indices])
        self._reduce(flat)
        for index, gradient in zip(indices, flat.split([gradients[index].numel() for index in indices]), strict=True):
            gradients[index] = gradient
        return gradients

    @cached_property
    def grams(self) -> Floats:
        """Inner products of shape (groups, tasks, tasks), nan without a gradient. Read it after the last `take`."""
        products = np.full((len(self._groups), len(self._order), len(self._order)), np.nan)
        of_parts = np.zeros_like(products)
        for number, group in enumerate(self._groups):
            tasks = [task for task in self._taken if task in group]
            if tasks:
                indices = [self._order.index(task) for task in tasks]
                block = np.ix_(indices, indices)
                products[number][block] = 0.0
                for copies in zip(*(group[task] for task in tasks), strict=True):
                    gram = _gram([self._taken[task][parameter] for task, parameter in zip(tasks, copies, strict=True)])
                    (of_parts if is_sharded(copies[0]) else products)[number][block] += gram
        return products + self._over_parts(of_parts)

    def shared_gram(self) -> Floats:
        """Return the inner products of the tasks' gradients in shared parameters, in the order of `tasks`."""
        total = np.zeros((len(self._taken), len(self._taken)))
        of_parts = np.zeros_like(total)
        for parameter in self._all:
            rows = {place: found[parameter] for place, found in enumerate(self._taken.values()) if parameter in found}
            if len(rows) > 1:
                gram = _gram(list(rows.values()))
                (of_parts if is_sharded(parameter) else total)[np.ix_(list(rows), list(rows))] += gram
        return total + self._over_parts(of_parts)

    def _over_parts(self, products: Floats) -> Floats:
        """Sum inner products of this process's parts of gradients over all processes."""
        if not any(map(is_sharded, self._all)):
            return products
        return np.array(self._all_reduce_sum(products.flatten().tolist())).reshape(products.shape)

    def put_back(self, weights: Mapping[str, float], shared: Collection[nn.Parameter]) -> None:
        """Put the gradients' weighted sum into the parameters, and free the tasks' gradients.

        Args:
            weights: the tasks' weights in shared parameters; in others the weight is 1.
            shared: the shared parameters.
        """
        for parameter in self._all:
            terms = [
                (found.pop(parameter), weights[task] if parameter in shared else 1.0)
                for task, found in self._taken.items()
                if parameter in found
            ]
            if terms:
                _add(parameter, _sum(terms))

    def put_back_aggregated(self, aggregate: Callable[[Tensor], Tensor], shared: Collection[nn.Parameter]) -> None:
        """Put the aggregated gradient into shared parameters, and the tasks' own ones into others, and free the rest.

        Args:
            aggregate: shape (tasks, parameters) -> (parameters,); called once for each set of tasks.
            shared: the shared parameters.
        """
        sets: dict[tuple[str, ...], list[nn.Parameter]] = {}
        for parameter in self._all:
            tasks = tuple(task for task, found in self._taken.items() if parameter in found)
            if parameter in shared:
                sets.setdefault(tasks, []).append(parameter)
            else:
                for task in tasks:
                    _add(parameter, self._taken[task].pop(parameter).float())
        for tasks, parameters in sets.items():
            if tasks:
                sizes = [local_part(one).numel() for one in parameters]
                rows = torch.empty(len(tasks), sum(sizes), device=parameters[0].device)
                for row, task in zip(rows, tasks, strict=True):
                    for parameter, place in zip(parameters, row.split(sizes), strict=True):
                        place.copy_(self._taken[task].pop(parameter))
                for parameter, piece in zip(parameters, aggregate(rows).split(sizes), strict=True):
                    _add(parameter, piece)


def _gram(gradients: Sequence[Tensor]) -> Floats:
    """Return the inner products of the tasks' gradients of one parameter."""
    rows = torch.stack([gradient.float() for gradient in gradients])
    products = (rows @ rows.T).double().cpu().numpy()
    return (products + products.T) / 2


def _moved(parameter: nn.Parameter) -> Tensor:
    gradient = parameter.grad
    parameter.grad = None
    if gradient is None:
        return torch.zeros(local_part(parameter).numel(), device=parameter.device)
    return local_part(gradient).flatten()


def _held(gradient: Tensor, *, rounded: bool) -> Tensor:
    """Return a gradient as it is stored: in bfloat16 if that is exact, or if it may be rounded."""
    if gradient.numel() < _SMALL:
        return gradient
    if not rounded and not _is_bfloat16(gradient[:_SAMPLE]):
        return gradient
    half = gradient.to(torch.bfloat16)
    return half if rounded or torch.equal(half.float(), gradient) else gradient


def _is_bfloat16(values: Tensor) -> bool:
    return torch.equal(values.to(torch.bfloat16).float(), values)


def _sum(terms: Sequence[tuple[Tensor, float]]) -> Tensor:
    """Return the sum of gradients times their weights, in one new tensor."""
    (first, weight), *others = terms
    if not others and weight == 1.0:
        return first.float()
    total = first.float() * weight
    for gradient, factor in others:
        total.add_(gradient, alpha=factor)
    return total


def _add(parameter: nn.Parameter, gradient: Tensor) -> None:
    if parameter.requires_grad:  # the optimizer would decay a frozen one
        shaped = as_gradient(gradient, parameter)
        parameter.grad = shaped if parameter.grad is None else parameter.grad + shaped
