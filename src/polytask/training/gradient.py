"""The gradient of a step: of the weighted sum of the tasks' mean losses, whole or task by task."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polytask.balance import WeightedSum
from polytask.balance.gram import GradientMeter
from polytask.data.batch import Batch
from polytask.model.multitask import MultiTaskModel
from polytask.tasks import Task
from polytask.training.distribution import World


@dataclass(frozen=True)
class StepGradient:
    """What differentiating a step found; the gradient itself stands in the parameters.

    Attributes:
        losses: each task's mean loss over all processes.
        gram: layers x tasks x tasks inner products of the tasks' gradients, where they were taken apart.
        stopping: whether any process was asked to stop.
    """

    losses: Mapping[str, float]
    gram: NDArray[np.float64] | None
    stopping: bool


@dataclass(frozen=True)
class Differentiator:
    """Differentiates steps.

    A task's mean is over all its labels in the step, on every process and in every piece: cutting a step into pieces,
    or dealing it to processes, changes nothing.
    """

    model: MultiTaskModel
    tasks: Mapping[str, Task]
    balancer: WeightedSum
    world: World
    precision: Callable[[], AbstractContextManager[object]]

    def whole(self, wrapped: nn.Module, batches: Sequence[Batch], asked_to_stop: bool) -> StepGradient:
        """Take one backward pass a piece, through the wrapped model.

        Args:
            wrapped: the model, or what averages its gradients over processes.
        """
        masses, stopping = self._masses(batches, asked_to_stop)
        sums = {task: 0.0 for task in self.tasks}
        for number, batch in enumerate(batches, start=1):
            with self.precision(), self._sync_after(wrapped, number == len(batches)):
                outputs = wrapped(batch)
                total = outputs_zero(outputs)
                for task, found in outputs.items():
                    if masses[task] > 0:
                        mean = self.tasks[task].loss(found, batch.targets[task]) / masses[task]
                        # The wrapper averages over processes; the mean above is already over all of them.
                        total = total + self.balancer.weigh(task) * self.world.size * mean
                        sums[task] += float(mean.detach())
                total.backward()
        self._add_tie()
        return StepGradient(self._losses(sums, masses), None, stopping)

    def by_task(self, batches: Sequence[Batch], asked_to_stop: bool) -> StepGradient:
        """Take one forward and backward pass a task, over its own rows, and leave the same gradient as `whole`.

        The inner products are those of the unweighted mean losses' gradients.
        """
        masses, stopping = self._masses(batches, asked_to_stop)
        sums = {task: 0.0 for task in self.tasks}
        meter = GradientMeter(self.model)
        for task in (task for task in self.tasks if masses[task] > 0):
            for batch in batches:
                if task in batch.targets:
                    with self.precision():
                        own = batch.only(task)
                        mean = self.tasks[task].loss(self.model(own)[task], own.targets[task]) / masses[task]
                    self._add(self.balancer.weigh(task) * mean)
                    sums[task] += float(mean.detach())
            meter.take(task)
        gram = meter.finish(self.world.add_up_in_place)
        self._add_up_others(meter)
        self._add_tie()
        weights = np.array([self.balancer.weigh(task) for task in self.tasks])
        return StepGradient(self._losses(sums, masses), gram / np.outer(weights, weights), stopping)

    def _add_tie(self) -> None:
        """Add the gradient of what keeps the parts of soft sharing close: the same on every process."""
        tie = self.model.tie()
        if tie is not None:
            self._add(tie)

    def _add(self, loss: Tensor) -> None:
        """Add a gradient to the parameters behind the wrapper's back.

        A backward pass that the wrapper did not prepare would mark parameters as done that its next one waits for.
        """
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, found, strict=True):
            if gradient is not None:  # pyright: ignore[reportUnnecessaryComparison] - with allow_unused it may be
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    def _add_up_others(self, meter: GradientMeter) -> None:
        """Add up over processes what the meter did not take."""
        if self.world.size == 1:
            return
        measured = meter.parameters
        others = [parameter for parameter in self.model.parameters() if parameter not in measured]
        used = self.world.add_up([float(parameter.grad is not None) for parameter in others])
        for parameter, count in zip(others, used, strict=True):
            if count:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                self.world.add_up_in_place(parameter.grad)

    def _losses(self, sums: Mapping[str, float], masses: Mapping[str, float]) -> dict[str, float]:
        added = self.world.add_up(list(sums.values()))
        return {task: loss for task, loss in zip(sums, added, strict=True) if masses[task] > 0}

    def _masses(self, batches: Sequence[Batch], asked_to_stop: bool) -> tuple[dict[str, float], bool]:
        """Return for each task what divides its summed loss, and whether any process was asked to stop."""
        own = [
            sum(task.mass(batch.targets[name]) for batch in batches if name in batch.targets)
            for name, task in self.tasks.items()
        ]
        *masses, stopping = self.world.add_up([*own, float(asked_to_stop)])
        return dict(zip(self.tasks, masses, strict=True)), stopping > 0

    @contextmanager
    def _sync_after(self, wrapped: nn.Module, last: bool) -> Generator[None]:
        """Exchange gradients in the last piece only."""
        if last or self.world.size == 1:
            yield
        else:
            with wrapped.no_sync():  # type: ignore[operator]
                yield


def outputs_zero(outputs: Mapping[str, Tensor]) -> Tensor:
    """Return a zero that depends on all outputs, so that a step without a single label has a gradient too."""
    return torch.stack([found.sum() * 0.0 for found in outputs.values()]).sum()
