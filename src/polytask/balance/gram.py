"""The Gram statistic: inner products of the tasks' gradients at every layer, from one backward pass a task.

Adaptive sharing reads it, and so may whatever asks how alike the tasks are. The word embeddings, positions and heads
are left out: the former are sparse and half of a small encoder, the latter belong to the tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polytask.model.multitask import MultiTaskModel


class GradientMeter:
    """Collects each task's gradient while the tasks' losses are differentiated one after another.

    After `take` of every task, `finish` leaves in the parameters what one backward pass of the summed losses leaves.
    """

    def __init__(self, model: MultiTaskModel) -> None:
        self._order = model.plan.tasks
        self._layers: Mapping[str, list[list[nn.Parameter]]] = {task: model.measured(task) for task in self._order}
        self._taken: dict[str, list[Tensor]] = {}

    @property
    def parameters(self) -> set[nn.Parameter]:
        """The parameters that are measured."""
        return {parameter for layers in self._layers.values() for layer in layers for parameter in layer}

    def take(self, task: str) -> None:
        """Move a task's gradient out of the parameters of the layers; those of others stay and add up."""
        self._taken[task] = [torch.cat([_moved(parameter) for parameter in layer]) for layer in self._layers[task]]

    def finish(self, add_up: Callable[[Tensor], object]) -> NDArray[np.float64]:
        """Return layers x tasks x tasks inner products, nan for tasks without a gradient; put the sums back.

        Args:
            add_up: adds a tensor up over all processes, in place.
        """
        count = len(next(iter(self._layers.values())))
        gram = np.full((count, len(self._order), len(self._order)), np.nan)
        places = [self._order.index(task) for task in self._taken]
        if not places:  # a step without a single label
            return gram
        for layer in range(count):
            flat = [found[layer] for found in self._taken.values()]
            for gradient in flat:
                add_up(gradient)
            rows = torch.stack(flat)
            gram[layer][np.ix_(places, places)] = (rows @ rows.T).double().cpu().numpy()
            for task, gradient in zip(self._taken, flat, strict=True):
                _put_back(self._layers[task][layer], gradient)
        return gram


def _moved(parameter: nn.Parameter) -> Tensor:
    gradient = parameter.grad
    parameter.grad = None
    return torch.zeros(parameter.numel(), device=parameter.device) if gradient is None else gradient.flatten()


def _put_back(parameters: Sequence[nn.Parameter], gradient: Tensor) -> None:
    pieces = gradient.split([parameter.numel() for parameter in parameters])
    for parameter, piece in zip(parameters, pieces, strict=True):
        if parameter.requires_grad:  # the optimizer would decay a frozen one
            shaped = piece.view_as(parameter)
            parameter.grad = shaped if parameter.grad is None else parameter.grad + shaped
