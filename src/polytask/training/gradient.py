"""The gradient of a step: of the tasks' mean losses, as the balancer puts them together, whole or task by task."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polytask.balance import Balancer
from polytask.balance.balancer import Floats
from polytask.balance.gram import GradientMeter, Group
from polytask.data.batch import Batch
from polytask.model.multitask import MultiTaskModel
from polytask.model.parameters import gradient_groups, own_parameters, shared_parameters, top_group
from polytask.tasks import Task
from polytask.training.distribution import World
from polytask.training.joined import ComparedRows, step_loss
from polytask.training.parameter_gradients import ParameterGradients, WordEmbeddings
from polytask.training.requests import NOTHING, PendingRequests


@dataclass(frozen=True)
class StepGradient:
    """What differentiating a step found; the gradient itself stands in the parameters.

    Attributes:
        losses: each task's mean loss over all processes.
        gram: layers x tasks x tasks inner products of the tasks' gradients, where they were asked for.
        weights: of the tasks in the update of what they share, where a method chose them.
        asked: what any process was asked.
        errors: each task's training errors by class, added up, and how many there are, where they are read.
    """

    losses: Mapping[str, float]
    gram: NDArray[np.float64] | None
    weights: Mapping[str, float]
    asked: PendingRequests
    errors: Mapping[str, tuple[Floats, Floats]] = field(default_factory=dict[str, tuple[Floats, Floats]])


def _look_away(batch: Batch) -> None:
    del batch


@dataclass(frozen=True)
class Differentiator:
    """Differentiates steps.

    A task's mean is over all its labels in the step, on every process and in every piece: cutting a step into pieces,
    or dealing it to processes, changes nothing.

    Attributes:
        seen: told of each batch that the model has just passed.
        reads_errors: whether each step's training errors are wanted.
    """

    model: MultiTaskModel
    tasks: Mapping[str, Task]
    balancer: Balancer
    world: World
    precision: Callable[[], AbstractContextManager[object]]
    seen: Callable[[Batch], object] = _look_away
    reads_errors: bool = False

    @cached_property
    def gradients(self) -> ParameterGradients:
        """What stands in the parameters."""
        return ParameterGradients(self.model, self.world)

    def whole(self, wrapped: nn.Module, batches: Sequence[Batch], asked: PendingRequests = NOTHING) -> StepGradient:
        """Take one backward pass a piece, through the wrapped model.

        A method that weighs the tasks by their losses needs the step in one piece; the weights of one that compares
        gradients are those that it found last.

        Args:
            wrapped: the model, or what averages its gradients over processes.
        """
        denominators, asked = self._denominators(batches, asked)
        batches = self._shown(batches)
        sums = {task: 0.0 for task in self.tasks}
        errors: dict[str, list[tuple[Tensor, Tensor]]] = {task: [] for task in self.tasks}
        weights: dict[str, float] = {}
        if self.balancer.shape == "gram":
            weights = _away_from_zero(
                self.balancer.held(task for task, denominator in denominators.items() if denominator > 0)
            )
        for number, batch in enumerate(batches, start=1):
            with self.precision(), self._sync_after(wrapped, number == len(batches)):
                outputs = wrapped(batch)
                self.seen(batch)
                means = {
                    task: step_loss(self.tasks[task], found, batch) / denominators[task]
                    for task, found in outputs.items()
                    if denominators[task] > 0 and task in batch.targets
                }
                for task, mean in means.items():
                    sums[task] += float(mean.detach())
                    if self.reads_errors:
                        errors[task].append(
                            self.tasks[task].training_errors(outputs[task].detach(), batch.targets[task])
                        )
                if self.balancer.shape == "losses":
                    weights = _away_from_zero(self._weigh(self._losses(sums, denominators), batches))
                total = outputs_zero(outputs)
                for task, mean in means.items():
                    # The wrapper averages over processes; the mean above is already over all of them.
                    total = total + self._weight(task, weights) * self.world.size * mean
                total.backward()
        if self.model.sharded:
            self.gradients.all_reduce_others(())
        self._unweigh_own(weights)
        self.gradients.add_tie()
        losses = self._losses(sums, denominators)
        return StepGradient(losses, None, weights, asked, self._errors(losses, errors))

    def by_task(
        self, batches: Sequence[Batch], asked: PendingRequests = NOTHING, *, statistic: bool = True
    ) -> StepGradient:
        """Take one forward and backward pass a task, over its own rows, and put the gradients together again.

        Under the sum that leaves the same gradient as `whole`.

        Args:
            statistic: whether the inner products are wanted: of the unweighted mean losses' gradients.
        """
        denominators, asked = self._denominators(batches, asked)
        batches = self._shown(batches)
        sums = {task: 0.0 for task in self.tasks}
        meter = self._meter(gradient_groups(self.model))
        errors: dict[str, list[tuple[Tensor, Tensor]]] = {task: [] for task in self.tasks}
        found: list[tuple[WordEmbeddings, Tensor]] = []
        with self.precision():  # around all tasks, so that weights are rounded once
            for task in (task for task in self.tasks if denominators[task] > 0):
                for batch in (batch for batch in batches if batch.passes(task)):
                    mean, words = self._mean(task, batch.only(task), denominators[task], errors[task])
                    differentiate = self.gradients.add_sharded if self.model.sharded else self.gradients.add
                    gradients = differentiate(self.balancer.weights[task] * mean, [one.values for one in words])
                    found += [(one, grad) for one, grad in zip(words, gradients, strict=True) if grad is not None]
                    sums[task] += float(mean.detach())
                meter.take(task)
        losses = self._losses(sums, denominators)
        shared = shared_parameters(self.model)
        weights: dict[str, float] = {}
        gram = self._unweighted(meter.grams[: self.model.layers]) if statistic else None
        if self.balancer.shape == "gradients" and len(meter.tasks) > 1:
            meter.put_back_aggregated(self.balancer.aggregate, shared)
        else:
            weights = self._weigh(losses, batches, meter, errors)
            meter.put_back(dict.fromkeys(losses, 1.0) | weights, shared)
        tables = self.model.word_embeddings()
        factors = {(one.task, one.trunk): weights.get(one.task, 1.0) for one, _ in found if tables[one.trunk] in shared}
        self.gradients.add_words([(one, gradient * factors.get((one.task, one.trunk), 1.0)) for one, gradient in found])
        self.gradients.all_reduce_others(meter.parameters)
        self.gradients.add_tie()
        return StepGradient(losses, gram, weights, asked, self._errors(losses, errors))

    def by_top(self, batches: Sequence[Batch], asked: PendingRequests = NOTHING) -> StepGradient:
        """Take one forward pass a task, its gradient in the highest shared layer only, and one backward pass of all.

        The graphs of the whole step are kept until the weights are known.
        """
        denominators, asked = self._denominators(batches, asked)
        batches = self._shown(batches)
        sums = {task: 0.0 for task in self.tasks}
        meter = self._meter([top_group(self.model)])
        errors: dict[str, list[tuple[Tensor, Tensor]]] = {task: [] for task in self.tasks}
        means: list[tuple[str, Tensor]] = []
        found: list[WordEmbeddings] = []
        for task in (task for task in self.tasks if denominators[task] > 0):
            for batch in (batch for batch in batches if task in batch.targets):
                mean, words = self._mean(task, batch.only(task), denominators[task], errors[task])
                self.gradients.add(self.balancer.weights[task] * mean, (), meter.parameters, keep=True)
                means.append((task, mean))
                found += words
                sums[task] += float(mean.detach())
            meter.take(task)
        losses = self._losses(sums, denominators)
        weights = _away_from_zero(self._weigh(losses, batches, meter, errors))
        if means:
            total = torch.stack([self._weight(task, weights) * mean for task, mean in means]).sum()
            gradients = self.gradients.add(total, [one.values for one in found])
            self.gradients.add_words(
                [(one, grad) for one, grad in zip(found, gradients, strict=True) if grad is not None]
            )
        self.gradients.all_reduce_others(())
        self._unweigh_own(weights)
        self.gradients.add_tie()
        return StepGradient(losses, None, weights, asked, self._errors(losses, errors))

    def _errors(
        self, tasks: Iterable[str], errors: Mapping[str, Sequence[tuple[Tensor, Tensor]]]
    ) -> dict[str, tuple[Floats, Floats]]:
        """Return the errors of tasks over all pieces and processes, where they are wanted."""
        return {task: self._added(task, errors[task]) for task in tasks} if self.reads_errors else {}

    def _meter(self, groups: Sequence[Group]) -> GradientMeter:
        return GradientMeter(
            groups,
            list(self.tasks),
            self.gradients.reduce if self.world.size > 1 else None,
            self.world.all_reduce_sum,
            rounded=self.balancer.options.rounds_gradients,
        )

    def losses(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Return the tasks' mean losses with the model as it is now."""
        denominators, _ = self._denominators(batches, NOTHING)
        batches = self._shown(batches)
        sums = {task: 0.0 for task in self.tasks}
        for batch in batches:
            with torch.no_grad(), self.precision():
                for task, found in self.model(batch).items():
                    if denominators[task] > 0 and task in batch.targets:
                        sums[task] += float(step_loss(self.tasks[task], found, batch) / denominators[task])
        return self._losses(sums, denominators)

    def _shown(self, batches: Sequence[Batch]) -> list[Batch]:
        """Return a step's batches with what their losses compare them with."""
        return ComparedRows(self.model, self.tasks, self.world, self.precision).shown(batches)

    def _mean(
        self, task: str, batch: Batch, denominator: float, errors: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, list[WordEmbeddings]]:
        """Return a task's mean loss over a batch of its own, and the word embeddings that it looked up.

        Args:
            errors: gets the task's errors, where the method reads them.
        """
        with self.precision():
            found = {trunk: values.detach().requires_grad_() for trunk, values in self.model.embed(batch).items()}
            outputs = self.model(batch, found)[task]
            self.seen(batch)
            learns = task in batch.targets  # else its layers run for other processes only
            mean = step_loss(self.tasks[task], outputs, batch) / denominator if learns else outputs.sum()
        if learns and (self.balancer.options.reads_errors or self.reads_errors):
            errors.append(self.tasks[task].training_errors(outputs.detach(), batch.targets[task]))
        ids = self.model.ids(batch)
        return mean, [WordEmbeddings(task, trunk, ids[trunk], values) for trunk, values in found.items()]

    def _weigh(
        self,
        losses: Mapping[str, float],
        batches: Sequence[Batch],
        meter: GradientMeter | None = None,
        errors: Mapping[str, Sequence[tuple[Tensor, Tensor]]] | None = None,
    ) -> dict[str, float]:
        """Return the weights that the method chooses, the same on all processes."""
        if self.balancer.shape not in ("losses", "gram") or not losses:
            return {}
        gram = meter.shared_gram() if meter is not None and self.balancer.shape == "gram" else None
        rows = self._rows(losses, batches) if self.balancer.options.reads_rows else None
        wrong = None
        if errors is not None and self.balancer.options.reads_errors:
            wrong = {task: self._added(task, errors[task]) for task in losses}
        told = self.world.broadcast(self.balancer.weigh(losses, gram, rows, wrong))
        assert isinstance(told, dict)
        self.balancer.hold(told)
        return told

    def _added(self, task: str, errors: Sequence[tuple[Tensor, Tensor]]) -> tuple[Floats, Floats]:
        """Return a task's errors by class and their counts, over all pieces and processes."""
        sums = np.zeros((2, self.tasks[task].answer_size))
        for pair in errors:
            sums += torch.stack(pair).double().cpu().numpy()
        added = np.array(self.world.all_reduce_sum(sums.flatten().tolist())).reshape(sums.shape)
        return added[0], added[1]

    def _rows(self, tasks: Iterable[str], batches: Sequence[Batch]) -> dict[str, float]:
        """Return how many rows of the step each task learns from."""
        learnt = {task: [batch for batch in batches if task in batch.targets] for task in tasks}
        own = [float(sum(batch.count(task) for batch in found)) for task, found in learnt.items()]
        return dict(zip(learnt, self.world.all_reduce_sum(own), strict=True))

    def _weight(self, task: str, weights: Mapping[str, float]) -> float:
        return self.balancer.weights[task] * weights.get(task, 1.0)

    def _unweighted(self, gram: NDArray[np.float64]) -> NDArray[np.float64]:
        own = np.array([self.balancer.weights[task] for task in self.tasks])
        return gram / np.outer(own, own)

    def _unweigh_own(self, weights: Mapping[str, float]) -> None:
        """Take the method's weights out of what one task alone trains."""
        for task, parameters in own_parameters(self.model) if weights else ():
            for parameter in parameters:
                if parameter.grad is not None and task in weights:
                    parameter.grad /= weights[task]

    def _losses(self, sums: Mapping[str, float], denominators: Mapping[str, float]) -> dict[str, float]:
        added = self.world.all_reduce_sum(list(sums.values()))
        return {task: loss for task, loss in zip(sums, added, strict=True) if denominators[task] > 0}

    def _denominators(
        self, batches: Sequence[Batch], asked: PendingRequests
    ) -> tuple[dict[str, float], PendingRequests]:
        """Return for each task what divides its summed loss, and what any process was asked."""
        own = [
            sum(
                task.weighed_denominator(batch.targets[name], batch.row_weights.get(name))
                for batch in batches
                if name in batch.targets
            )
            for name, task in self.tasks.items()
        ]
        *denominators, stop, save = self.world.all_reduce_sum([*own, float(asked.stop), float(asked.save)])
        return dict(zip(self.tasks, denominators, strict=True)), PendingRequests(stop > 0, save > 0)

    @contextmanager
    def _sync_after(self, wrapped: nn.Module, last: bool) -> Generator[None]:
        """Exchange gradients in the last piece only; sharded ones in each, since nobody has room for them all."""
        if last or self.world.size == 1 or self.model.sharded:
            yield
        else:
            with wrapped.no_sync():  # type: ignore[operator]
                yield


def outputs_zero(outputs: Mapping[str, Tensor]) -> Tensor:
    """Return a zero that depends on all outputs, so that a step without a single label has a gradient too."""
    return torch.stack([found.sum() * 0.0 for found in outputs.values()]).sum()


def _away_from_zero(weights: Mapping[str, float]) -> dict[str, float]:
    """Keep weights from 0: they are divided out again of what one task alone trains."""
    return {task: math.copysign(max(abs(weight), 1e-6), weight) for task, weight in weights.items()}
