"""The tasks' gradients, taken apart: their inner products at every layer, and their sum put back, weighed or not.

One statistic for the balancers, for adaptive sharing, and for whatever asks how alike the tasks are. The word
embeddings and the heads are left out: the former are sparse and half of a small encoder, the latter belong to tasks.
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

# For each task that trains them, parameters of the same shapes: its own copies, or those that it shares.
Group: TypeAlias = Mapping[str, Sequence[nn.Parameter]]

# Gradients with fewer numbers (biases, norms) are not worth a look, and stay exact.
_SMALL = 65_536
# Numbers that are looked at before all are: in float32 training hardly a thousand of them fit bfloat16.
_SAMPLE = 1024


class GradientMeter:
    """Collects each task's gradient while the tasks' losses are differentiated one after another.

    Of sharded parameters it holds this process's part, which is there in full once a backward pass is over.

    Args:
        order: all tasks, in the order of the statistic.
        reduce: makes of a tensor what all processes have together, in place; none where there is one process.
        all_reduce_sum: adds up numbers over all processes.
        rounded: whether gradients are rounded to bfloat16 while they are held; otherwise they are held in it only where
            that loses no bit of them.
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
        self._all = list(dict.fromkeys(one for group in groups for found in group.values() for one in found))
        self._taken: dict[str, dict[nn.Parameter, Tensor]] = {}

    @property
    def parameters(self) -> set[nn.Parameter]:
        """The parameters whose gradients are taken."""
        return set(self._all)

    @property
    def tasks(self) -> list[str]:
        """The tasks whose gradients were taken."""
        return list(self._taken)

    def take(self, task: str) -> None:
        """Move a task's gradient out of the measured parameters: its own, and others' that it reads through."""
        own = [list(group.get(task, ())) for group in self._groups]
        found: dict[nn.Parameter, Tensor] = {}
        for parameters in (*own, self._reached({one for listed in own for one in listed})):
            summed = self._summed(parameters)
            found |= zip(parameters, (_held(gradient, rounded=self._rounded) for gradient in summed), strict=True)
        self._taken[task] = found

    def _reached(self, own: Collection[nn.Parameter]) -> list[nn.Parameter]:
        """Return the parameters of other tasks that a gradient reached on any process."""
        others = [one for one in self._all if one not in own]
        if not others:
            return []
        reached = torch.tensor([float(one.grad is not None) for one in others], device=others[0].device)
        if self._reduce is not None:
            self._reduce(reached)
        return [one for one, count in zip(others, reached.tolist(), strict=True) if count]

    def _summed(self, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        """Move a group's gradients out, over all processes, in one exchange; sharded ones were exchanged already."""
        found = [_moved(one) for one in parameters]
        places = [place for place, one in enumerate(parameters) if not is_sharded(one)]
        if not places or self._reduce is None:
            return found
        flat = torch.cat([found[place] for place in places])
        self._reduce(flat)
        for place, gradient in zip(places, flat.split([found[place].numel() for place in places]), strict=True):
            found[place] = gradient
        return found

    @cached_property
    def grams(self) -> Floats:
        """Groups x tasks x tasks inner products; nan for tasks without a gradient there. Ask when all are taken."""
        found = np.full((len(self._groups), len(self._order), len(self._order)), np.nan)
        of_parts = np.zeros_like(found)
        for number, group in enumerate(self._groups):
            tasks = [task for task in self._taken if task in group]
            if tasks:
                places = [self._order.index(task) for task in tasks]
                at = np.ix_(places, places)
                found[number][at] = 0.0
                for copies in zip(*(group[task] for task in tasks), strict=True):
                    gram = _gram([self._taken[task][one] for task, one in zip(tasks, copies, strict=True)])
                    (of_parts if is_sharded(copies[0]) else found)[number][at] += gram
        return found + self._over_parts(of_parts)

    def shared_gram(self) -> Floats:
        """Return the inner products of the tasks' gradients in what several of them train, in the order of `tasks`."""
        total = np.zeros((len(self._taken), len(self._taken)))
        of_parts = np.zeros_like(total)
        for parameter in self._all:
            rows = {place: found[parameter] for place, found in enumerate(self._taken.values()) if parameter in found}
            if len(rows) > 1:
                gram = _gram(list(rows.values()))
                (of_parts if is_sharded(parameter) else total)[np.ix_(list(rows), list(rows))] += gram
        return total + self._over_parts(of_parts)

    def _over_parts(self, products: Floats) -> Floats:
        """Add inner products of this process's parts of gradients up over all processes."""
        if not any(map(is_sharded, self._all)):
            return products
        return np.array(self._all_reduce_sum(products.flatten().tolist())).reshape(products.shape)

    def put_back(self, weights: Mapping[str, float], shared: Collection[nn.Parameter]) -> None:
        """Put the gradients' sum back, after which the tasks' are gone.

        Args:
            weights: of the tasks in parameters that are shared; elsewhere they are 1.
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
        """Put back one gradient for all tasks where parameters are shared, and the tasks' own ones elsewhere.

        After that the tasks' are gone.

        Args:
            aggregate: tasks x parameters -> parameters; asked once for each set of tasks that train the same ones.
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
    found = (rows @ rows.T).double().cpu().numpy()
    return (found + found.T) / 2


def _moved(parameter: nn.Parameter) -> Tensor:
    gradient = parameter.grad
    parameter.grad = None
    if gradient is None:
        return torch.zeros(local_part(parameter).numel(), device=parameter.device)
    return local_part(gradient).flatten()


def _held(gradient: Tensor, *, rounded: bool) -> Tensor:
    """Return a gradient as it is held: in half of the memory where no bit of it is lost, or where it may be rounded."""
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
